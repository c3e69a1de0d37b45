"""Run a hundred flows at once with a hundred tasks each, in every kind of concurrency."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from programs import clean_environment


@pytest.mark.parametrize("runner", ["asyncio", "threads", "processes", "dask"])
def test_ten_thousand_tasks_of_a_hundred_flows(runner: str) -> None:
    """Each task's span is there once, below its own flow. Each flow has only its own messages."""
    program = str(Path(__file__).parent / "stress.py")
    result = subprocess.run(
        [sys.executable, program, runner],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "flows": 100,
        "tasks": 10_000,
        "wrong parent": 0,
        "duplicates": 0,
        "lost": 0,
        "tasks a flow": [100],
        "messages of others": 0,
        "in memory": [[100, 100]],
        "dropped": {},
    }
