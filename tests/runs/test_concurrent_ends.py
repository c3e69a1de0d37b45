"""Test how concurrent work ends: after its flow, cancelled, timed out, or with one failing task in a group."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint
from conftest import texts

from otelflow import FlowRunConfig, Task, flow, flow_events, propagate, stats, task
from otelflow.testing import Capture

RUNS, TASKS = 20, 3

new_in_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")


def at_once(runs: list[Any], backend: str) -> None:
    """Execute all the flows at the same time, on one event loop."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(run.execute_async)

    anyio.run(main, backend=backend)


# --- tasks that outlive their flow -----------------------------------------------------------------------------------

LATE = ("tasks_after_end", "messages_after_end", "artifacts_after_end", "results_after_end")


@task
def begins_late(this_task: Any = None, this_flow: Any = None) -> None:
    """Send events to the flow. This task starts when its flow has ended."""
    this_task.log_info("late")
    this_flow.log_info("too late")
    this_flow.add_artifact(key="too late")
    this_flow.add_result("too late")


@task
async def async_outlives(started: Any, flow_ended: Any, this_task: Any = None) -> Task:
    """Start in the flow and end after it."""
    this_task.log_info("in time")
    started.set()
    await flow_ended.wait()
    this_task.log_info("afterwards")
    begins_late()
    return this_task  # type: ignore[no-any-return]


@task
def outlives(started: Any, flow_ended: Any, this_task: Any = None) -> Task:
    """Do the same as ``async_outlives``, as a plain function."""
    this_task.log_info("in time")
    started.set()
    flow_ended.wait(20)
    this_task.log_info("afterwards")
    begins_late()
    return this_task  # type: ignore[no-any-return]


def on_a_loop() -> tuple[list[Any], list[Task]]:
    """Run flows that each leave an asyncio task running; return the flows, and the tasks when they have ended."""
    running: list[Any] = []

    @flow
    async def forgets(flow_ended: Any) -> None:
        started = asyncio.Event()
        running.append(asyncio.create_task(async_outlives(started, flow_ended)))
        await started.wait()

    async def main() -> tuple[list[Any], list[Task]]:
        flow_ended = asyncio.Event()
        runs = await asyncio.gather(*(forgets(flow_ended).execute_async() for _ in range(RUNS)))
        flow_ended.set()
        return runs, await asyncio.gather(*running)

    return asyncio.run(main())


def in_a_pool() -> tuple[list[Any], list[Task]]:
    """Do the same as ``on_a_loop``, with a job in a pool for each flow."""
    futures: list[Any] = []
    flow_ended = threading.Event()

    @flow
    def forgets() -> None:
        started = threading.Event()
        futures.append(pool.submit(outlives, started, flow_ended))
        started.wait(20)

    with propagate.propagating(ThreadPoolExecutor(RUNS)) as pool:
        runs = [forgets().execute() for _ in range(RUNS)]
        flow_ended.set()
        return runs, [future.result() for future in futures]


@pytest.mark.parametrize("run_flows", [on_a_loop, in_a_pool])
def test_a_finished_flow_does_not_change_when_its_tasks_go_on(run_flows: Any, captured: Capture) -> None:
    """Spans have the right parents; the Flow object does not change; each late item is counted once."""
    before = Counter(stats().dropped)
    runs, tasks = run_flows()
    late = Counter(stats().dropped) - before
    assert {reason: late[reason] for reason in LATE} == dict.fromkeys(LATE, RUNS)
    captured.assert_tree(f"forgets  x{RUNS}\n  *outlives\n    begins_late")
    assert {span.attributes["otelflow.flow.tasks"] for span in captured.flows} == {1}
    parents = {span.span_id: span.parent.span_id for span in captured.spans if span.parent}
    for run, task_run in zip(runs, tasks, strict=True):
        assert (run.tasks, run.messages, run.artifacts, run.results) == ([task_run], ["in time"], [], [])
        assert (task_run.flow, task_run.status, task_run.messages) == (run, "completed", ["in time", "afterwards"])
        assert parents[task_run.span_id] == run.span_id


# --- cancelled and failing -------------------------------------------------------------------------------------------


@task
async def waits(report_start: Any) -> None:
    """Wait until the task is cancelled."""
    report_start()
    await anyio.sleep_forever()


@task
async def fails(ready: Any) -> None:
    """Fail when the other tasks have started."""
    await ready()
    raise ValueError("of one")


@task
def goes_on() -> None:
    """Do nothing. The flow calls this task after the cancellation."""


class StartCounter:
    """Counts the tasks that have started, and waits for all tasks of a run."""

    def __init__(self) -> None:
        self.missing = TASKS

    def add(self) -> None:
        """Count one task."""
        self.missing -= 1

    async def wait_for_all(self) -> None:
        """Wait until all tasks have started."""
        while self.missing:
            await checkpoint()


def statuses(captured: Capture) -> dict[tuple[str, str], int]:
    """Return the number of spans by name and status."""
    return Counter((run.name, run.status) for run in captured.spans)


