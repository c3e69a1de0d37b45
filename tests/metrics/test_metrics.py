"""Metrics of durations, active flows and dropped items, read with the SDK's reader."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pool_work
import pytest
import shopping
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otelflow import Flow, flow, instrument, task
from otelflow._metrics import instruments, measurements
from otelflow._metrics.measurements import measures
from otelflow._spans.tracer import use_provider
from otelflow.propagate import propagating
from otelflow.testing import Capture

Read = Callable[[str], dict[tuple[Any, ...], Any]]


@pytest.fixture
def read() -> Iterator[Read]:
    """Enables metrics, and returns a function that reads a metric: its points by the values of their attributes."""
    before = measures.on, measures.sink, instruments._in_use
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    measures.process()
    instruments.use(instruments.RunInstruments(provider))

    def points(name: str) -> dict[tuple[Any, ...], Any]:
        data = reader.get_metrics_data()
        exemplar_ids = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        return {
            tuple((point.attributes or {}).values()): point
            for metric in exemplar_ids
            if metric.name == name
            for point in metric.data.data_points
        }

    yield points
    measures.process()
    measures.on, measures.sink, instruments._in_use = before
    provider.shutdown()


@task
def step(fails: bool = False) -> None:
    if fails:
        raise KeyError("no")


@flow
def nightly(steps: int = 2, failing: int = 0) -> None:
    for number in range(steps):
        try:
            step(number < failing)
        except KeyError:
            pass


def test_durations_of_flows_and_tasks(read: Read, captured: Capture) -> None:
    """Numbers and durations equal those of the spans; failures are separated by the error's class."""
    nightly(3, failing=1).execute()
    flows, tasks = read("otelflow.flow.duration"), read("otelflow.task.duration")
    assert {key: point.count for key, point in flows.items()} == {("nightly", "completed"): 1}
    assert {key: point.count for key, point in tasks.items()} == {
        ("nightly", "step", "completed"): 2,
        ("nightly", "step", "failed", "KeyError"): 1,
    }
    (only,) = flows.values()
    assert only.sum == pytest.approx(captured.flow("nightly").duration)
    assert sum(point.sum for point in tasks.values()) == pytest.approx(sum(run.duration for run in captured.tasks))
    assert only.explicit_bounds == instruments.BOUNDS


def test_an_exemplar_links_to_the_trace(read: Read, captured: Capture) -> None:
    """It has the ids of the measured run, whatever span is current when metrics are collected."""

    @flow
    def outer() -> None:
        nightly(1).execute()
        (point,) = read("otelflow.task.duration").values()
        (exemplar,) = point.exemplars
        inner = captured.task("step")
        exemplar_ids = (format(exemplar.trace_id, "032x"), format(exemplar.span_id, "016x"))
        assert exemplar_ids == (inner.trace_id, inner.span_id)

    outer().execute()


def test_a_run_that_is_sampled_out_is_measured(read: Read) -> None:
    """It has no exemplar, because there is no trace to link to."""
    with use_provider(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)):
        nightly(1).execute()
    (point,) = read("otelflow.task.duration").values()
    assert (point.count, list(point.exemplars)) == (1, [])


def test_running_flows_are_counted(read: Read) -> None:
    """Flows of all threads are counted while they run; afterwards the number is 0."""
    here, go_on = threading.Barrier(4), threading.Event()

    @flow
    def waits() -> None:
        here.wait(10)
        go_on.wait(10)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(waits().execute) for _ in range(3)]
        here.wait(10)
        assert read("otelflow.flow.active")[("waits",)].value == 3
        go_on.set()
    assert all(future.result().status == "completed" for future in running)
    assert read("otelflow.flow.active")[("waits",)].value == 0


def test_a_cancelled_run_is_no_failure(read: Read) -> None:
    """It has the status ``cancelled``, and no error."""

    @flow(transparent=True)
    async def waits() -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        running = asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert list(read("otelflow.flow.duration")) == [("waits", "cancelled")]


def test_a_task_that_leaves_no_span_is_measured(tmp_path: Path, read: Read, captured: Capture) -> None:
    """A task below ``min_duration`` leaves no span, and metrics still count it."""
    shopping.write(tmp_path, short="def leaf(): pass\n")
    with (
        shopping.importable(tmp_path),
        instrument(tasks=[{"target": "shop.short:leaf", "min_duration": "1s"}]),
    ):
        leaf = shopping.load("short").leaf
        Flow(lambda: [leaf() for _ in range(5)]).execute()
    assert not captured.tasks
    assert read("otelflow.task.duration")[("<lambda>", "leaf", "completed")].count == 5


def test_a_job_in_another_process_is_measured_here(read: Read) -> None:
    """It is counted once, in the process of its flow."""
    from concurrent.futures import ProcessPoolExecutor

    @flow
    def pooled() -> list[int]:
        with propagating(ProcessPoolExecutor(1)) as pool:
            return list(pool.map(pool_work.step, range(3)))

    assert len(pooled().execute().return_value) == 3
    assert read("otelflow.task.duration")[("pooled", "step", "completed")].count == 3


def test_the_number_of_series_is_bounded(read: Read) -> None:
    """Beyond 2,000 sets of attributes, runs are counted in one series with OpenTelemetry's overflow mark."""
    for number in range(2_100):
        run = Flow(int)
        run.name = f"order {number}"
        run.execute()
    points = read("otelflow.flow.duration")
    assert len(points) == 2_001
    assert points[(True,)].count == 100
    assert len(read("otelflow.flow.active")) <= 2_000


def test_notes_do_not_pile_up(read: Read) -> None:
    """Without a collection, a thread processes all of them."""
    nightly(20_000).execute()
    until = time.monotonic() + 20
    while len(measures._notes) > measurements._NOTES_FOR_THREAD and time.monotonic() < until:
        time.sleep(0.01)
    assert len(measures._notes) <= measurements._NOTES_FOR_THREAD
    assert read("otelflow.task.duration")[("nightly", "step", "completed")].count == 20_000


def test_notes_beyond_the_limit_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    """If no thread processes the notes in time, the oldest are dropped and counted."""
    monkeypatch.setattr(measurements, "_NOTES_FOR_THREAD", 10)
    monkeypatch.setattr(measurements, "_MAX_NOTES", 100)
    before = read("otelflow.dropped").get(("metrics_queue_full",))
    with measures._process_lock:
        nightly(500).execute()
    after = read("otelflow.dropped")[("metrics_queue_full",)].value - (before.value if before else 0)
    assert read("otelflow.task.duration")[("nightly", "step", "completed")].count + after in (500, 501, 502)
    assert after >= 390
