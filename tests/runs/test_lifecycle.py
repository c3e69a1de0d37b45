"""Test how runs start and end: for each kind of callable, and with each kind of end."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import traceback
import weakref
from typing import Any

import pytest
from conftest import texts
from opentelemetry.trace import StatusCode
from plain_runs import deferred, plain

from otelflow import FlowRunConfig, flow, stats, task
from otelflow.testing import Capture

# --- ends -----------------------------------------------------------------------------------------


def test_the_original_exception_reaches_the_caller() -> None:
    """It is the same object, with its cause and its traceback, after task and flow."""
    error = ValueError("original")

    @task
    def fails() -> None:
        raise error from KeyError("cause")

    @flow
    def failing() -> None:
        fails()

    with pytest.raises(ValueError, match="original") as caught:
        failing().execute()
    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SystemExit(0), "completed", StatusCode.UNSET),
        (SystemExit(None), "completed", StatusCode.UNSET),
        (SystemExit(1), "failed", StatusCode.ERROR),
        (KeyboardInterrupt(), "cancelled", StatusCode.UNSET),
        (asyncio.CancelledError(), "cancelled", StatusCode.UNSET),
        (MemoryError(), "failed", StatusCode.ERROR),
        (StopAsyncIteration(), "failed", StatusCode.ERROR),
    ],
    ids=repr,
)
def test_each_kind_of_end(error: BaseException, status: str, code: StatusCode, captured: Capture) -> None:
    """Cancellation and normal exits are not failures; STOP always follows START; the exception reaches the caller."""

    @task
    def ends() -> None:
        raise error

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    def ending() -> None:
        ends()

    if isinstance(error, Exception):
        ending().execute()
    else:
        with pytest.raises(type(error)) as caught:
            ending().execute()
        assert caught.value is error
    for run in captured.spans:
        assert run.span.status.status_code is code
        assert run.attributes["otelflow.status"] == status
    lifecycle = [text for text in texts(captured.events) if text.isupper()]
    assert lifecycle == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]


def test_a_cancelled_task_is_cancelled_not_failed(captured: Capture) -> None:
    """A timeout ends the inner span as cancelled; the TimeoutError is the error of the outer one."""

    @task
    async def sleeps() -> None:
        await asyncio.sleep(10)

    @flow
    async def times_out() -> None:
        await asyncio.wait_for(sleeps(), 0.01)

    with pytest.raises(asyncio.TimeoutError):
        times_out().execute()
    assert captured.task("sleeps").status == "cancelled"
    assert captured.flow("times_out").status == "failed"


def test_concurrent_failures_are_each_recorded_once(captured: Capture) -> None:
    """Two tasks fail in a gather: each span has its exception, the flow has none."""

    @task
    async def fails(number: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(number)

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    async def gathers() -> None:
        await asyncio.gather(fails(1), fails(2))

    gathers().execute()
    exceptions = [(run.name, [event.name for event in run.events].count("exception")) for run in captured.spans]
    assert exceptions == [("gathers", 0), ("fails", 1), ("fails", 1)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup is new in Python 3.11")
def test_an_exception_group_is_the_flows_own_error(captured: Capture) -> None:
    """A TaskGroup raises a new exception with those of its tasks: this one begins in the flow."""

    @task
    async def fails() -> None:
        raise ValueError("in the group")

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    async def groups() -> None:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
            group.create_task(fails())

    run = groups().execute()
    assert type(run.error).__name__ == "ExceptionGroup"
    assert captured.flow("groups").attributes["error.type"] == "ExceptionGroup"
    assert captured.task("fails").attributes["error.type"] == "ValueError"


def test_an_exception_that_cannot_be_printed(captured: Capture) -> None:
    """An exception whose __str__ and __repr__ raise still reaches the caller."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    @task
    def breaks() -> None:
        raise Broken

    with pytest.raises(Broken):
        breaks()
    assert "str() raised RuntimeError" in str(captured.task("breaks").span.status.description)


def test_deep_recursion(captured: Capture) -> None:
    """A RecursionError in a task reaches the caller, and its record is bounded."""

    def forever(depth: int) -> int:
        return forever(depth + 1)

    @task
    def recurses() -> int:
        return forever(0)

    with pytest.raises(RecursionError):
        recurses()
    (exception, _) = captured.task("recurses").events
    stack = str((exception.attributes or {})["exception.stacktrace"])
    assert len(stack.encode()) <= 2048
    assert "more frames above" in stack
    assert stack.rstrip().endswith("maximum recursion depth exceeded")


def test_a_processor_that_raises_does_not_reach_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    """The error of the user's span processor is logged, and the caller gets the function's value."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from otelflow._spans.tracer import use_provider

    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("start")

        def on_end(self, span: Any) -> None:
            raise RuntimeError("end")

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken())
    with use_provider(provider):
        assert deferred(3).execute().return_value == 3
    assert any("OpenTelemetry raised RuntimeError" in record.message for record in caplog.records)


# --- memory ---------------------------------------------------------------------------------------


def test_arguments_are_not_kept() -> None:
    """An argument of a task is freed when the caller drops it, while the flow still runs."""

    class Payload:
        pass

    @task
    def uses(payload: Payload) -> None:
        pass

    @flow
    def using() -> bool:
        payload = Payload()
        alive = weakref.ref(payload)
        uses(payload)
        del payload
        return alive() is None

    assert using().execute().return_value is True


def test_finished_flows_are_freed_without_the_garbage_collector() -> None:
    """A Flow is not part of a reference cycle: its tasks do not keep it in memory."""
    gc.collect()
    gc.disable()
    try:
        run: Any = deferred(1).execute()
        task_run, reference = run.tasks[0], weakref.ref(run)
        assert task_run.flow is run
        del run
        assert reference() is None
        assert task_run.flow is None
    finally:
        gc.enable()


def test_a_task_that_outlives_its_flow_is_counted(captured: Capture) -> None:
    """Its span has the right parent; the finished Flow object does not change."""
    before = stats().dropped.get("tasks_after_end", 0)
    tasks: list[Any] = []

    @task
    async def late(this_task: Any = None) -> None:
        this_task.log_info("late")
        tasks.append(this_task)

    @flow
    async def forgets() -> None:
        loop = asyncio.get_running_loop()
        tasks.append(loop.create_task(_after(flow_ended, late)))

    async def _after(event: asyncio.Event, call: Any) -> None:
        await event.wait()
        await call()

    async def main() -> Any:
        global flow_ended
        flow_ended = asyncio.Event()
        run = await forgets()
        flow_ended.set()
        await tasks[0]
        return run

    run = asyncio.run(main())
    assert run.tasks == []
    assert run.messages == []
    assert tasks[1].messages == ["late"]
    assert stats().dropped["tasks_after_end"] == before + 1
    captured.assert_tree("forgets\n  late")


flow_ended: asyncio.Event


def test_threads_with_the_callers_context(captured: Capture) -> None:
    """to_thread and copy_context().run propagate the flow; the task of a plain thread is an orphan, not an error."""
    import contextvars

    @flow
    async def threads() -> None:
        await asyncio.to_thread(plain, 1)
        context = contextvars.copy_context()
        for target in (lambda: context.run(plain, 2), lambda: plain(3)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    run = threads().execute()
    assert len(run.tasks) == 2
    captured.assert_tree("threads\n  plain  x2\nplain  {otelflow.task.orphan=true}")
    assert len(captured.find(attributes={"otelflow.task.orphan": True})) == 1