@pytest.fixture
def ended_once(captured: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Assert after the test that each run started once and stopped once, and that OpenTelemetry logged nothing."""
    yield
    ends = [text for text in texts(captured.events) if text.endswith(("_START", "_STOP"))]
    assert len(ends) == 2 * len(captured.spans)  # every capture asserts that each span has one of both
    assert not caplog.get_records("call")


@new_in_311
@pytest.mark.usefixtures("ended_once")
def test_tasks_that_time_out_are_cancelled(captured: Capture) -> None:
    """With asyncio.timeout. The flow catches the TimeoutError, goes on, and completes."""

    async def times_out() -> None:
        starts = StartCounter()
        async with asyncio.timeout(None) as limit:  # type: ignore[attr-defined]
            tasks = asyncio.gather(*(waits(starts.add) for _ in range(TASKS)))
            await starts.wait_for_all()
            limit.reschedule(0)
            await tasks

    @flow
    async def limited() -> None:
        with pytest.raises(TimeoutError):
            await times_out()
        goes_on()

    at_once([limited() for _ in range(RUNS)], "asyncio")
    assert statuses(captured) == {
        ("waits", "cancelled"): RUNS * TASKS,
        ("goes_on", "completed"): RUNS,
        ("limited", "completed"): RUNS,
    }


async def in_asyncio_group(tasks: list[Any]) -> None:
    async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
        for function in tasks:
            group.create_task(function())


async def in_anyio_group(tasks: list[Any]) -> None:
    async with anyio.create_task_group() as group:
        for function in tasks:
            group.start_soon(function)


async def in_nursery(tasks: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        for function in tasks:
            nursery.start_soon(function)


@pytest.mark.usefixtures("ended_once")
@pytest.mark.parametrize(
    ("run_group", "backend"),
    [
        pytest.param(in_asyncio_group, "asyncio", marks=new_in_311),
        (in_anyio_group, "asyncio"),
        (in_anyio_group, "trio"),
        (in_nursery, "trio"),
    ],
)
def test_one_task_of_a_group_fails(run_group: Any, backend: str, captured: Capture) -> None:
    """The others are cancelled; the flow fails with the group's exception; each exception is recorded once."""

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    async def failing() -> None:
        starts = StartCounter()
        await run_group(
            [functools.partial(fails, starts.wait_for_all), *[functools.partial(waits, starts.add)] * TASKS]
        )

    runs: list[Any] = [failing() for _ in range(RUNS)]
    at_once(runs, backend)
    assert statuses(captured) == {
        ("waits", "cancelled"): RUNS * TASKS,
        ("fails", "failed"): RUNS,
        ("failing", "failed"): RUNS,
    }
    for run in runs:
        assert [repr(error) for error in run.error.exceptions] == ["ValueError('of one')"]
        assert Counter(task_run.status for task_run in run.tasks) == {"cancelled": TASKS, "failed": 1}
    exceptions = Counter(span.name for span in captured.spans for event in span.events if event.name == "exception")
    assert exceptions == {"fails": RUNS, "failing": RUNS}
    assert {span.attributes["otelflow.flow.tasks_failed"] for span in captured.flows} == {1}


@pytest.mark.usefixtures("ended_once")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_flow_that_is_cancelled_from_outside(backend: str, captured: Capture) -> None:
    """It and its tasks are cancelled, which is not a failure; the flows around it complete."""

    @flow
    async def endless(starts: StartCounter) -> None:
        await in_anyio_group([functools.partial(waits, starts.add)] * TASKS)

    @flow
    async def cancels() -> None:
        starts = StartCounter()
        async with anyio.create_task_group() as group:
            group.start_soon(endless(starts).execute_async)
            await starts.wait_for_all()
            group.cancel_scope.cancel()
        goes_on()

    at_once([cancels() for _ in range(RUNS)], backend)
    assert statuses(captured) == {
        ("waits", "cancelled"): RUNS * TASKS,
        ("endless", "cancelled"): RUNS,
        ("goes_on", "completed"): RUNS,
        ("cancels", "completed"): RUNS,
    }


class Slow:
    """An object whose str() waits for the end of the flow: so the flow ends in the middle of log_info()."""

    def __init__(self) -> None:
        self.str_called, self.flow_ended = threading.Event(), threading.Event()

    def __str__(self) -> str:
        self.str_called.set()
        self.flow_ended.wait(20)
        return "slow"


@task
def says(this_flow: Any, text: Any) -> None:
    this_flow.log_info(text)


@pytest.mark.parametrize("sender", ["a task", "the flow's own code"])
def test_a_message_while_the_flow_ends(sender: str, captured: Capture, caplog: pytest.LogCaptureFixture) -> None:
    """It raises nothing to its sender. It is on the span and in messages, or it is counted. The history can be read."""
    slow = Slow()
    send: Any = says if sender == "a task" else says.__wrapped__
    before = stats().dropped.get("messages_after_end", 0)

    @flow
    def ends(this_flow: Any = None) -> Any:
        future = pool.submit(send, this_flow, slow)
        assert slow.str_called.wait(20)
        return future

    with propagate.propagating(ThreadPoolExecutor(1)) as pool:
        run: Any = ends().execute()
        slow.flow_ended.set()
        run.return_value.result()
    assert len(run.messages) + stats().dropped.get("messages_after_end", 0) - before == 1
    assert len(run.messages) == len(captured.flow("ends").events)
    assert not caplog.records
    assert [event.event_data.flow_run_id for event in flow_events.history()]
