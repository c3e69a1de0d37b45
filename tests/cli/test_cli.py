"""The command: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from otelflow_exporters._trace.file_index import Index, Source
from otelflow_exporters._trace.from_json import from_json
from programs import command

import otelflow

FLOWS = """
from __future__ import annotations
from pathlib import Path
from otelflow import flow, task

@task
def count(folder):
    return len(list(folder.iterdir()))

@flow
def nightly(folder: Path, days: int = 30, *, dry: bool = False, rate: float | None = None, names: list[str] = [],
            this_flow=None, anything=None):
    count(folder)
    this_flow.progress(1, 4)
    print((folder, days, dry, rate, names, anything))

@flow
def fails():
    raise RuntimeError("no rows")

def plain(a, b=2):
    print("plain", a, b)

async def later(a: int):
    print("later", a + 1)

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(FLOWS)
    return tmp_path


def spans_of(file: Path) -> list[str]:
    """The names of the spans in a file of JSON lines."""
    index = Index([Source(str(file))])
    index.read()
    names = sorted(span.name for trace in index.traces.values() for span in index.spans_of(trace))
    index.sources[0].close()
    return names


def test_the_demonstration_prints_a_tree_and_writes_a_page(tmp_path: Path) -> None:
    """Names, durations, bars, and the failures that were tolerated; without an endpoint nothing is sent."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "good.py").write_text("import os\ndef f(): pass\n")
    (source / "bad.py").write_text("def f(:\n")
    done = command("demo", str(source), "--html", str(tmp_path / "run.html"), TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "no coverage report: that step fails, as it may, and the flow goes on"
    assert [line.split()[1] if line[0] in "├└" else line.split()[0] for line in lines[1:7]] == [
        "analyse",
        "scan",
        "parse",
        "parse",
        "read_coverage",
        "summarise",
    ]
    assert "✗ SyntaxError" in done.stdout
    assert "✗ FileNotFoundError" in done.stdout
    assert "1 functions in 1 file, 1 not parsed" in lines[-2]
    assert lines[-1] == f"page: {tmp_path / 'run.html'}"
    assert "read_coverage" in (tmp_path / "run.html").read_text()


def test_the_demonstration_of_the_package_itself(tmp_path: Path) -> None:
    """Without a folder it analyses otelflow; many files are one line, and the page is in a folder of its own."""
    done = command("demo", TMPDIR=str(tmp_path))
    assert done.returncode == 0
    assert "parse ×" in done.stdout
    assert "median" in done.stdout
    (page,) = tmp_path.glob("otelflow-demo-*/run.html")
    assert done.stdout.splitlines()[-1] == f"page: {page}"
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            ["demo", "/does/not/exist"],
            1,
            "otelflow: '/does/not/exist' is no folder. Name one that has Python files: otelflow demo FOLDER.",
        ),
        (["dem"], 2, "otelflow: No such command 'dem'."),
        ([], 2, "otelflow: Missing command. See: otelflow --help"),
        (["demo", "a", "b"], 2, "otelflow demo: Got unexpected extra argument (b) See: otelflow demo --help"),
        (["run"], 2, "otelflow run: Nothing to run. Use: otelflow run FILE.py"),
        (["run", "--fil", "x", "y.py"], 2, "otelflow run: No such option"),
        (["check", "word"], 2, "otelflow check: Got 'word', and takes no words but those of a command after --."),
        (["show"], 2, "otelflow show: Missing argument 'FILE...'. See: otelflow show --help"),
        (["show", "no.jsonl"], 1, "otelflow: 'no.jsonl' cannot be read: No such file or directory."),
        (
            ["show", "no.jsonl", "--since", "soon"],
            2,
            "otelflow show: Invalid value for '--since': 'soon' is not a time.",
        ),
        (["completion", "cmd"], 2, "otelflow completion: Invalid value for '{bash|zsh|fish}'"),
    ],
)
def test_wrong_calls(arguments: list[str], status: int, line: str) -> None:
    """An exit status, and one line on the standard error; no traceback."""
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_version_and_help() -> None:
    """--version; --help with examples and exit statuses, of each command."""
    assert command("--version").stdout == f"otelflow {otelflow.__version__}\n"
    listed = command("-h").stdout
    for name in ("check", "completion", "demo", "doctor", "run", "show"):
        assert f"\n  {name} " in listed
        said = command(name, "--help").stdout
        assert "Example" in said
        assert name == "completion" or "Exit status" in said or "Exit code" in said


def test_completion(folder: Path) -> None:
    """Words after TAB: commands, options, files; the script for a shell loads."""
    script = command("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0

    def words(line: str) -> str:
        asked = {"_OTELFLOW_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return command(cwd=folder, **asked).stdout

    assert "plain,show" in words("otelflow sh")
    assert "plain,--service-name" in words("otelflow run --se")
    assert "file" in words("otelflow run jo")


def test_without_its_libraries(tmp_path: Path) -> None:
    """One line says what to install."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')")
    done = command("demo", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "otelflow: the command needs click. Install it: pip install 'otelflow[cli]'\n"


def test_a_command_of_another_distribution(tmp_path: Path) -> None:
    """Found by entry point. One that cannot be loaded says so, and the others work."""
    made = tmp_path / "more-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text("[otelflow_commands]\nhello = hello:hello\nbroken = no_such_module:x\n")
    (tmp_path / "hello.py").write_text("import click\n@click.command()\ndef hello():\n    print('hello')\n")
    more = {"PYTHONPATH": str(tmp_path)}
    assert command("hello", **more).stdout == "hello\n"
    assert "broken" in command("--help", **more).stdout
    done = command("broken", **more)
    assert done.returncode == 1
    assert "'broken' of no_such_module:x cannot be loaded" in done.stderr
    assert done.stderr.count("\n") == 1


def test_who_stops_reading_is_not_an_error(folder: Path) -> None:
    """``otelflow show … | head -1``."""
    span = {"span_id": "a" * 16, "name": "x" * 50, "start": "2026-11-23T10:00:00Z", "duration": 1}
    many = "".join(json.dumps({**span, "trace_id": f"{number:032x}"}) + "\n" for number in range(1, 5000))
    (folder / "many.jsonl").write_text(many)
    words = [sys.executable, "-m", "otelflow.cli", "show", "many.jsonl"]
    process = subprocess.Popen(
        words, cwd=folder, env=programs.clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (1, b"")


def test_an_endpoint_that_is_dead_is_said(tmp_path: Path) -> None:
    """The tree is printed all the same, and the exit status tells."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    done = command("demo", TMPDIR=str(tmp_path), **endpoint)
    assert done.returncode == 1
    assert "analyse" in done.stdout
    assert "not everything was delivered to http://127.0.0.1:9" in done.stdout


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["."], "(PosixPath('.'), 30, False, None, [], None)"),
        ([".", "7", "--dry", "--rate", "0.5"], "(PosixPath('.'), 7, True, 0.5, [], None)"),
        (["--folder=.", "--no-dry", "--names", "['a']"], "(PosixPath('.'), 30, False, None, ['a'], None)"),
        ([".", "--rate=none", "--anything", "{'a': 1}"], "(PosixPath('.'), 30, False, None, [], {'a': 1})"),
        ([".", "--anything", "a b"], "(PosixPath('.'), 30, False, None, [], 'a b')"),
    ],
)
def test_a_flow_with_arguments(folder: Path, words: list[str], printed: str) -> None:
    """``otelflow run MODULE:FLOW``: text becomes what the annotations say."""
    done = command("run", "--tree", "jobs:nightly", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (0, printed + "\n")
    assert done.stderr.startswith("nightly")
    assert "└─ count" in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["jobs:nightly", ".", "--day", "3"], "otelflow: jobs:nightly takes no --day. It takes: folder: "),
        (["jobs:nightly", ".", "x"], "otelflow: days got 'x', which is no int."),
        (["jobs:nightly", ".", "--rate", "x"], "otelflow: --rate got 'x', which is no float."),
        (["jobs:nightly", ".", "--rate"], "otelflow: --rate of jobs:nightly needs a value."),
        (["jobs:nightly", ".", "1", "--days", "2"], "otelflow: jobs:nightly: multiple values for argument 'days'."),
        (["jobs:fails", "x"], "otelflow: jobs:fails has no place for 'x'. It takes: nothing."),
        (["jobs:nothing"], "otelflow: 'jobs' has no 'nothing'."),
        (["jobs:number"], "otelflow: jobs:number is int, and cannot be run. Name a flow or a function."),
        (["no_jobs:nightly"], "otelflow: There is no module 'no_jobs'. Name one that can be imported from here."),
    ],
)
def test_a_flow_called_wrongly(folder: Path, words: list[str], line: str) -> None:
    """One line, and 2."""
    done = command("run", "--tree", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_functions_that_are_no_flows_run_as_flows(folder: Path) -> None:
    """Also coroutine functions; a missing argument is Python's own error, a failure the program's own traceback."""
    done = command("run", "--tree", "jobs:plain", "1", "--b", "x", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "plain 1 x\n")
    assert done.stderr.startswith("plain ")
    assert command("run", "--tree", "jobs:later", "1", cwd=folder).stdout == "later 2\n"
    failed = command("run", "--tree", "jobs:fails", cwd=folder)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback (most recent call last):")
    assert "otelflow/cli" not in failed.stderr
    assert "✗ RuntimeError: no rows" in failed.stderr


def test_file_and_page_on_request(folder: Path) -> None:
    """The file is appended to, the page has this run only; where nothing says where to send, nothing is sent."""
    for number in range(2):
        done = command("run", "--file", "run.jsonl", "--html", "run.html", "jobs:nightly", ".", cwd=folder)
        assert (done.returncode, done.stderr) == (0, "page: run.html\n")
        assert spans_of(folder / "run.jsonl") == ["count"] * (number + 1) + ["nightly"] * (number + 1)
    assert (folder / "run.html").read_text().count('"name": "nightly"') == 1
    only = command("run", "--html", "other.html", "jobs.py", cwd=folder, TMPDIR=str(folder))
    assert (only.returncode, only.stderr) == (0, "")  # the script runs no flow: there is nothing to write
    left = {path.name for path in folder.iterdir()} - {"__pycache__", "jobs.py"}
    assert left == {"run.jsonl", "run.jsonl.lock", "run.html"}


def test_a_page_that_cannot_be_written_is_said_before_the_run(folder: Path) -> None:
    """Not after hours."""
    done = command("run", "--html", "no/such/run.html", "jobs:plain", "1", cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("otelflow: 'no/such/run.html' cannot be written: there is no folder")
    done = command("run", "--html", "run.html", "--", "python", "-c", "", cwd=folder)
    assert done.returncode == 1
    assert "--html goes with a script, a module or a flow. For a command: --file" in done.stderr


def test_a_command_with_a_file(folder: Path) -> None:
    """``otelflow run --file … -- COMMAND``: the processes of the command write it."""
    code = "import jobs; jobs.nightly(__import__('pathlib').Path('.')).execute()"
    done = command("run", "--file", "run.jsonl", "--tree", "--", sys.executable, "-c", code, cwd=folder)
    assert done.returncode == 0
    assert done.stderr.startswith("nightly")
    assert spans_of(folder / "run.jsonl") == ["count", "nightly"]


def test_progress_is_on_the_span(folder: Path) -> None:
    """The last that was said; the environment of the program is as it was."""
    (folder / "asks.py").write_text("import os, jobs\nprint(sorted(name for name in os.environ if 'OTEL' in name))\n")
    command("run", "--file", "run.jsonl", "jobs:nightly", ".", cwd=folder)
    lines = (folder / "run.jsonl").read_text().splitlines()
    spans = [span for line in lines for span in from_json(json.loads(line))]
    (flow,) = (span for span in spans if span.name == "nightly")
    assert (flow.attributes["otelflow.progress.done"], flow.attributes["otelflow.progress.total"]) == (1, 4)
    asked = command("run", "--file", "run.jsonl", "asks.py", cwd=folder)
    assert "OTEL_TRACES_EXPORTER" not in asked.stdout
    assert "OTELFLOW_EXPORTER_JSONFILE_PATH" not in asked.stdout
    assert os.environ.get("OTELFLOW_EXPORTER_JSONFILE_PATH") is None
