"""The command ``otelflow``: its output and exit status."""

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
    """Return the names of the spans in a file of JSON lines."""
    index = Index([Source(str(file))])
    index.read()
    names = sorted(span.name for trace in index.traces.values() for span in index.spans_of(trace))
    index.sources[0].close()
    return names


def test_the_demo_prints_a_tree_and_writes_a_page(tmp_path: Path) -> None:
    """The tree has tolerated failures. Without an endpoint nothing is sent."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "good.py").write_text("import os\ndef f(): pass\n")
    (source / "bad.py").write_text("def f(:\n")
    result = command("demo", str(source), "--html", str(tmp_path / "run.html"), TMPDIR=str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "no coverage report: this task fails, which is tolerated, and the flow continues"
    assert [line.split()[1] if line[0] in "├└" else line.split()[0] for line in lines[1:7]] == [
        "analyse",
        "scan",
        "parse",
        "parse",
        "read_coverage",
        "summarise",
    ]
    assert "✗ SyntaxError" in result.stdout
    assert "✗ FileNotFoundError" in result.stdout
    assert "1 functions in 1 file, 1 not parsed" in lines[-2]
    assert lines[-1] == f"page: {tmp_path / 'run.html'}"
    assert "read_coverage" in (tmp_path / "run.html").read_text()


def test_the_demo_analyses_otelflow_by_default(tmp_path: Path) -> None:
    """Equal tasks are merged into one line. The page is in a private temporary folder."""
    result = command("demo", TMPDIR=str(tmp_path))
    assert result.returncode == 0
    assert "parse ×" in result.stdout
    assert "median" in result.stdout
    (page,) = tmp_path.glob("otelflow-demo-*/run.html")
    assert result.stdout.splitlines()[-1] == f"page: {page}"
    assert page.stat().st_mode & 0o777 == 0o600
    assert page.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (
            ["demo", "/does/not/exist"],
            1,
            "otelflow: '/does/not/exist' is not a folder. Use a folder with Python files: otelflow demo FOLDER.",
        ),
        (["dem"], 2, "otelflow: No such command 'dem'."),
        ([], 2, "otelflow: Missing command. See: otelflow --help"),
        (["demo", "a", "b"], 2, "otelflow demo: Got unexpected extra argument (b) See: otelflow demo --help"),
        (["run"], 2, "otelflow run: Nothing to run. Use: otelflow run FILE.py"),
        (["run", "--fil", "x", "y.py"], 2, "otelflow run: No such option"),
        (["check", "word"], 2, "otelflow check: Got unexpected word 'word'. Put a command after --."),
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
def test_wrong_usage(arguments: list[str], status: int, line: str) -> None:
    """The exit status is set, and stderr has one line without traceback."""
    result = command(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_version_and_help() -> None:
    """--help of each command has examples and exit statuses."""
    assert command("--version").stdout == f"otelflow {otelflow.__version__}\n"
    group_help = command("-h").stdout
    for name in ("check", "completion", "demo", "doctor", "run", "show"):
        assert f"\n  {name} " in group_help
        text = command(name, "--help").stdout
        assert "Example" in text
        assert name == "completion" or "Exit status" in text or "Exit code" in text


def test_completion_of_commands_options_and_files(folder: Path) -> None:
    """The script for a shell has correct syntax."""
    script = command("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0

    def complete(line: str) -> str:
        variables = {"_OTELFLOW_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return command(cwd=folder, **variables).stdout

    assert "plain,show" in complete("otelflow sh")
    assert "plain,--service-name" in complete("otelflow run --se")
    assert "file" in complete("otelflow run jo")


def test_the_command_without_its_libraries(tmp_path: Path) -> None:
    """One line says what to install."""
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')")
    result = command("demo", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == "otelflow: this command needs click. Install it: pip install 'otelflow[cli]'\n"


def test_a_command_of_another_distribution(tmp_path: Path) -> None:
    """It is found by entry point. A broken one gives an error; the other commands work."""
    metadata = tmp_path / "more-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[otelflow_commands]\nhello = hello:hello\nbroken = no_such_module:x\n")
    (tmp_path / "hello.py").write_text("import click\n@click.command()\ndef hello():\n    print('hello')\n")
    variables = {"PYTHONPATH": str(tmp_path)}
    assert command("hello", **variables).stdout == "hello\n"
    assert "broken" in command("--help", **variables).stdout
    result = command("broken", **variables)
    assert result.returncode == 1
    assert "'broken' of no_such_module:x cannot be loaded" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_closed_pipe_is_not_an_error(folder: Path) -> None:
    """As in ``otelflow show … | head -1``."""
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
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), errors) == (1, b"")


def test_the_demo_with_a_dead_endpoint_fails(tmp_path: Path) -> None:
    """It still prints the tree, and the exit status is 1."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    result = command("demo", TMPDIR=str(tmp_path), **endpoint)
    assert result.returncode == 1
    assert "analyse" in result.stdout
    assert "some spans were not delivered to http://127.0.0.1:9" in result.stdout


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
def test_words_become_arguments_of_a_flow(folder: Path, words: list[str], printed: str) -> None:
    """``otelflow run MODULE:FLOW`` converts them by the annotations."""
    result = command("run", "--tree", "jobs:nightly", *words, cwd=folder)
    assert (result.returncode, result.stdout) == (0, printed + "\n")
    assert result.stderr.startswith("nightly")
    assert "└─ count" in result.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["jobs:nightly", ".", "--day", "3"], "otelflow: jobs:nightly has no option --day. Its parameters: folder: "),
        (["jobs:nightly", ".", "x"], "otelflow: days must be of type int; got 'x'."),
        (["jobs:nightly", ".", "--rate", "x"], "otelflow: --rate must be of type float; got 'x'."),
        (["jobs:nightly", ".", "--rate"], "otelflow: --rate of jobs:nightly needs a value."),
        (["jobs:nightly", ".", "1", "--days", "2"], "otelflow: jobs:nightly: multiple values for argument 'days'."),
        (["jobs:fails", "x"], "otelflow: jobs:fails has no parameter for 'x'. Its parameters: none."),
        (["jobs:nothing"], "otelflow: 'jobs' has no 'nothing'."),
        (["jobs:number"], "otelflow: jobs:number is of type int and cannot be run. Use a flow or a function."),
        (["no_jobs:nightly"], "otelflow: There is no module 'no_jobs'. Use a module that can be imported from here."),
    ],
)
def test_wrong_arguments_of_a_flow(folder: Path, words: list[str], line: str) -> None:
    """One line, and exit status 2."""
    result = command("run", "--tree", *words, cwd=folder)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1


