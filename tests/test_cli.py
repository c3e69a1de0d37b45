"""The command: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import command

import otelflow


def test_the_demonstration_prints_a_tree(tmp_path: Path) -> None:
    """Names, durations, bars, and the failures that were tolerated; without an endpoint nothing is sent."""
    (tmp_path / "good.py").write_text("import os\ndef f(): pass\n")
    (tmp_path / "bad.py").write_text("def f(:\n")
    done = command("demo", str(tmp_path))
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
    assert "1 functions in 1 file, 1 not parsed" in lines[-1]


def test_the_demonstration_of_the_package_itself() -> None:
    """Without a folder it analyses otelflow; many files are one line."""
    done = command("demo")
    assert done.returncode == 0
    assert "parse ×" in done.stdout
    assert "median" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["demo", "/does/not/exist"], 1, "otelflow: '/does/not/exist' is no folder. Name one that has Python files"),
        (["dem"], 2, "invalid choice: 'dem'"),
        ([], 2, "required: COMMAND"),
    ],
)
def test_wrong_calls(arguments: list[str], status: int, text: str) -> None:
    """An exit status, and a sentence on the standard error; no traceback."""
    done = command(*arguments)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help() -> None:
    """--version, and --help with an example."""
    assert command("--version").stdout == f"otelflow {otelflow.__version__}\n"
    assert "example:" in command("demo", "--help").stdout


def test_an_endpoint_that_is_dead_is_said() -> None:
    """The tree is printed all the same, and the exit status tells."""
    done = command("demo", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert done.returncode == 1
    assert "analyse" in done.stdout
    assert "not everything was delivered to http://127.0.0.1:9" in done.stdout
