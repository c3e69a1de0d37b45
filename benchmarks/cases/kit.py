"""Measure the milliseconds that ``capflow`` adds to a test: a thousand tests with it, and without. Prints JSON."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = """
import pytest
from otelflow import flow, task

@task
def step(x):
    return x

@flow
def work():
    return [step(x) for x in range(3)]

@pytest.mark.parametrize("number", range({number}))
def test_it({fixture}number):
    assert work().execute().return_value == [0, 1, 2]
"""


def seconds(number: int, fixture: str, folder: Path) -> float:
    """Return the CPU seconds of a session with ``number`` tests."""
    (folder / "test_it.py").write_text(TESTS.format(number=number, fixture=fixture))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "OTEL"))}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    rounds, number = (1, 200) if "--quick" in sys.argv else (5, 1000)
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(seconds(number, "capflow, ", Path(folder)), seconds(number, "", Path(folder))) for _ in range(rounds)]
    added = statistics.median(with_fixture - without for with_fixture, without in pairs)
    print(json.dumps({"a test with `capflow`, over one without": round(added / number * 1000, 2)}))


if __name__ == "__main__":
    main()
