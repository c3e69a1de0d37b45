"""Start without code: ``otelflow run`` and ``opentelemetry-instrument`` on programs that do not import otelflow."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import textwrap
from pathlib import Path

import programs
import pytest
import shopping
from no_code_programs import TARGETS, run_otelflow
from receiver import Sink, attributes_of


def tree(sink: Sink, number: int) -> dict[str, str | None]:
    """Return the parent's name for each span name; equal spans are merged."""
    spans = [span for span, _, _ in sink.wait_for(number)]
    assert len(spans) == number
    by_id = {span.span_id: span.name for span in spans}
    return {span.name: by_id.get(span.parent_span_id) for span in spans}


WHOLE = {"main": None, "work": "main", "helper": "work", "both": "main", "reserve": "both"}


@pytest.mark.parametrize("how", [["nightly.py"], ["-m", "nightly"]])
def test_a_program_is_instrumented_with_its_own_functions(folder: Path, sink: Sink, how: list[str]) -> None:
    """They run before the module has run to its end. The program keeps its arguments and exit status."""
    result = run_otelflow(folder, "run", *how, "-x", "--", "y", sink=sink)
    assert (result.returncode, result.stderr) == (7, "")
    assert result.stdout == f"__main__ ['-x', '--', 'y'] {folder}\n"
    assert tree(sink, 8) == WHOLE
    (resource,) = {attributes_of(resource)["service.name"] for _, resource, _ in sink.spans}
    assert resource == "nightly"


def test_a_script_in_another_folder(folder: Path, sink: Sink, tmp_path: Path) -> None:
    """Its folder is on the path. The configuration is the one that --config names."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    result = run_otelflow(
        elsewhere, "run", "--config", "../otelflow.toml", "--service-name=night", "../nightly.py", sink=sink
    )
    assert result.stdout == f"__main__ [] {folder}\n"
    assert tree(sink, 8) == WHOLE
    assert {attributes_of(resource)["service.name"] for _, resource, _ in sink.spans} == {"night"}


def test_a_failing_program_keeps_its_traceback(folder: Path, sink: Sink) -> None:
    """The traceback begins in the program's file, and the exit status is Python's."""
    result = run_otelflow(folder, "run", "nightly.py", "fail", sink=sink)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", f'  File "{folder}/nightly.py", line 20, in <module>']
    assert lines[-1] == "ValueError: as asked for"
    ((span, _, _),) = sink.wait_for(1)
    assert attributes_of(span)["otelflow.status"] == "failed"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no.py"], "'no.py' cannot be read: No such file or directory. Name a Python file, or use -m MODULE."),
        (["-m", "no.such"], "There is no module 'no.such' to run."),
        (["-m", "shop"], "There is no module 'shop.__main__' to run."),
        (["--", "no-such-command"], "There is no command 'no-such-command'."),
        (["--config", "no.toml", "nightly.py"], "--config 'no.toml' is not a file."),
    ],
)
def test_a_program_that_cannot_be_run(folder: Path, words: list[str], text: str) -> None:
    """One line says what is wrong and what to do."""
    result = run_otelflow(folder, "run", *words)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"otelflow: {text}")
    assert len(result.stderr.splitlines()) == 1


def test_a_syntax_error_shows_pythons_message(folder: Path) -> None:
    """otelflow adds nothing to it."""
    (folder / "wrong.py").write_text("def f(:\n")
    result = run_otelflow(folder, "run", "wrong.py")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("SyntaxError")
    assert "otelflow" not in result.stderr


PROGRAM = """
import multiprocessing, os, sys
from shop.use import both

if __name__ == "__main__":
    both()
    context = multiprocessing.get_context(sys.argv[1])
    child = context.Process(target=both)
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


@pytest.mark.parametrize(
    "method", ["spawn", "fork"] if "fork" in multiprocessing.get_all_start_methods() else ["spawn"]
)
def test_a_command_and_its_children_are_instrumented(folder: Path, sink: Sink, method: str) -> None:
    """Also with each start method of multiprocessing; the exit status is the command's."""
    (folder / "program.py").write_text(PROGRAM)
    result = run_otelflow(folder, "run", "--", sys.executable, "program.py", method, sink=sink, PYTHONPATH=str(folder))
    assert result.returncode == 0, result.stderr
    assert tree(sink, 8) == {"both": None, "reserve": "both"}


