# Two commands do all the set-up on a fresh machine: `make demo` and `make test`. The rest is for who works on otelflow.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROJECTS := pyproject.toml exporters/pyproject.toml

.PHONY: demo test e2e lint lifecycle soak mutants bench bench-quick bench-instructions clean

demo: $(VENV)/.installed
	@$(BIN)/otelflow demo $(if $(FOLDER),"$(FOLDER)")

test: $(VENV)/.with-test
	$(BIN)/python -m pytest -n auto $(ARGS)

# With the real servers; they are built where they are missing, which takes minutes and needs Go.
e2e: $(VENV)/.with-test
	for server in collector jaeger prometheus; do .ci/$$server >/dev/null || exit 1; done
	$(BIN)/python -m pytest -n auto tests/integration/test_e2e.py tests/integration/test_e2e_metrics.py tests/integration/test_dashboards.py $(ARGS)

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# The fuzz with many examples, then everything at once for ten minutes: SECONDS=60 make soak for a look.
soak: SECONDS ?= 600
soak: $(VENV)/.with-test
	FUZZ_EXAMPLES=$(SECONDS) $(BIN)/python -m pytest -n 2 tests/values/test_fuzz.py
	$(BIN)/python tests/long/soak.py $(SECONDS)

# What survives: each case with the bare SDK and with ours, outages as long as real ones.
lifecycle: $(VENV)/.with-test
	cd tests/long && ../../$(BIN)/python -m lifecycle $(ARGS)

# ONLY="recording,wire" measures some groups of rows; the others stay as they were.
# Random small changes of the code, each against the tests that reach it: N=20 SEED=3 ONLY=_propagation make mutants.
mutants: N ?= 100
mutants: SEED ?= 11
mutants: $(VENV)/.with-test $(VENV)/.with-mutants
	cd tests && ../$(BIN)/python -m mutants --number $(N) --seed $(SEED) $(if $(ONLY),--only "$(ONLY)")

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only "$(ONLY)")

bench-quick: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py --quick $(if $(ONLY),--only "$(ONLY)")

# Counted by callgrind (valgrind): figures that do not move with the machine's load.
bench-instructions: $(VENV)/.with-bench
	$(BIN)/python benchmarks/instructions.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: $(PROJECTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing otelflow into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli]' -e 'exporters[cli,spool]'
	@touch $@

$(VENV)/.with-%: $(VENV)/.installed
	@echo "installing what $* needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@
