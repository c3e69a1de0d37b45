"""The start without code: programs that know nothing of otelflow, by ``otelflow run`` or opentelemetry-instrument."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import textwrap
from pathlib import Path

import programs
import pytest
import shopping
from no_code_programs import TARGETS, otelflow
from receiver import Sink, attributes_of


def tree(sink: Sink, number: int) -> dict[str, str | None]:
    """Each span's name with that of its parent; equal ones are one."""
    spans = [span for span, _, _ in sink.wait_for(number)]
    assert len(spans) == number
    by_id = {span.span_id: span.name for span in spans}
    return {span.name: by_id.get(span.parent_span_id) for span in spans}


WHOLE = {"main": None, "work": "main", "helper": "work", "both": "main", "reserve": "both"}


@pytest.mark.parametrize("how", [["nightly.py"], ["-m", "nightly"]])
def test_a_program_is_instrumented_to_its_last_function(folder: Path, sink: Sink, how: list[str]) -> None:
    """Its own functions as well, which run before an import would be over; arguments and exit status are its own."""
    done = otelflow(folder, "run", *how, "-x", "--", "y", sink=sink)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"__main__ ['-x', '--', 'y'] {folder}\n"
    assert tree(sink, 8) == WHOLE
    (resource,) = {attributes_of(resource)["service.name"] for _, resource, _ in sink.spans}
    assert resource == "nightly"


def test_a_script_elsewhere(folder: Path, sink: Sink, tmp_path: Path) -> None:
    """Its folder is on the path, the configuration is that of the current folder, or the one that is named."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = otelflow(
        elsewhere, "run", "--config", "../otelflow.toml", "--service-name=night", "../nightly.py", sink=sink
    )
    assert done.stdout == f"__main__ [] {folder}\n"
    assert tree(sink, 8) == WHOLE
    assert {attributes_of(resource)["service.name"] for _, resource, _ in sink.spans} == {"night"}


def test_a_program_that_fails(folder: Path, sink: Sink) -> None:
    """Its traceback begins in its own file, and the exit status is Python's."""
    done = otelflow(folder, "run", "nightly.py", "fail", sink=sink)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", f'  File "{folder}/nightly.py", line 20, in <module>']
    assert lines[-1] == "ValueError: as asked for"
    ((span, _, _),) = sink.wait_for(1)
    assert attributes_of(span)["otelflow.status"] == "failed"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no.py"], "'no.py' cannot be run: No such file or directory. Name a Python file, or use -m MODULE."),
        (["-m", "no.such"], "There is no module 'no.such' to run."),
        (["-m", "shop"], "There is no module 'shop.__main__' to run."),
        (["--", "no-such-command"], "There is no command 'no-such-command'."),
        (["--config", "no.toml", "nightly.py"], "--config 'no.toml' is no file."),
    ],
)
def test_what_cannot_be_run(folder: Path, words: list[str], text: str) -> None:
    """Said in a line, with the way out."""
    done = otelflow(folder, "run", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"otelflow: {text}")
    assert len(done.stderr.splitlines()) == 1


def test_a_program_with_a_syntax_error(folder: Path) -> None:
    """Python's own message."""
    (folder / "wrong.py").write_text("def f(:\n")
    done = otelflow(folder, "run", "wrong.py")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("SyntaxError")
    assert "otelflow" not in done.stderr


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
def test_a_command_and_its_children(folder: Path, sink: Sink, method: str) -> None:
    """Every Python process that the command starts is covered; signals, output and exit status are the command's."""
    (folder / "program.py").write_text(PROGRAM)
    done = otelflow(folder, "run", "--", sys.executable, "program.py", method, sink=sink, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stderr
    assert tree(sink, 8) == {"both": None, "reserve": "both"}


def test_a_command_keeps_its_own_sitecustomize(folder: Path, sink: Sink) -> None:
    """Python takes the first on its path: ours runs the next one."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text("import sys; sys.own_site = 5\n")
    done = otelflow(
        folder, "run", "--", sys.executable, "-c", "import sys; print(sys.own_site)", PYTHONPATH=str(folder / "site")
    )
    assert done.stdout == "5\n"


def test_a_command_of_another_python(folder: Path) -> None:
    """One that has no otelflow starts as ever."""
    done = otelflow(folder, "run", "--", sys.executable, "-S", "-c", "import site; site.main(); print(5)")
    assert (done.stdout, done.returncode) == ("5\n", 0)


def auto(folder: Path, *words: str, sink: Sink, **environment: str) -> subprocess.CompletedProcess[str]:
    """``opentelemetry-instrument``, as its documentation says."""
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


def test_opentelemetry_instrument_picks_the_file_up(folder: Path, sink: Sink) -> None:
    """Beside other instrumentations; a target in the program's own file is said to need ``otelflow run``."""
    done = auto(folder, sys.executable, "nightly.py", sink=sink)
    assert done.returncode == 7
    assert tree(sink, 4) == {"both": None, "reserve": "both"}
    assert "functions of the program's own file are seen by `otelflow run FILE.py`" in done.stderr
    (sku, *_) = [attributes_of(span)["sku"] for span, _, _ in sink.spans if span.name == "reserve"]
    assert sku == "a"


def test_the_instrumentor_in_code(folder: Path) -> None:
    """instrument() and uninstrument(), as every instrumentor has them."""
    done = programs.run(
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
    assert done.said == {"first": "Wrapper", "then": "function"}


BAD = {
    "no TOML": ("[[flow]\n", "otelflow.toml:1: is no TOML"),
    "a typo": (
        TARGETS + '[[task]]\ntarget = "shop.stock:reserv"\n',
        "shop.stock has no 'reserv'. Did you mean 'reserve'?",
    ),
    "a key": (TARGETS + '[[task]]\ntrget = "shop.stock:f"\n', "[[task]] has no key 'trget'. Did you mean 'target'?"),
    "a module that raises": (TARGETS + '[[task]]\ntarget = "shop.broken:f"\n', None),
    "too many": (
        TARGETS + '[[task]]\ntarget = "shop.many:*"\n',
        "matches 10000 functions, more than its limit of 5000",
    ),
    "a path": (TARGETS + '[[task]]\ntarget = "shop.stock:fetch"\nattributes = {a = "skus"}', "no parameter 'skus'"),
    "a file that is not there": (None, "otelflow.toml: cannot be read"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("starter", ["otelflow run", "opentelemetry-instrument"])
def test_the_service_runs_on_whatever_is_wrong(folder: Path, sink: Sink, what: str, starter: str) -> None:
    """Value, output and exit status are the program's, what is right is instrumented, and one line says the rest."""
    text, said = BAD[what]
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
    more = {"OTELFLOW_CONFIG": str(path), "PYTHONPATH": str(folder)}
    if starter == "otelflow run":
        done = otelflow(folder, "run", "--", sys.executable, "app.py", sink=sink, **more)
    else:
        done = auto(folder, sys.executable, "app.py", sink=sink, **more)
    assert (done.returncode, done.stdout) == (0, "as ever\n(['a', 1], ['b', 2], ['c', 1])\n")
    lines = [line for line in done.stderr.splitlines() if "otelflow" in line and "version" not in line]
    assert [said in line for line in lines] == ([] if said is None else [True])
    whole = what not in ("no TOML", "a file that is not there")
    assert len(sink.wait_for(4 if whole else 0)) == (4 if whole else 0)
