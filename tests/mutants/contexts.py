"""A pytest plugin: tell coverage which test runs, here and in the processes that it starts, and how long it took."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pytest

_durations: dict[str, float] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    """Set the context for the setup, the call and the teardown of a test."""
    os.environ["MUTANTS_TEST"] = item.nodeid  # the context of processes: see coverage.ini
    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(item.nodeid)
    yield
    if current is not None:
        current.switch_context("")
    del os.environ["MUTANTS_TEST"]


def pytest_runtest_logreport(report: Any) -> None:
    """Add up the seconds of a test; those that fail under coverage are not used."""
    if report.failed:
        _durations[report.nodeid] = float("inf")
    elif report.when != "setup" or report.passed:
        _durations[report.nodeid] = _durations.get(report.nodeid, 0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the durations, in the process that hears of all tests."""
    if not hasattr(session.config, "workerinput"):
        passed = {test: seconds for test, seconds in _durations.items() if seconds != float("inf")}
        Path(os.environ["MUTANTS_DURATIONS"]).write_text(json.dumps(passed))
