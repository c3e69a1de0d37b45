"""The start without code: programs that know nothing of otelflow, by ``otelflow run`` or opentelemetry-instrument."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import programs
import pytest
import shopping
from receiver import Sink, attributes_of

TARGETS = """
[[flow]]
target = "shop.use:both"
[[task]]
target = "shop.stock:reserve"
attributes = { sku = "sku" }
"""

SCRIPT = """
import sys
from shop.use import both

def helper(number):
    return number

class Job:
    def work(self):
        return [helper(number) for number in range(2)]

def main(*arguments):
    if "fail" in arguments:
        raise ValueError("as asked for")
    Job().work()
    both()
    print(__name__, sys.argv[1:], sys.path[0], flush=True)

if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.exit(7)
"""

OF_SCRIPT = """
[[flow]]
target = "nightly:main"
[[task]]
target = "__main__:Job.*"
[[task]]
target = "nightly:helper"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a package, a script, and a configuration."""
    shopping.write(tmp_path)
    (tmp_path / "nightly.py").write_text(SCRIPT)
    (tmp_path / "otelflow.toml").write_text(TARGETS + OF_SCRIPT)
    return tmp_path


def otelflow(
    folder: Path, *words: str, sink: Sink | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder``."""
    endpoint = {} if sink is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint}
    return programs.command(*words, cwd=folder, **endpoint, **environment)


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


# --- otelflow check ---------------------------------------------------------------------------------------------------


def checked(folder: Path, text: str, *words: str, **environment: str) -> tuple[int, list[str]]:
    """Exit status and lines of ``otelflow check`` for a configuration."""
    (folder / "otelflow.toml").write_text(textwrap.dedent(text))
    done = otelflow(folder, "check", *words, **environment)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_check_of_what_is_right(folder: Path) -> None:
    """Each target with its line and what it matches; exit status 0."""
    text = TARGETS + '[[task]]\ntarget = "shop.*:f*"\n[[task]]\ntarget = "__main__:main"\n'
    assert checked(folder, text) == (
        0,
        [
            "✓    3  flow  shop.use:both",
            "✓    5  task  shop.stock:reserve",
            "✓    8  task  shop.*:f*  2 functions: shop.stock:fail, shop.stock:fetch",
            "✓   10  task  __main__:main  of the program's own file: seen by `otelflow run` only",
            "otelflow.toml: 4 targets, 4 functions",
        ],
    )


def test_check_of_what_is_wrong(folder: Path) -> None:
    """The reason under each target, the nearest right name in it; exit status 1."""
    shopping.write(folder, broken="raise RuntimeError('as ever')\n", leaves="raise SystemExit(3)\n")
    status, lines = checked(
        folder,
        """
        [[task]]
        target = "shop.stok:reserve"
        [[task]]
        target = "shoop.stock:reserve"
        [[task]]
        target = "shop.stock:Bas.place"
        [[task]]
        target = "shop.broken:f"
        [[task]]
        target = "shop.leaves:f"
        [[task]]
        target = "shop.use:nothing_*"
        [[task]]
        target = "shop.stock:reserve"
        attributes = { a = "ord.id" }
        [[task]]
        target = "shop.stock:fetch"
        attributes = { a = "skus.id" }
        [[task]]
        tagret = "x"
        """,
    )
    assert status == 1
    assert [line.strip() for line in lines if not line.startswith(("✓", "!"))] == [
        "✗ otelflow.toml:21: [[task]] has no key 'tagret'. Did you mean 'target'? "
        "It takes: attributes, exclude, limit, min_duration, name, target.",
        '✗ otelflow.toml:20: [[task]] has no target. Use target = "module:name".',
        "✗    3  task  shop.stok:reserve",
        "there is no module 'shop.stok'. Did you mean 'shop.stock'?",
        "✗    5  task  shoop.stock:reserve",
        "there is no module 'shoop'. Did you mean 'shop'?",
        "✗    7  task  shop.stock:Bas.place",
        "shop.stock has no 'Bas'. Did you mean 'Base'?",
        "✗    9  task  shop.broken:f",
        "importing shop.broken raised RuntimeError: as ever",
        "✗   11  task  shop.leaves:f",
        "importing shop.leaves raised SystemExit: 3",
        "✗   13  task  shop.use:nothing_*",
        "nothing matches",
        "✗   18  task  shop.stock:fetch",
        "there is no parameter 'skus'. Did you mean 'sku'? It takes: sku",
        "otelflow.toml: 8 targets, 2 functions",
    ]