def test_a_command_keeps_its_own_sitecustomize(folder: Path, sink: Sink) -> None:
    """Python imports the first ``sitecustomize`` on its path. Otelflow's runs the next one."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("import sys; sys.own_site = 5\n")
    result = run_otelflow(
        folder, "run", "--", sys.executable, "-c", "import sys; print(sys.own_site)", PYTHONPATH=str(folder / "site")
    )
    assert result.stdout == "5\n"


def test_a_command_with_a_python_without_otelflow(folder: Path) -> None:
    """It starts as usual."""
    result = run_otelflow(folder, "run", "--", sys.executable, "-S", "-c", "import site; site.main(); print(5)")
    assert (result.stdout, result.returncode) == ("5\n", 0)


def opentelemetry_instrument(
    folder: Path, *words: str, sink: Sink, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``opentelemetry-instrument`` as its documentation describes."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), *words],
        cwd=folder,
        env=programs.clean_environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            **environment,
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_opentelemetry_instrument_reads_the_file(folder: Path, sink: Sink) -> None:
    """Together with other instrumentations. A warning says that functions of ``__main__`` need ``otelflow run``."""
    result = opentelemetry_instrument(folder, sys.executable, "nightly.py", sink=sink)
    assert result.returncode == 7
    assert tree(sink, 4) == {"both": None, "reserve": "both"}
    assert (
        "only `otelflow run FILE.py` and `otelflow run -m MODULE` can instrument functions of __main__" in result.stderr
    )
    (sku, *_) = [attributes_of(span)["sku"] for span, _, _ in sink.spans if span.name == "reserve"]
    assert sku == "a"


def test_the_instrumentor_instruments_and_uninstruments(folder: Path) -> None:
    """It has the methods of every OpenTelemetry instrumentor."""
    result = programs.run(
        """
        import sys; sys.path.insert(0, "")
        from otelflow.instrumentation import OtelflowInstrumentor
        import shop.stock
        OtelflowInstrumentor().instrument()
        first = type(shop.stock.reserve).__name__
        OtelflowInstrumentor().uninstrument()
        say(first=first, then=type(shop.stock.reserve).__name__)
        """,
        cwd=folder,
    )
    assert result.facts == {"first": "Wrapper", "then": "function"}


BAD = {
    "invalid TOML": ("[[flow]\n", "otelflow.toml:1: is not valid TOML"),
    "a typo": (
        TARGETS + '[[task]]\ntarget = "shop.stock:reserv"\n',
        "shop.stock has no 'reserv'. Did you mean 'reserve'?",
    ),
    "a key": (TARGETS + '[[task]]\ntrget = "shop.stock:f"\n', "[[task]] has no key 'trget'. Did you mean 'target'?"),
    "a module that raises": (TARGETS + '[[task]]\ntarget = "shop.broken:f"\n', None),
    "too many": (
        TARGETS + '[[task]]\ntarget = "shop.many:*"\n',
        "matches 10000 functions; its limit is 5000",
    ),
    "a path": (TARGETS + '[[task]]\ntarget = "shop.stock:fetch"\nattributes = {a = "skus"}', "no parameter 'skus'"),
    "a missing file": (None, "otelflow.toml: cannot be read"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("starter", ["otelflow run", "opentelemetry-instrument"])
def test_the_service_runs_despite_errors_in_the_file(folder: Path, sink: Sink, what: str, starter: str) -> None:
    """The program runs as usual, correct targets are instrumented, and one line reports the errors."""
    text, warning = BAD[what]
    path = folder / "otelflow.toml"
    path.unlink() if text is None else path.write_text(text)
    shopping.write(
        folder,
        broken="raise RuntimeError('as ever')\n",
        many="\n".join(f"def f{number}(): pass" for number in range(10_000)),
    )
    (folder / "app.py").write_text(
        textwrap.dedent(
            """
            import shop.many
            from shop import use
            try:
                import shop.broken
            except RuntimeError as error:
                print(error)
            print(use.both())
            """
        )
    )
    variables = {"OTELFLOW_CONFIG": str(path), "PYTHONPATH": str(folder)}
    if starter == "otelflow run":
        result = run_otelflow(folder, "run", "--", sys.executable, "app.py", sink=sink, **variables)
    else:
        result = opentelemetry_instrument(folder, sys.executable, "app.py", sink=sink, **variables)
    assert (result.returncode, result.stdout) == (0, "as ever\n(['a', 1], ['b', 2], ['c', 1])\n")
    lines = [line for line in result.stderr.splitlines() if "otelflow" in line and "version" not in line]
    assert [warning in line for line in lines] == ([] if warning is None else [True])
    is_readable = what not in ("invalid TOML", "a missing file")
    assert len(sink.wait_for(4 if is_readable else 0)) == (4 if is_readable else 0)
