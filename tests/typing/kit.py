"""Types of the test kit and of propagate. Checked by mypy strict and pyright; never run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

from opentelemetry.trace import Link
from typing_extensions import assert_type

from otelflow import FlowRunEvent, propagate, task
from otelflow.records import Artifact, Message
from otelflow.testing import Capture, CapturedRun, Failure, capture


@task
def square(number: int) -> int:
    """Return the square; a task for a pool."""
    return number * number


def test_nightly(capflow: Capture) -> None:
    """Use a capture as a test does."""
    run = capflow.flow("nightly")
    assert_type(run, CapturedRun)
    assert_type(run.tasks, list[CapturedRun])
    assert_type(run.task("load").messages, list[Message])
    assert_type(run.task("load").artifact("rows"), Artifact)
    assert_type(run.error, Failure | None)
    assert_type(run.duration, float | None)
    assert_type(run.links, list[Link])
    assert_type(capflow.events, list[FlowRunEvent])
    assert_type(capflow.find("*", kind="task", where=lambda run: run.artifacts), list[CapturedRun])
    assert_type(capflow.to_dict(), list[dict[str, Any]])
    with capture(deterministic=True) as inner:
        assert_type(inner, Capture)


def use_propagate() -> None:
    """Use propagate as a program does."""
    pool = propagate.propagating(ProcessPoolExecutor())
    assert_type(pool, Executor)
    assert_type(pool.submit(square, 3), Future[int])
    assert_type(pool.map(square, [1, 2]), Iterator[int])
    assert_type(propagate.inject(), dict[str, str])
    assert_type(propagate.bind(square)(3), int)
    with propagate.attached({"traceparent": "…"}) as handle:
        if handle is not None:
            assert_type(handle.run_id, str)
