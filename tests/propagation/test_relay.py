"""What comes back from a worker with a job's result: bounds, sampling, providers, and what cannot be pickled.

The executor here pickles jobs and results as one over processes does, and runs them on a thread of this process;
``test_pools.py`` has the real ones.
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
from pickling import Pickling, one

from otelflow import FlowRunConfig, FlowRunEvent, current_flow, current_task, flow, flow_events, stats, task
from otelflow._propagation.recorder import Recorder
from otelflow._spans.tracer import use_provider
from otelflow.errors import ArgumentError, WorkerError
from otelflow.propagate import propagating
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("counted_from_zero")


def dropped() -> dict[str, int]:
    """What was left out so far."""
    return stats().dropped


# --- jobs -----------------------------------------------------------------------------------------------------------


@task
def makes(data: Any, this_flow: Any = None) -> None:
    """Adds an artifact."""
    this_flow.add_artifact(key="made", data=data)


@task
def large(this_flow: Any = None) -> bytes:
    """An artifact and a return value that are too large to travel twice."""
    this_flow.add_artifact(key="made", data=b"x" * (1 << 21))
    below_large()
    return b"y" * (1 << 21)


@task
def below_large() -> list[int]:
    """Its return value stays in the worker."""
    return list(range(1000))


@task
def with_lambda(this_flow: Any = None) -> None:
    """What pickle does not take."""
    this_flow.add_artifact(key="made", data=lambda: None)


@task
def returns_lambda() -> Any:
    """A result that cannot be pickled."""
    return lambda: None


class Two(Exception):
    """Does not come out of a pickle: its arguments are not those of its __init__."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@task(raise_on_error=False)
def raises_two() -> None:
    """Fails with an exception that cannot be unpickled."""
    raise Two("one", "two")


@task
def many_messages(number: int, this_task: Any = None) -> None:
    """Says a lot."""
    for index in range(number):
        this_task.log_info(f"message {index}")


leftovers: list[Any] = []


@task
def leaves_a_generator() -> None:
    """Leaves a run open that ends after the job."""
    leftovers.append(steps())
    next(leftovers[-1])


@task
def steps() -> Iterator[int]:
    """A generator task."""
    yield 1
    yield 2


@task
def nested(this_flow: Any = None) -> Any:
    """Uses a pool in a worker."""
    with propagating(Pickling()) as below:
        return below.submit(pool_work.step, 5).result(20)


def waits(seconds: float) -> float:
    """Takes a while."""
    threading.Event().wait(seconds)
    return seconds


def what_is_current() -> Any:
    """What a job outside any flow finds."""
    pool_work.outer.__wrapped__  # noqa: B018  # the module is here
    orphan()
    return current_flow() is None, current_task() is None


@task
def orphan() -> None:
    """Has no flow."""


# --- tests ----------------------------------------------------------------------------------------------------------


def test_sampled_out_jobs_are_heard_and_not_sent(pool: Executor, captured: Capture) -> None:
    """Sampling is decided where the trace begins; events do not depend on it."""
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with use_provider(provider):
        run = one(pool, pool_work.outer, 1).execute()
    assert run.return_value == 1
    assert [made.name for made in run.tasks] == ["outer", "step"]
    assert "TASK_START" in texts(captured.events)
    assert captured.spans == []
    assert dropped() == {}


def test_without_an_sdk_events_come_back(pool: Executor, captured: Capture) -> None:
    """Listeners and the Flow object need no SDK, neither here nor in the worker."""
    with use_provider(trace.NoOpTracerProvider()):
        run = one(pool, pool_work.outer, 1).execute()
    assert run.messages == ["step 1", "flow hears of 1"]
    assert run.tasks[0].trace_id is None
    assert dropped() == {}


def test_a_provider_without_a_door(pool: Executor) -> None:
    """A provider that is not the SDK's takes no ended spans: those are counted."""

    class OthersTracer(trace.NoOpTracer):
        def start_span(self, name: str, *args: Any, **kwargs: Any) -> trace.Span:
            context = trace.SpanContext(1, 2, False, trace.TraceFlags(1))
            return trace.NonRecordingSpan(context)

    class Others(trace.NoOpTracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
            return _Delegating(OthersTracer())

    class _Delegating(trace.Tracer):
        def __init__(self, tracer: Any) -> None:
            self.start_span = tracer.start_span

        def start_span(self, *args: Any, **kwargs: Any) -> Any: ...

        def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any: ...

    with use_provider(Others()):
        assert one(pool, pool_work.outer, 1).execute().return_value == 1
    assert dropped() == {"no_relay_door": 2}


def test_jobs_outside_any_flow(pool: Executor, captured: Capture) -> None:
    """Their tasks are orphans, as they would be here, and come back all the same."""
    assert pool.submit(what_is_current).result(20) == (True, True)
    assert captured.task("orphan").attributes["otelflow.task.orphan"] is True


def test_what_does_not_travel_twice(pool: Executor, captured: Capture) -> None:
    """The job's own result is the event's return value; others stay in the worker; large artifacts come as previews."""
    run = one(pool, large).execute()
    events = [event.event_data for event in captured.events if event.event_type.value == "task_stop"]
    stops = {event.task_name: event.data["task_data"] for event in events}
    assert stops["large"]["return_value"] is run.return_value
    assert stops["below_large"]["return_value"] is None
    assert run.artifacts["made"].data.startswith('"<2097152 bytes: 7878')
    assert dropped()["values_not_relayed"] == 1


@pytest.mark.parametrize("data", [{"a": [1, 2]}, b"\x00", "text", None, {1, 2}])
def test_an_artifacts_data_is_an_equal_object(pool: Executor, data: Any) -> None:
    """What can be pickled arrives as it was."""
    assert one(pool, makes, data).execute().artifacts["made"].data == data


def test_data_that_cannot_be_pickled(pool: Executor) -> None:
    """It is described instead, and the job goes on."""
    run = one(pool, with_lambda).execute()
    assert "<function with_lambda.<locals>.<lambda>" in run.artifacts["made"].data
    assert dropped() == {"values_not_relayed": 1}


def test_a_result_that_cannot_be_pickled(pool: Executor, captured: Capture) -> None:
    """The future has the executor's own exception, and the loss of what the job did is counted."""
    run = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)(pool, returns_lambda).execute()
    assert isinstance(run.error, AttributeError | pickle.PicklingError)
    assert dropped() == {"worker_lost": 1}
    captured.assert_tree("one  !*")


