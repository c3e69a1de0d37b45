"""Results of worker jobs: bounds, sampling, providers, and objects that cannot be pickled.

The executor here pickles jobs and results like one with processes, and runs them on a thread of this process.
``test_pools.py`` tests the real ones.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed, wait
from typing import Any

import pool_work
import pytest
from conftest import texts
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pickling import PicklingExecutor, one

from otelflow import FlowRunConfig, FlowRunEvent, current_flow, current_task, flow, flow_events, stats, task
from otelflow._propagation.recorder import Recorder
from otelflow._spans.tracer import use_provider
from otelflow.errors import ArgumentError, WorkerError
from otelflow.propagate import propagating
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("counted_from_zero")


def dropped() -> dict[str, int]:
    """Return the drop counts by reason."""
    return stats().dropped


# --- jobs -----------------------------------------------------------------------------------------------------------


@task
def makes(data: Any, this_flow: Any = None) -> None:
    """Add an artifact."""
    this_flow.add_artifact(key="data", data=data)


@task
def large(this_flow: Any = None) -> bytes:
    """Return a value, and add an artifact, that are too large to be sent twice."""
    this_flow.add_artifact(key="data", data=b"x" * (1 << 21))
    below_large()
    return b"y" * (1 << 21)


@task
def below_large() -> list[int]:
    """Return a value that stays in the worker."""
    return list(range(1000))


@task
def with_lambda(this_flow: Any = None) -> None:
    """Add an artifact that cannot be pickled."""
    this_flow.add_artifact(key="data", data=lambda: None)


@task
def returns_lambda() -> Any:
    """Return a value that cannot be pickled."""
    return lambda: None


class Two(Exception):
    """An exception that cannot be unpickled: its arguments are not those of its __init__."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@task(raise_on_error=False)
def raises_two() -> None:
    """Raise an exception that cannot be unpickled."""
    raise Two("one", "two")


@task
def many_messages(number: int, this_task: Any = None) -> None:
    """Log many messages."""
    for index in range(number):
        this_task.log_info(f"message {index}")


leftovers: list[Any] = []


@task
def leaves_a_generator() -> None:
    """Leave a run open that ends after the job."""
    leftovers.append(steps())
    next(leftovers[-1])


@task
def steps() -> Iterator[int]:
    """A generator task."""
    yield 1
    yield 2


@task
def nested(this_flow: Any = None) -> Any:
    """Use a pool in a worker."""
    with propagating(PicklingExecutor()) as below:
        return below.submit(pool_work.step, 5).result(20)


def waits(seconds: float) -> float:
    """Wait, then return."""
    threading.Event().wait(seconds)
    return seconds


def what_is_current() -> Any:
    """Return whether a job outside any flow has no current flow and no current task."""
    pool_work.outer.__wrapped__  # noqa: B018  # proves that the module is loaded
    orphan()
    return current_flow() is None, current_task() is None


@task
def orphan() -> None:
    """A task without a flow."""


# --- tests ----------------------------------------------------------------------------------------------------------