def test_check_of_what_would_be_twice(folder: Path) -> None:
    """Decorated already, instrumented by a contrib package, named by two targets, held by an object: warnings, which
    are errors with --strict."""
    shopping.write(
        folder,
        own="from otelflow import task\n@task\ndef decorated(): pass\n",
        api="""
        class Route:
            def __init__(self, endpoint): self.endpoint = endpoint
        def handler(): pass
        routes = [Route(handler)]
        """,
    )
    text = """
    [[task]]
    target = "shop.own:decorated"
    [[task]]
    target = "httpx:HTTPTransport.handle_request"
    [[task]]
    target = "shop.stock:fail"
    [[task]]
    target = "shop.*:f*"
    [[flow]]
    target = "shop.api:handler"
    """
    status, lines = checked(folder, text)
    assert status == 0
    assert [line.strip() for line in lines if not line.startswith("✓")] == [
        "!    3  task  shop.own:decorated",
        "shop.own:decorated is decorated with otelflow already, and stays as it is",
        "!    5  task  httpx:HTTPTransport.handle_request",
        "httpx:HTTPTransport.handle_request is instrumented by opentelemetry.instrumentation.httpx as well: "
        "there will be two spans a call",
        "!    9  task  shop.*:f*  2 functions: shop.stock:fail, shop.stock:fetch",
        "shop.stock:fail is what otelflow.toml:7 names as well: that one counts",
        "!   11  flow  shop.api:handler",
        "shop.api:handler is held by shop.api.Route too: calls from there are not seen. Name what it calls",
        "otelflow.toml: 5 targets, 5 functions",
    ]
    assert checked(folder, text, "--strict")[0] == 1


def test_check_with_a_profile(folder: Path) -> None:
    """A command is run, its calls are counted in all its processes, and what is called in a tight loop is hot."""
    (folder / "busy.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from shop import stock, use
            if __name__ == "__main__":
                for number in range(6000):
                    stock.reserve("a")
                child = multiprocessing.get_context("spawn").Process(target=use.both)
                child.start(); child.join()
                use.both()
                sys.exit(3)
            """
        )
    )
    text = TARGETS + '[[task]]\ntarget = "shop.stock:fail"\n'
    status, lines = checked(folder, text, "--profile", "--", sys.executable, "busy.py", PYTHONPATH=str(folder))
    assert status == 0
    profile = lines[lines.index(next(line for line in lines if line.startswith("profile of"))) :]
    assert profile[0].endswith("busy.py' (exit status 3):")
    assert profile[1].startswith("!     6,006 calls  shop.stock.reserve  up to ")
    assert profile[2].strip() == (
        "hot: a span for each call is dear. Take it out of otelflow.toml:5, or give a task min_duration"
    )
    assert profile[3].startswith("✓         2 calls  shop.use.both  up to 1 in one second")
    assert (
        checked(folder, text, "--strict", "--profile", "--", sys.executable, "busy.py", PYTHONPATH=str(folder))[0] == 1
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--profile"], "--profile and a command belong together"),
        (["--", "true"], "--profile and a command belong together"),
        (["--config", "no.toml"], "no.toml: cannot be read"),
        (["--profile", "--", "no-such-command"], "There is no command 'no-such-command'"),
    ],
)
def test_check_called_wrongly(folder: Path, words: list[str], text: str) -> None:
    """Exit status 1, and what to do."""
    done = otelflow(folder, "check", *words)
    assert done.returncode == 1
    assert text in done.stdout + done.stderr


def test_check_where_there_is_nothing(tmp_path: Path) -> None:
    """No configuration is no success."""
    done = otelflow(tmp_path, "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("otelflow: There is no configuration here")


def test_check_prints_the_schema(tmp_path: Path) -> None:
    """For editors that take a file."""
    import json

    done: Any = otelflow(tmp_path, "check", "--schema")
    assert json.loads(done.stdout)["title"] == "otelflow.toml"
    assert os.listdir(tmp_path) == []