def test_plain_functions_run_as_flows(folder: Path) -> None:
    """Also coroutine functions. A failure shows the program's own traceback."""
    result = command("run", "--tree", "jobs:plain", "1", "--b", "x", cwd=folder)
    assert (result.returncode, result.stdout) == (0, "plain 1 x\n")
    assert result.stderr.startswith("plain ")
    assert command("run", "--tree", "jobs:later", "1", cwd=folder).stdout == "later 2\n"
    failed = command("run", "--tree", "jobs:fails", cwd=folder)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Traceback (most recent call last):")
    assert "otelflow/cli" not in failed.stderr
    assert "✗ RuntimeError: no rows" in failed.stderr


def test_file_and_page_are_written(folder: Path) -> None:
    """The file gets appended, the page has this run only. Without a destination nothing is sent."""
    for number in range(2):
        result = command("run", "--file", "run.jsonl", "--html", "run.html", "jobs:nightly", ".", cwd=folder)
        assert (result.returncode, result.stderr) == (0, "page: run.html\n")
        assert spans_of(folder / "run.jsonl") == ["count"] * (number + 1) + ["nightly"] * (number + 1)
    assert (folder / "run.html").read_text().count('"name": "nightly"') == 1
    only = command("run", "--html", "other.html", "jobs.py", cwd=folder, TMPDIR=str(folder))
    assert (only.returncode, only.stderr) == (0, "")  # the script runs no flow, so no page is written
    names = {path.name for path in folder.iterdir()} - {"__pycache__", "jobs.py"}
    assert names == {"run.jsonl", "run.jsonl.lock", "run.html"}


def test_a_wrong_page_path_is_reported_before_the_run(folder: Path) -> None:
    """A run may take hours."""
    result = command("run", "--html", "no/such/run.html", "jobs:plain", "1", cwd=folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("otelflow: Cannot write 'no/such/run.html': there is no folder")
    result = command("run", "--html", "run.html", "--", "python", "-c", "", cwd=folder)
    assert result.returncode == 1
    assert "--html needs a script, a module or a flow. For a command, use --file" in result.stderr


def test_the_processes_of_a_command_write_the_file(folder: Path) -> None:
    """As in ``otelflow run --file … -- COMMAND``."""
    code = "import jobs; jobs.nightly(__import__('pathlib').Path('.')).execute()"
    result = command("run", "--file", "run.jsonl", "--tree", "--", sys.executable, "-c", code, cwd=folder)
    assert result.returncode == 0
    assert result.stderr.startswith("nightly")
    assert spans_of(folder / "run.jsonl") == ["count", "nightly"]


def test_progress_is_on_the_span(folder: Path) -> None:
    """It is the last reported progress. The program's environment does not change."""
    (folder / "variables.py").write_text(
        "import os, jobs\nprint(sorted(name for name in os.environ if 'OTEL' in name))\n"
    )
    command("run", "--file", "run.jsonl", "jobs:nightly", ".", cwd=folder)
    lines = (folder / "run.jsonl").read_text().splitlines()
    spans = [span for line in lines for span in from_json(json.loads(line))]
    (flow,) = (span for span in spans if span.name == "nightly")
    assert (flow.attributes["otelflow.progress.done"], flow.attributes["otelflow.progress.total"]) == (1, 4)
    script = command("run", "--file", "run.jsonl", "variables.py", cwd=folder)
    assert "OTEL_TRACES_EXPORTER" not in script.stdout
    assert "OTELFLOW_EXPORTER_JSONFILE_PATH" not in script.stdout
    assert os.environ.get("OTELFLOW_EXPORTER_JSONFILE_PATH") is None
