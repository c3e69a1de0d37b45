# Two commands do all the set-up on a fresh machine: `make demo` and `make test`. The rest is for who works on otelflow.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROJECTS := pyproject.toml exporters/pyproject.toml

.PHONY: demo test lint bench bench-quick clean

demo: $(VENV)/.installed
	@$(BIN)/otelflow demo $(if $(FOLDER),"$(FOLDER)")

test: $(VENV)/.with-test
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.with-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py

bench-quick: $(VENV)/.with-bench
	$(BIN)/python benchmarks/bench.py --quick

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: $(PROJECTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing otelflow into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cli]' -e 'exporters[cli]'
	@touch $@

$(VENV)/.with-%: $(VENV)/.installed
	@echo "installing what $* needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	@touch $@
