"""Fixtures for the tests of the test kit."""

from __future__ import annotations

from typing import Any

import pytest
from kit_runs import nightly

from otelflow.testing import Capture, capture

SHOP = """
import asyncio
from otelflow import flow, task
import pytest

@task(raise_on_error=False)
def load(rows):
    raise ValueError("disk full")

@task
def extract(this_task=None):
    this_task.log_info("2 rows")
    return [1, 2]

@flow
def nightly():
    load(extract())

@flow
def good():
    return extract()

@task
async def waits(name):
    await asyncio.sleep(0)
    return name

@flow
async def both():
    return await asyncio.gather(waits("a"), waits("b"))
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs the tests of a source in a separate pytest, without other plugins."""
    # In CI, pytest's summary has complete messages, and the tests would count each of them twice.
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "OTEL_TRACES_EXPORTER", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(shop=SHOP)

    def run(source: str, *arguments: str, xdist: bool = False) -> pytest.RunResult:
        pytester.makepyfile(test_it="from shop import *\n" + source)
        plugins = ("-p", "no:randomly", *(() if xdist else ("-p", "no:xdist")))
        return pytester.runpytest_subprocess(*plugins, *arguments)

    return run


@pytest.fixture
def kit() -> Capture:
    """Return a capture in which the flow ``nightly`` ran."""
    with capture() as captured:
        nightly().execute()
    return captured
