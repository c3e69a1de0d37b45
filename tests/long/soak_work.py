"""The program of ``soak.py``: everything that a flow may meet, over and over, and what is left of it in the end.

Says as JSON, at the end, what it measured after it had warmed up and when it had done.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor

import otelflow
from otelflow import FlowRunConfig, Task, flow, flow_events, propagate, task
from otelflow._metrics.measurements import measures
from otelflow._runs.markers import markers
from otelflow._runtime.fork import FreshLock
from otelflow.context import get_current

SECRET = "hunter2-is-no-password"


class Ended(SpanProcessor):
    """Counts the spans that end in this process, beside otelflow's own account."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self.number = 0

    def on_end(self, span: Any) -> None:
        if span.context.trace_flags.sampled:
            with self._lock:
                self.number += 1


@task
def step(number: int, password: str = SECRET, this_task: Any = None) -> int:
    this_task.log_info("working", number=number, password=password)
    return number


@task(raise_on_error=False)
def tolerated() -> None:
    raise OSError("disk full")


@task
def failing() -> None:
    raise ValueError("no")


@task
def numbers() -> Iterator[int]:
    yield from range(100)


@task
async def wait(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task
async def async_numbers() -> AsyncIterator[int]:
    for number in range(100):
        yield number


# --- what flows do ----------------------------------------------------------------------------------------------------


@flow
def plain() -> int:
    print("a line of output")
    return sum(step(number) for number in range(20))


@flow(flow_config=FlowRunConfig(max_messages=100, max_tasks=10, started_marker=True))
def talkative(this_flow: Any = None) -> None:
    for number in range(400):
        this_flow.log_info(f"message {number}", password=SECRET)
    for number in range(30):
        step(number)
    this_flow.add_flow_artifact("A large one", "rows", [{"row": number, "token": SECRET} for number in range(5000)])
    this_flow.add_flow_result("rows", "5000")
    this_flow.progress(1, 2)


@flow(flow_config=FlowRunConfig(raise_flow_error=False))
def broken() -> None:
    tolerated()
    with contextlib.suppress(ValueError):
        failing()
    failing()


@flow
def closed_early() -> None:
    for iterator in (numbers(), numbers()):
        next(iterator)
        iterator.close()
    left = numbers()
    next(left)  # dropped without a word


@flow
def nested(depth: int) -> None:
    step(depth)
    if depth:
        nested(depth - 1).execute()


@flow
async def gathers() -> None:
    await asyncio.gather(*(wait(0.001) for _ in range(10)))
    waiting = asyncio.ensure_future(wait(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(wait(60), 0.001)
    async for number in async_numbers():
        if number == 3:
            break


async def _on_a_loop() -> None:
    await asyncio.gather(*(gathers().execute_async() for _ in range(5)))
    cancelled = asyncio.ensure_future(gathers().execute_async())
    await asyncio.sleep(0)
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled


def loop() -> None:
    """Coroutines that end, that are cancelled, and async generators that are left."""
    asyncio.run(_on_a_loop())


@flow
def pooled() -> list[int]:
    with propagate.propagating(ThreadPoolExecutor(2)) as pool:
        return list(pool.map(step, range(10)))


def carried() -> None:
    """Headers out and in, those of somebody else too."""

    @flow
    def sends() -> dict[str, str]:
        return propagate.inject()

    for headers in (sends().execute().return_value, {"traceparent": "nonsense", "baggage": f"password={SECRET}"}):
        with propagate.attached(headers):
            step(1)


def heard() -> None:
    """Listeners that come and go, one of which raises."""

    def raises(event: Any) -> None:
        raise RuntimeError("a listener")

    with flow_events.listen(raises), flow_events.listen(lambda event: repr(event)):
        plain().execute()


def again() -> None:
    """One object that runs twice, and a task without a flow."""
    prepared = nested(3)
    prepared.execute()
    prepared.execute()
    Task(step, 1).execute()


# --- other processes --------------------------------------------------------------------------------------------------


@flow
def in_workers() -> list[int]:
    """Forked workers, whose spans this process sends."""
    with propagate.propagating(ProcessPoolExecutor(2, multiprocessing.get_context("fork"))) as pool:
        return list(pool.map(step, range(10)))


class Children:
    """Forked while other threads are in the middle of their flows: each runs a flow of its own, sends that, and says
    what became of it."""

    MOST = 6
    PATIENCE = 90.0
    """Seconds until one that does not end is ended: more than any outage lasts."""

    def __init__(self) -> None:
        self._running: list[tuple[int, int]] = []
        self._lock = FreshLock()
        self.told = dict.fromkeys(("children", "ended", "produced", "delivered", "lost", "stuck"), 0)

    def fork(self) -> None:
        """One child more."""
        if len(self._running) >= self.MOST:
            self.wait_for(1)
        here, there = os.pipe()
        child = os.fork()
        if not child:
            self._be_a_child(there)
        os.close(there)
        with self._lock:
            self._running.append((child, here))

    def _be_a_child(self, there: int) -> None:
        code = 1
        try:
            nested(2).execute()
            report, stats = otelflow.shutdown(60), otelflow.stats()
            facts = {"ended": ended.number, "produced": stats.produced, "delivered": report.delivered}
            facts["lost"] = sum(report.lost.values())
            os.write(there, json.dumps(facts).encode())
            code = 0
        finally:
            os._exit(code)

    def wait_for(self, number: int) -> None:
        """Until so many of them have ended, the oldest first."""
        for _ in range(number):
            with self._lock:
                if not self._running:
                    return
                child, here = self._running.pop(0)
            facts: dict[str, int] = {"stuck": 1}
            if select.select([here], [], [], self.PATIENCE)[0]:
                facts = json.loads(os.read(here, 4096) or b'{"stuck": 1}')
            else:
                os.kill(child, signal.SIGKILL)
            os.close(here)
            os.waitpid(child, 0)
            with self._lock:
                for name, many in {"children": 1, **facts}.items():
                    self.told[name] = self.told.get(name, 0) + many


children = Children()
ended = Ended()


WORK: list[Callable[[], object]] = [
    lambda: plain().execute(),
    lambda: talkative().execute(),
    lambda: broken().execute(),
    lambda: closed_early().execute(),
    lambda: pooled().execute(),
    *(loop, carried, heard, again),
]
if (
    os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") != "grpc"
):  # whose own fork handlers leave one child in a hundred stuck
    WORK.append(children.fork)


def one_round() -> None:
    """Everything once, in four threads."""
    threads = [threading.Thread(target=part) for part in WORK for _ in range(2)]
    for group in (threads[start : start + 4] for start in range(0, len(threads), 4)):
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()
    for part in WORK:
        part()
    in_workers().execute()  # no other thread prints now: multiprocessing's children flush what is printed


# --- what is left -----------------------------------------------------------------------------------------------------

OF_A_RUN = (
    "Flow",
    "Task",
    "RunMemory",
    "Definition",
    "LeanSpan",
    "_Span",
    "Span",
    "Context",
    "Message",
    "Artifact",
    "BoundFunction",
)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def look() -> dict[str, int]:
    """What may have been left behind, once everything has been sent. The newest events, and the notes that metrics are
    made of, wait in bounded numbers: they are no growth."""
    children.wait_for(Children.MOST * 3)
    otelflow.flush(120)
    measures.process()
    flow_events.clear_history()
    time.sleep(0.2)  # threads that end
    for _ in range(3):
        gc.collect()
    kinds: dict[str, int] = dict.fromkeys(OF_A_RUN, 0)
    for kept in gc.get_objects():
        if (name := type(kept).__name__) in kinds:
            kinds[name] += 1
    return {
        "resident memory": resident(),
        "allocated blocks": sys.getallocatedblocks(),
        "threads": threading.active_count(),
        "file descriptors": len(os.listdir("/proc/self/fd")),
        "listeners": len(flow_events.event_listeners),
        "attached contexts": len(get_current()),
        "fork hooks": HOOKS[0],
        "watched flows": len(markers.open),
        "objects of runs": sum(kinds.values()),
    }


HOOKS = [0]


def count_fork_hooks() -> None:
    """What is registered stays until the process ends, so there must be no more of it."""
    register = os.register_at_fork

    def counted(**hooks: Any) -> None:
        HOOKS[0] += 1
        register(**hooks)

    os.register_at_fork = counted


def run_rounds(least: int, seconds: float) -> int:
    """Run rounds until there were ``least`` of them and ``seconds`` are over. Returns how many."""
    done, end = 0, time.monotonic() + seconds
    while done < least or time.monotonic() < end:
        one_round()
        done += 1
        print("ROUND", file=sys.stderr, flush=True)
    return done


def main(warm_up: int, warm_up_seconds: float, rounds: int, seconds: float) -> None:
    """Warm up, look, run as many rounds as are wanted, look again."""
    count_fork_hooks()
    provider: Any = otelflow.configure("soak")
    provider.add_span_processor(ended)
    stdout, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115  # what flows print is no result
    run_rounds(warm_up, warm_up_seconds)
    before = look()
    done = run_rounds(rounds, seconds)
    after, report, stats = look(), otelflow.flush(120), otelflow.stats()
    sys.stdout.close()
    sys.stdout = stdout
    print(
        json.dumps(
            {
                "rounds": done,
                "children": children.told,
                "before": before,
                "after": after,
                "ended": ended.number,
                "produced": stats.produced,
                "delivered": report.delivered,
                "pending": report.pending,
                "lost": report.lost,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
