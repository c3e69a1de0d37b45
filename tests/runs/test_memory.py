"""What stays in memory: little for a finished task, nothing for a finished flow."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otelflow import FlowRunConfig, flow, flow_events, task
from otelflow._spans.tracer import use_provider


@pytest.fixture
def captured() -> None:
    """Nothing is captured here: a capture keeps what it saw."""


@task
def step(x: int) -> int:
    """The smallest task."""
    return x


@flow(flow_config=FlowRunConfig(max_tasks=100_000))
def keeping(number: int) -> None:
    """Keeps its tasks."""
    for x in range(number):
        step(x)


@flow(flow_config=FlowRunConfig(add_task_to_self=False))
def not_keeping(number: int) -> None:
    """Does not."""
    for x in range(number):
        step(x)


def kept_by(make: Any) -> int:
    """Bytes that are in use after ``make`` and were not before, its result still held."""
    make()  # fills caches and the history
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = make()
        flow_events.clear_history()  # a ring of bounded size: what is in it is no growth
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del result
        return after - before
    finally:
        tracemalloc.stop()


def test_a_finished_task_keeps_less_than_1_kb() -> None:
    """Measured on 5,000 tasks of one flow, without an SDK."""
    assert kept_by(lambda: keeping(5000).execute()) / 5000 < 1000


def test_a_finished_task_keeps_less_than_1_kb_with_spans() -> None:
    """The same with recorded spans, after their exporter let them go."""
    with use_provider(TracerProvider(shutdown_on_exit=False)):
        assert kept_by(lambda: keeping(5000).execute()) / 5000 < 1000


def test_a_task_that_is_not_kept_leaves_nothing() -> None:
    """add_task_to_self=False: the number of tasks does not show in memory. A flow itself is a few kB, however long."""
    assert kept_by(lambda: not_keeping(20_000).execute()) < 20_000


def test_many_finished_flows_leave_nothing_behind() -> None:
    """3,000 flows, each with a task: less than a byte a flow is in use afterwards, beyond noise."""

    def make() -> None:
        for _ in range(3000):
            keeping(1).execute()

    assert kept_by(make) < 3000


def test_contexts_do_not_pile_up() -> None:
    """After any number of runs the context is the one before them, and no token refers to a run."""
    from otelflow.context import get_current

    before = get_current()
    references = sys.getrefcount(before)
    keeping(1000).execute()
    assert get_current() is before
    assert sys.getrefcount(before) <= references + 1
