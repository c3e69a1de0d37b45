"""Test what stays in memory: little of a finished task, nothing of a finished flow."""

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
    """Replace the fixture: these tests must not capture, because a capture keeps runs in memory."""


@task
def step(x: int) -> int:
    """Return the argument: the smallest task."""
    return x


@flow(flow_config=FlowRunConfig(max_tasks=100_000))
def keeping(number: int) -> None:
    """Run tasks, and keep them."""
    for x in range(number):
        step(x)


@flow(flow_config=FlowRunConfig(add_task_to_self=False))
def not_keeping(number: int) -> None:
    """Run tasks, and do not keep them."""
    for x in range(number):
        step(x)


def growth_by(call: Any) -> int:
    """Return the growth of the memory in use by ``call``, in bytes, while its result is still referenced."""
    call()  # fills caches and the history
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        flow_events.clear_history()  # its size is bounded: it does not count as growth
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del result
        return after - before
    finally:
        tracemalloc.stop()


def test_a_finished_task_keeps_less_than_1_kb() -> None:
    """Measured on 5,000 tasks of one flow, without an SDK."""
    assert growth_by(lambda: keeping(5000).execute()) / 5000 < 1000


def test_a_finished_task_keeps_less_than_1_kb_with_spans() -> None:
    """The same with recorded spans, when their exporter has released them."""
    with use_provider(TracerProvider(shutdown_on_exit=False)):
        assert growth_by(lambda: keeping(5000).execute()) / 5000 < 1000


def test_a_task_that_is_not_kept_leaves_nothing() -> None:
    """add_task_to_self=False: memory does not grow with the number of tasks. A flow itself has a few kB."""
    assert growth_by(lambda: not_keeping(20_000).execute()) < 20_000


def test_many_finished_flows_leave_nothing_behind() -> None:
    """3,000 flows with one task each leave less than one byte a flow in use, apart from noise."""

    def run_flows() -> None:
        for _ in range(3000):
            keeping(1).execute()

    assert growth_by(run_flows) < 3000


def test_contexts_do_not_accumulate() -> None:
    """After the runs, the current context is the same as before, and no token refers to a run."""
    from otelflow.context import get_current

    before = get_current()
    references = sys.getrefcount(before)
    keeping(1000).execute()
    assert get_current() is before
    assert sys.getrefcount(before) <= references + 1