def test_sampled_out_jobs_send_events_but_no_spans(pool: Executor, captured: Capture) -> None:
    """The start of the trace decides about sampling. Events do not depend on it."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with use_provider(provider):
        run = one(pool, pool_work.outer, 1).execute()
    assert run.return_value == 1
    assert [child.name for child in run.tasks] == ["outer", "step"]
    assert "TASK_START" in texts(captured.events)
    assert captured.spans == []
    assert dropped() == {}


def test_without_an_sdk_events_come_back(pool: Executor, captured: Capture) -> None:
    """Listeners and the Flow object need no SDK, here or in the worker."""
    with use_provider(trace.NoOpTracerProvider()):
        run = one(pool, pool_work.outer, 1).execute()
    assert run.messages == ["step 1", "flow hears of 1"]
    assert run.tasks[0].trace_id is None
    assert dropped() == {}


def test_a_provider_that_takes_no_ended_spans(pool: Executor) -> None:
    """If the provider is not the SDK's, spans of workers are counted as dropped."""

    class ForeignTracer(trace.NoOpTracer):
        def start_span(self, name: str, *args: Any, **kwargs: Any) -> trace.Span:
            context = trace.SpanContext(1, 2, False, trace.TraceFlags(1))
            return trace.NonRecordingSpan(context)

    class ForeignProvider(trace.NoOpTracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return _DelegatingTracer(ForeignTracer())

    class _DelegatingTracer(trace.Tracer):
        def __init__(self, tracer: Any) -> None:
            self.start_span = tracer.start_span

        def start_span(self, *args: Any, **kwargs: Any) -> Any: ...

        def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any: ...

    with use_provider(ForeignProvider()):
        assert one(pool, pool_work.outer, 1).execute().return_value == 1
    assert dropped() == {"no_relay_door": 2}


def test_jobs_outside_any_flow(pool: Executor, captured: Capture) -> None:
    """Their tasks are orphans, as they would be here, and come back."""
    assert pool.submit(what_is_current).result(20) == (True, True)
    assert captured.task("orphan").attributes["otelflow.task.orphan"] is True


def test_large_values_are_not_sent_twice(pool: Executor, captured: Capture) -> None:
    """The event has the job's own result. Other values stay in the worker, and large artifacts are previews."""
    run = one(pool, large).execute()
    events = [event.event_data for event in captured.events if event.event_type.value == "task_stop"]
    stops = {event.task_name: event.data["task_data"] for event in events}
    assert stops["large"]["return_value"] is run.return_value
    assert stops["below_large"]["return_value"] is None
    assert run.artifacts["data"].data.startswith('"<2097152 bytes: 7878')
    assert dropped()["values_not_relayed"] == 1


@pytest.mark.parametrize("data", [{"a": [1, 2]}, b"\x00", "text", None, {1, 2}])
def test_an_artifacts_data_is_an_equal_object(pool: Executor, data: Any) -> None:
    """Data that can be pickled arrives unchanged."""
    assert one(pool, makes, data).execute().artifacts["data"].data == data


def test_data_that_cannot_be_pickled(pool: Executor) -> None:
    """A preview replaces it, and the job goes on."""
    run = one(pool, with_lambda).execute()
    assert "<function with_lambda.<locals>.<lambda>" in run.artifacts["data"].data
    assert dropped() == {"values_not_relayed": 1}


def test_a_result_that_cannot_be_pickled(pool: Executor, captured: Capture) -> None:
    """The future has the executor's own exception, and the loss of the job's record is counted."""
    run = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)(pool, returns_lambda).execute()
    assert isinstance(run.error, AttributeError | pickle.PicklingError)
    assert dropped() == {"worker_lost": 1}
    captured.assert_tree("one  !*")


def test_an_exception_that_cannot_be_unpickled(pool: Executor, captured: Capture) -> None:
    """The Task has a WorkerError in its place. Its span has the original type."""
    run = one(pool, raises_two).execute()
    (failed,) = run.tasks
    assert isinstance(failed.error, WorkerError)
    assert "Two: one two" in str(failed.error)
    assert captured.task("raises_two").attributes["error.type"].endswith(".Two")


def test_an_exception_is_recorded_once_on_its_way_through_processes(pool: Executor, captured: Capture) -> None:
    """The worker records it where it began, and the flow above names it. Raised in another flow, it is new."""
    failing = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)
    run = failing(pool, pool_work.fails, 1).execute()
    assert isinstance(run.error, LookupError)
    assert [span.name for span in captured.spans for event in span.events if event.name == "exception"] == ["deeper"]
    assert captured.flow("one").attributes["error.type"] == "LookupError"

    def again(error: BaseException) -> None:
        raise error

    flow(flow_config=FlowRunConfig(raise_flow_error=False), name="again")(again)(run.error).execute()
    assert [event.name for event in captured.flow("again").events] == ["exception", "otelflow.message"]


