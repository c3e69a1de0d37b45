"""Run real programs in their own processes, to test what is only visible from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

HEAD = """
import json, os, sys, time, logging
logging.basicConfig(format="%(message)s")
from otelflow import *
import otelflow
from otelflow import flow, task, configure, flush, shutdown, stats

@task
def step(x=1, this_task=None):
    this_task.log_info("working", x=x)
    return x

@flow
def work(n=3):
    return [step(i) for i in range(n)]

def say(**facts):
    print("FACTS " + json.dumps(facts))
"""


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without its OpenTelemetry settings, and with ``more``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "PYTEST"))}
    return {**environment, **more}


def run(source: str, *, head: str = HEAD, timeout: float = 60, cwd: Path | None = None, **environment: str) -> Any:
    """Run a program of ``head`` and ``source``, and return the completed process.

    Its attribute ``facts`` has the values that the program reported by ``say``.
    """
    result: Any = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(source)],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )
    result.facts = {}
    for line in result.stdout.splitlines():
        if line.startswith("FACTS "):
            result.facts.update(json.loads(line[6:]))
    return result


def command(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``otelflow`` in its own process."""
    return python("-m", "otelflow.cli", *words, cwd=cwd, **environment)


def python(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in its own process."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
