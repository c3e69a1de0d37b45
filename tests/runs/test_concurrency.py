"""Test many runs at once: with each kind of concurrency, a task belongs to its own flow and to no other."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from otelflow import Flow, current_flow, current_task, flow, propagate, task
from otelflow.testing import Capture

RUNS, TASKS = 20, 3


NUMBERS = range(TASKS)


Step = Callable[[int], Any]


new_in_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")


class Meeting:
    """A barrier: the first task of each run waits for those of all other runs, so all runs are in progress at once."""

    def __init__(self) -> None:
        self.missing = RUNS
        self.barrier = threading.Barrier(RUNS, timeout=20)

    async def wait(self) -> None:
        """Wait on the event loop."""
        self.missing -= 1
        with anyio.fail_after(20):
            while self.missing:
                await checkpoint()


@task
def detail(label: int, number: int) -> None:
    """Print a line in pieces. This is a task within a task."""
    for part in (f"{label}.{number}", " detail", "\n"):
        sys.stdout.write(part)


@task
async def async_step(meeting: Meeting, label: int, number: int, this_task: Any = None, this_flow: Any = None) -> None:
    """Send messages on the span of the task and on that of its flow. ``label`` is the number of the run."""
    this_task.log_info(f"{label}.{number} begins")
    await (meeting.wait() if number == 0 else checkpoint())
    detail(label, number)
    await checkpoint()
    this_flow.log_info(f"{label}.{number} ends")


@task
def step(meeting: Meeting, label: int, number: int, this_task: Any = None, this_flow: Any = None) -> None:
    """Do the same as ``async_step``, as a plain function."""
    this_task.log_info(f"{label}.{number} begins")
    if number == 0:
        meeting.barrier.wait()
    detail(label, number)
    this_flow.log_info(f"{label}.{number} ends")


# --- kinds of concurrency --------------------------------------------------------------------------------------------

WAYS: list[Any] = []


def way(*backends: str, tasks: Any = async_step, marks: Any = ()) -> Callable[[Any], Any]:
    """Register a function that runs all tasks of one flow. ``tasks`` is the kind of task. Such flows run at once on
    each of ``backends``: an event loop, or one thread a flow. All flows share the pool."""

    def add(spread: Any) -> Any:
        ids = {backend: f"{backend}-{spread.__name__}" for backend in backends}
        WAYS.extend(pytest.param(spread, backend, tasks, marks=marks, id=ids[backend]) for backend in backends)
        return spread

    return add


@way("asyncio", "trio")
async def awaited_one_after_the_other(do: Step, pool: Any) -> None:
    for number in NUMBERS:
        await do(number)


@way("asyncio")
async def gather(do: Step, pool: Any) -> None:
    await asyncio.gather(*map(do, NUMBERS))


@way("asyncio")
async def create_task(do: Step, pool: Any) -> None:
    for asyncio_task in [asyncio.create_task(do(number)) for number in NUMBERS]:
        await asyncio_task


@way("asyncio", marks=new_in_311)
async def task_group(do: Step, pool: Any) -> None:
    async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
        for number in NUMBERS:
            group.create_task(do(number))


@way("asyncio", marks=new_in_311)
async def timeout(do: Step, pool: Any) -> None:
    async with asyncio.timeout(60):  # type: ignore[attr-defined]
        await asyncio.gather(*map(do, NUMBERS))


@way("asyncio")
async def wait_for(do: Step, pool: Any) -> None:
    for number in NUMBERS:
        await asyncio.wait_for(do(number), 60)


@way("asyncio", tasks=step)
async def to_thread(do: Step, pool: Any) -> None:
    await asyncio.gather(*(asyncio.to_thread(do, number) for number in NUMBERS))


@way("asyncio", tasks=step)
async def run_in_executor_with_a_bound_function(do: Step, pool: Any) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, propagate.bind(do), number) for number in NUMBERS))


@way("asyncio", tasks=step)
async def run_in_a_propagating_executor(do: Step, pool: Any) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, do, number) for number in NUMBERS))


@way("asyncio", "trio")
async def anyio_task_group(do: Step, pool: Any) -> None:
    async with anyio.create_task_group() as group:
        for number in NUMBERS:
            group.start_soon(do, number)


@way("asyncio", "trio", tasks=step)
async def anyio_to_thread(do: Step, pool: Any) -> None:
    async with anyio.create_task_group() as group:
        for number in NUMBERS:
            group.start_soon(anyio.to_thread.run_sync, do, number)


@way("trio")
async def trio_nursery(do: Step, pool: Any) -> None:
    async with trio.open_nursery() as nursery:
        for number in NUMBERS:
            nursery.start_soon(do, number)


@way("trio", tasks=step)
async def trio_to_thread(do: Step, pool: Any) -> None:
    async with trio.open_nursery() as nursery:
        for number in NUMBERS:
            nursery.start_soon(trio.to_thread.run_sync, do, number)


@way("threads", tasks=step)
def called_one_after_the_other(do: Step, pool: Any) -> None:
    for number in NUMBERS:
        do(number)


@way("threads", tasks=step)
def thread(do: Step, pool: Any) -> None:
    in_threads(functools.partial(propagate.bind(do), number) for number in NUMBERS)


@way("threads", tasks=step)
def pool_map(do: Step, pool: Any) -> None:
    list(pool.map(do, NUMBERS))


@way("threads", tasks=step)
def pool_submit(do: Step, pool: Any) -> None:
    for future in [pool.submit(do, number) for number in NUMBERS]:
        future.result()


def in_threads(targets: Iterable[Callable[[], Any]]) -> None:
    """Run all targets, each in a thread of its own."""
    threads = [threading.Thread(target=target) for target in targets]
    for started in threads:
        started.start()
    for started in threads:
        started.join()


def at_once(runs: list[Any], backend: str) -> None:
    """Execute all the flows at the same time."""

    async def on_loop() -> None:
        if backend == "asyncio":
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(RUNS))
        async with anyio.create_task_group() as group:
            for run in runs:
                group.start_soon(run.execute_async)

    if backend == "threads":
        in_threads(run.execute for run in runs)
    else:
        anyio.run(on_loop, backend=backend)


# --- tests -----------------------------------------------------------------------------------------------------------


def assert_has_only_its_own(run: Flow[Any], label: int, captured: Capture) -> None:
    """Assert that the run has all of its own tasks and messages and no others: by its spans, and by the Flow object."""
    spans = captured.find(attributes={"otelflow.flow.run_id": run.run_id})
    (root,) = [span for span in spans if span.span_id == run.span_id]
    assert len(spans) == 1 + 2 * TASKS
    assert {root, *root.descendants} == set(spans)
    assert sorted(root.messages) == [f"{label}.{number} ends" for number in NUMBERS]
    assert sorted(child.messages for child in root.children) == [[f"{label}.{number} begins"] for number in NUMBERS]
    for child in root.children:
        assert [below.messages for below in child.children] == [[child.messages[0].replace("begins", "detail")]]
    assert {span.status for span in spans} == {"completed"}
    assert root.attributes["otelflow.flow.tasks"] == len(run.tasks) == 2 * TASKS
    assert {task_run.flow for task_run in run.tasks} == {run}
    assert sorted(run.messages) == sorted(text for span in spans for text in span.messages)


@pytest.mark.parametrize(("spread", "backend", "tasks"), WAYS)
def test_each_task_belongs_to_its_own_flow(spread: Any, backend: str, tasks: Any, captured: Capture) -> None:
    """Twenty flows run at once: every task has its flow's run id and its parent, and every message its flow."""
    meeting = Meeting()

    def plain(label: int) -> None:
        spread(functools.partial(tasks, meeting, label), pool)

    async def coroutine(label: int) -> None:
        await spread(functools.partial(tasks, meeting, label), pool)

    work = flow(plain if backend == "threads" else coroutine)
    runs = [work(label) for label in range(RUNS)]
    with propagate.propagating(ThreadPoolExecutor(RUNS)) as pool:
        at_once(runs, backend)
    for label, run in enumerate(runs):
        assert_has_only_its_own(run, label, captured)
    assert len(captured.spans) == RUNS * (1 + 2 * TASKS)
    assert (current_flow(), current_task()) == (None, None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_nested_flows_and_flows_in_tasks(backend: str, captured: Capture) -> None:
    """A flow in a flow and a flow in a task each have their own tasks, messages and place in the trace."""
    meeting = Meeting()
    nested: dict[int, Any] = {}
    in_task: dict[int, Any] = {}

    @flow
    async def inner(label: int) -> None:
        await anyio_task_group(functools.partial(async_step, meeting, label), None)

    async def store(runs_by_label: dict[int, Any], label: int) -> None:
        runs_by_label[label] = await inner(label)

    @task
    async def starts(label: int) -> None:
        await store(in_task, label)

    @flow
    async def outer(label: int, this_flow: Any = None) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(store, nested, label)
            group.start_soon(starts, RUNS // 2 + label)
        this_flow.log_info(f"outer {label}")

    runs = [outer(label) for label in range(RUNS // 2)]
    at_once(runs, backend)
    for label, run in {**nested, **in_task}.items():
        assert_has_only_its_own(run, label, captured)
    parents = {span.span_id: span.parent.span_id for span in captured.spans if span.parent}
    for label, run in enumerate(runs):
        (starter,) = run.tasks
        assert parents[nested[label].span_id] == parents[starter.span_id] == run.span_id
        assert parents[in_task[RUNS // 2 + label].span_id] == starter.span_id
        assert run.messages == [f"outer {label}"]


def test_a_worker_keeps_nothing_of_the_previous_job() -> None:
    """The next job on the same thread, submitted outside a flow, has no current flow."""

    @flow
    def work(pool: Executor) -> Any:
        return pool.submit(current_flow).result()

    with ThreadPoolExecutor(1) as bare:
        run = work(propagate.propagating(bare)).execute()
        assert run.return_value is run
        assert bare.submit(current_flow).result() is None