def test_the_record_of_a_job_is_bounded() -> None:
    """Entries over the bound are dropped and counted. START still gets its STOP."""
    recorder = Recorder(None, max_entries=5)

    class Run:
        _number, _is_flow, name, _origin, _started_ns, _span_context = 7, False, "much", ("source",), 1, None
        run_id, _flow, return_value, error, _ended_ns, status = "task_7", None, None, None, 2, "completed"

    recorder.record_start(Run)
    for number in range(10):
        recorder.record_event(Run, "message", number, "source", (20, "text", None))
    recorder.record_stop(Run)
    report = recorder.finish(None, None)
    assert [type(entry).__name__ for entry in report.entries] == ["StartEntry", *["EventEntry"] * 4, "StopEntry"]
    assert report.drop_counts == {"relay_full": 6}


def test_a_run_that_ends_after_its_job_is_counted(pool: Executor, captured: Capture) -> None:
    """A generator that stays in the worker ends too late for the result. The worker counts it."""
    one(pool, leaves_a_generator).execute()
    captured.assert_tree("one\n  leaves_a_generator")
    assert list(leftovers.pop()) == [2]
    captured.assert_tree("one\n  leaves_a_generator")
    assert dropped() == {"after_job": 1}


def test_a_pool_in_a_worker(pool: Executor, captured: Capture) -> None:
    """The record of a worker's worker comes back through both."""
    run = one(pool, nested).execute()
    assert run.return_value == 5
    captured.assert_tree("one\n  nested\n    step")
    assert run.messages == ["step 5", "flow hears of 5"]
    stops = [event.event_data for event in captured.events if event.event_type.value == "task_stop"]
    assert [event.task_name for event in stops] == ["step", "nested"]


def test_events_arrive_before_the_result(pool: Executor) -> None:
    """They arrive in order on the thread that receives the result. The worker's own listeners get none."""
    order: list[Any] = []

    def listener(event: FlowRunEvent) -> None:
        order.append((event.event_type.value, threading.current_thread().name))

    with flow_events.listen(listener):
        one(pool, pool_work.outer, 1).execute()
    assert [event_type for event_type, _ in order][:3] == ["flow_start", "task_start", "task_start"]
    assert len(order) == 2 + 4 + 4  # of the flow, of the tasks, and their messages, artifacts and results: each once


def test_a_listener_that_raises_does_not_block_the_result(pool: Executor) -> None:
    """Even a KeyboardInterrupt on a thread of the executor does not."""

    def listener(event: FlowRunEvent) -> None:
        if event.event_data.task_name == "step":
            raise KeyboardInterrupt

    with flow_events.listen(listener):
        assert one(pool, pool_work.outer, 1).execute().return_value == 1


def test_futures_work_with_the_standard_library(pool: Executor) -> None:
    """wait, as_completed, cancel, running, callbacks and asyncio accept them."""
    first = [pool.submit(waits, 0.05) for _ in range(6)]
    assert first[-1].cancel()
    assert first[-1].cancelled()
    assert [future.result() for future in as_completed(first[:-1], 20)] == [0.05] * 5
    assert not first[0].cancel()
    future = pool.submit(waits, 0)
    assert wait([future], 20).done == {future}
    assert (future.running(), future.done()) == (False, True)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert called == [future]

    async def on_a_loop() -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, waits, 0)

    assert asyncio.run(on_a_loop()) == 0


def test_propagating_takes_executors_only() -> None:
    """An object without submit is refused. Wrapping twice is once. The executor's attributes are there."""
    with pytest.raises(ArgumentError, match="submit"):
        propagating(object())  # type: ignore[arg-type]
    with propagating(PicklingExecutor()) as pool:
        assert propagating(pool) is pool
        assert isinstance(pool.threads, ThreadPoolExecutor)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(waits, 0)
