"""How work that runs at once ends: after its flow, cancelled, out of time, or with one task of a group failing."""

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
    """A task that begins when its flow is over, and speaks to it."""
    this_task.log_info("late")
    this_flow.log_info("too late")
    this_flow.add_artifact(key="too late")
    this_flow.add_result("too late")


@task
async def async_outlives(begun: Any, over: Any, this_task: Any = None) -> Task:
    """A task that begins in its flow and ends after it."""
    this_task.log_info("in time")
    begun.set()
    await over.wait()
    this_task.log_info("afterwards")
    begins_late()
    return this_task  # type: ignore[no-any-return]


@task
def outlives(begun: Any, over: Any, this_task: Any = None) -> Task:
    """The same as a plain function."""
    this_task.log_info("in time")
    begun.set()
    over.wait(20)
    this_task.log_info("afterwards")
    begins_late()
    return this_task  # type: ignore[no-any-return]


def on_a_loop() -> tuple[list[Any], list[Task]]:
    """Flows that each leave an asyncio task behind, and what those come to when the flows are over."""
    left: list[Any] = []

    @flow
    async def forgets(over: Any) -> None:
        begun = asyncio.Event()
        left.append(asyncio.create_task(async_outlives(begun, over)))
        await begun.wait()

    async def main() -> tuple[list[Any], list[Task]]:
        over = asyncio.Event()
        runs = await asyncio.gather(*(forgets(over).execute_async() for _ in range(RUNS)))
        over.set()
        return runs, await asyncio.gather(*left)

    return asyncio.run(main())


def in_a_pool() -> tuple[list[Any], list[Task]]:
    """The same with a job in a pool each."""
    left: list[Any] = []
    over = threading.Event()

    @flow
    def forgets() -> None:
        begun = threading.Event()
        left.append(pool.submit(outlives, begun, over))
        begun.wait(20)

    with propagate.propagating(ThreadPoolExecutor(RUNS)) as pool:
        runs = [forgets().execute() for _ in range(RUNS)]
        over.set()
        return runs, [future.result() for future in left]


@pytest.mark.parametrize("leave", [on_a_loop, in_a_pool])
def test_a_finished_flow_is_closed_to_what_it_left_behind(leave: Any, captured: Capture) -> None:
    """Its spans have the right parents; the Flow object stays as it was; what came too late is counted, each once."""
    before = Counter(stats().dropped)
    runs, left = leave()
    late = Counter(stats().dropped) - before
    assert {reason: late[reason] for reason in LATE} == dict.fromkeys(LATE, RUNS)
    captured.assert_tree(f"forgets  x{RUNS}\n  *outlives\n    begins_late")
    assert {made.attributes["otelflow.flow.tasks"] for made in captured.flows} == {1}
    places = {made.span_id: made.parent.span_id for made in captured.spans if made.parent}
    for run, kept in zip(runs, left, strict=True):
        assert (run.tasks, run.messages, run.artifacts, run.results) == ([kept], ["in time"], [], [])
        assert (kept.flow, kept.status, kept.messages) == (run, "completed", ["in time", "afterwards"])
        assert places[kept.span_id] == run.span_id


# --- cancelled and failing -------------------------------------------------------------------------------------------


@task
async def waits(begun: Any) -> None:
    """A task that only ends when it is stopped."""
    begun()
    await anyio.sleep_forever()


@task
async def fails(ready: Any) -> None:
    """A task that fails when the others have begun."""
    await ready()
    raise ValueError("of one")


@task
def goes_on() -> None:
    """A task after all that."""


class Begun:
    """Waits for as many tasks to have begun as a run has."""

    def __init__(self) -> None:
        self.missing = TASKS

    def one(self) -> None:
        """One more has."""
        self.missing -= 1

    async def all(self) -> None:
        """Until they all have."""
        while self.missing:
            await checkpoint()


def statuses(captured: Capture) -> dict[tuple[str, str], int]:
    """How many spans there are of each name and status."""
    return Counter((run.name, run.status) for run in captured.spans)