def test_an_exception_that_cannot_be_unpickled(pool: Executor, captured: Capture) -> None:
    """On the Task something stands for it; its span has the original's type."""
    run = one(pool, raises_two).execute()
    (failed,) = run.tasks
    assert isinstance(failed.error, WorkerError)
    assert "Two: one two" in str(failed.error)
    assert captured.task("raises_two").attributes["error.type"].endswith(".Two")


def test_an_exception_is_recorded_once_on_its_way_through_processes(pool: Executor, captured: Capture) -> None:
    """Recorded where it began, in the worker; the flow above names it. Raised again in another flow, it is new."""
    failing = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)
    run = failing(pool, pool_work.fails, 1).execute()
    assert isinstance(run.error, LookupError)
    assert [span.name for span in captured.spans for event in span.events if event.name == "exception"] == ["deeper"]
    assert captured.flow("one").attributes["error.type"] == "LookupError"

    def again(error: BaseException) -> None:
        raise error

    flow(flow_config=FlowRunConfig(raise_flow_error=False), name="again")(again)(run.error).execute()
    assert [event.name for event in captured.flow("again").events] == ["exception", "otelflow.message"]


def test_a_job_has_bounds() -> None:
    """More than the bound is left out and counted; START is still followed by STOP."""
    recorder = Recorder(None, most=5)

    class Run:
        _number, _is_flow, name, _origin, _started_ns, _span_context = 7, False, "much", ("source",), 1, None
        run_id, _flow, return_value, error, _ended_ns, status = "task_7", None, None, None, 2, "completed"

    recorder.started(Run)
    for number in range(10):
        recorder.said(Run, "message", number, "source", (20, "text", None))
    recorder.stopped(Run)
    report = recorder.finish(None, None)
    assert [type(entry).__name__ for entry in report.entries] == ["StartEntry", *["EventEntry"] * 4, "StopEntry"]
    assert report.left_out == {"relay_full": 6}


def test_what_ends_after_its_job(pool: Executor, captured: Capture) -> None:
    """A generator that is left behind in the worker ends after the way back is closed: counted there."""
    one(pool, leaves_a_generator).execute()
    captured.assert_tree("one\n  leaves_a_generator")
    assert list(leftovers.pop()) == [2]
    captured.assert_tree("one\n  leaves_a_generator")
    assert dropped() == {"after_job": 1}


def test_a_pool_in_a_worker(pool: Executor, captured: Capture) -> None:
    """What a worker's worker does comes back through both."""
    run = one(pool, nested).execute()
    assert run.return_value == 5
    captured.assert_tree("one\n  nested\n    step")
    assert run.messages == ["step 5", "flow hears of 5"]
    stops = [event.event_data for event in captured.events if event.event_type.value == "task_stop"]
    assert [event.task_name for event in stops] == ["step", "nested"]


def test_what_is_heard_is_heard_before_the_result(pool: Executor) -> None:
    """On the thread that receives it, in order; the worker's own listeners hear nothing."""
    order: list[Any] = []

    def listener(event: FlowRunEvent) -> None:
        order.append((event.event_type.value, threading.current_thread().name))

    with flow_events.listen(listener):
        one(pool, pool_work.outer, 1).execute()
    assert [what for what, _ in order][:3] == ["flow_start", "task_start", "task_start"]
    assert len(order) == 2 + 4 + 4  # the flow's, the tasks', what they said: once each


def test_a_listener_that_raises_keeps_nobody_waiting(pool: Executor) -> None:
    """Not even with KeyboardInterrupt, on a thread of the executor's."""

    def listener(event: FlowRunEvent) -> None:
        if event.event_data.task_name == "step":
            raise KeyboardInterrupt

    with flow_events.listen(listener):
        assert one(pool, pool_work.outer, 1).execute().return_value == 1


def test_futures_are_futures(pool: Executor) -> None:
    """wait, as_completed, cancel, running, callbacks and asyncio work on what submit gives."""
    first = [pool.submit(waits, 0.05) for _ in range(6)]
    assert first[-1].cancel()
    assert first[-1].cancelled()
    assert [future.result() for future in as_completed(first[:-1], 20)] == [0.05] * 5
    assert not first[0].cancel()
    done = pool.submit(waits, 0)
    assert wait([done], 20).done == {done}
    assert (done.running(), done.done()) == (False, True)
    called: list[Any] = []
    done.add_done_callback(called.append)
    assert called == [done]

    async def on_a_loop() -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, waits, 0)

    assert asyncio.run(on_a_loop()) == 0


def test_propagating_takes_executors_only() -> None:
    """What has no submit is refused; twice is once; the executor's own attributes are there."""
    with pytest.raises(ArgumentError, match="submit"):
        propagating(object())  # type: ignore[arg-type]
    with propagating(Pickling()) as pool:
        assert propagating(pool) is pool
        assert isinstance(pool.threads, ThreadPoolExecutor)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(waits, 0)