@pytest.fixture
def ended_once(captured: Capture, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After the test: each run was started once and stopped once, and OpenTelemetry had nothing to complain about."""
    yield
    ends = [text for text in texts(captured.events) if text.endswith(("_START", "_STOP"))]
    assert len(ends) == 2 * len(captured.spans)  # that each span has one of both, every capture asserts
    assert not caplog.get_records("call")


@new_in_311
@pytest.mark.usefixtures("ended_once")
def test_tasks_that_run_out_of_time(captured: Capture) -> None:
    """asyncio.timeout: they are cancelled; the flow that catches the TimeoutError goes on, and completes."""

    async def times_out() -> None:
        begun = Begun()
        async with asyncio.timeout(None) as limit:  # type: ignore[attr-defined]
            tasks = asyncio.gather(*(waits(begun.one) for _ in range(TASKS)))
            await begun.all()
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
        for made in tasks:
            group.create_task(made())


async def in_anyio_group(tasks: list[Any]) -> None:
    async with anyio.create_task_group() as group:
        for made in tasks:
            group.start_soon(made)


async def in_nursery(tasks: list[Any]) -> None:
    async with trio.open_nursery() as nursery:
        for made in tasks:
            nursery.start_soon(made)


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
        begun = Begun()
        await run_group([functools.partial(fails, begun.all), *[functools.partial(waits, begun.one)] * TASKS])

    runs: list[Any] = [failing() for _ in range(RUNS)]
    at_once(runs, backend)
    assert statuses(captured) == {
        ("waits", "cancelled"): RUNS * TASKS,
        ("fails", "failed"): RUNS,
        ("failing", "failed"): RUNS,
    }
    for run in runs:
        assert [repr(error) for error in run.error.exceptions] == ["ValueError('of one')"]
        assert Counter(made.status for made in run.tasks) == {"cancelled": TASKS, "failed": 1}
    recorded = Counter(made.name for made in captured.spans for event in made.events if event.name == "exception")
    assert recorded == {"fails": RUNS, "failing": RUNS}
    assert {made.attributes["otelflow.flow.tasks_failed"] for made in captured.flows} == {1}


@pytest.mark.usefixtures("ended_once")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_flow_that_is_cancelled_from_outside(backend: str, captured: Capture) -> None:
    """It and its tasks are cancelled, which is no failure; the flows beside it complete."""

    @flow
    async def endless(begun: Begun) -> None:
        await in_anyio_group([functools.partial(waits, begun.one)] * TASKS)

    @flow
    async def beside() -> None:
        begun = Begun()
        async with anyio.create_task_group() as group:
            group.start_soon(endless(begun).execute_async)
            await begun.all()
            group.cancel_scope.cancel()
        goes_on()

    at_once([beside() for _ in range(RUNS)], backend)
    assert statuses(captured) == {
        ("waits", "cancelled"): RUNS * TASKS,
        ("endless", "cancelled"): RUNS,
        ("goes_on", "completed"): RUNS,
        ("beside", "completed"): RUNS,
    }


class Slow:
    """Its text is there when the flow has ended: so the flow ends in the middle of log_info()."""

    def __init__(self) -> None:
        self.asked, self.over = threading.Event(), threading.Event()

    def __str__(self) -> str:
        self.asked.set()
        self.over.wait(20)
        return "slow"


@task
def says(this_flow: Any, text: Any) -> None:
    this_flow.log_info(text)


@pytest.mark.parametrize("by", ["a task", "the flow's own code"])
def test_a_message_while_the_flow_ends(by: str, captured: Capture, caplog: pytest.LogCaptureFixture) -> None:
    """It raises nothing into who says it; it is on the span and in messages, or is counted; the history can be read."""
    slow = Slow()
    speak: Any = says if by == "a task" else says.__wrapped__
    before = stats().dropped.get("messages_after_end", 0)

    @flow
    def ends(this_flow: Any = None) -> Any:
        future = pool.submit(speak, this_flow, slow)
        assert slow.asked.wait(20)
        return future

    with propagate.propagating(ThreadPoolExecutor(1)) as pool:
        run: Any = ends().execute()
        slow.over.set()
        run.return_value.result()
    assert len(run.messages) + stats().dropped.get("messages_after_end", 0) - before == 1
    assert len(run.messages) == len(captured.flow("ends").events)
    assert not caplog.records
    assert [event.event_data.flow_run_id for event in flow_events.history()]
