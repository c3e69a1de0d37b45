"""The program of ``soak.py``: it runs everything that a flow may meet, again and again, and measures leftovers.

At the end, it prints the measurements from after the warm-up and from the end, as JSON.
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


class EndedSpans(SpanProcessor):
    """A span processor that counts ended spans in this process, independent of otelflow's own counts."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
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


# --- flows ------------------------------------------------------------------------------------------------------------


@flow
def plain() -> int:
    print("a line of output")
    return sum(step(number) for number in range(20))


@flow(flow_config=FlowRunConfig(max_messages=100, max_tasks=10, started_marker=True))
def many_messages(this_flow: Any = None) -> None:
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
    unclosed = numbers()
    next(unclosed)  # dropped without close()


@flow
def nested(depth: int) -> None:
    step(depth)
    if depth:
        nested(depth - 1).execute()


@flow
async def gathers() -> None:
    await asyncio.gather(*(wait(0.001) for _ in range(10)))
    pending = asyncio.ensure_future(wait(60))
    await asyncio.sleep(0)
    pending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pending
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(wait(60), 0.001)
    async for number in async_numbers():
        if number == 3:
            break


async def _run_coroutines() -> None:
    await asyncio.gather(*(gathers().execute_async() for _ in range(5)))
    cancelled = asyncio.ensure_future(gathers().execute_async())
    await asyncio.sleep(0)
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled


def run_loop() -> None:
    """Run coroutines that end, coroutines that are cancelled, and async generators that are not exhausted."""
    asyncio.run(_run_coroutines())


@flow
def pooled() -> list[int]:
    with propagate.propagating(ThreadPoolExecutor(2)) as pool:
        return list(pool.map(step, range(10)))


def with_headers() -> None:
    """Write headers and read them, and read invalid headers."""

    @flow
    def sends() -> dict[str, str]:
        return propagate.inject()

    for headers in (sends().execute().return_value, {"traceparent": "nonsense", "baggage": f"password={SECRET}"}):
        with propagate.attached(headers):
            step(1)


def with_listeners() -> None:
    """Add and remove listeners, one of which raises."""

    def raises(event: Any) -> None:
        raise RuntimeError("a listener")

    with flow_events.listen(raises), flow_events.listen(lambda event: repr(event)):
        plain().execute()


def run_twice() -> None:
    """Run one object twice, and a task without a flow."""
    prepared = nested(3)
    prepared.execute()
    prepared.execute()
    Task(step, 1).execute()


# --- other processes --------------------------------------------------------------------------------------------------


@flow
def in_workers() -> list[int]:
    """Run tasks in forked workers, whose spans this process sends."""
    with propagate.propagating(ProcessPoolExecutor(2, multiprocessing.get_context("fork"))) as pool:
        return list(pool.map(step, range(10)))


class Children:
    """Children that are forked while other threads run flows. Each runs a flow, sends it, and reports its counts."""

    MAX_RUNNING = 6
    TIMEOUT = 90.0
    """Seconds until a child that does not end is killed: longer than any outage."""

    def __init__(self) -> None:
        self._running: list[tuple[int, int]] = []
        self._lock = FreshLock()
        self.totals = dict.fromkeys(("children", "ended", "produced", "delivered", "lost", "stuck"), 0)

    def fork(self) -> None:
        """Fork another child."""
        if len(self._running) >= self.MAX_RUNNING:
            self.wait_for(1)
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            self._run_child(write_end)
        os.close(write_end)
        with self._lock:
            self._running.append((child, read_end))

    def _run_child(self, write_end: int) -> None:
        code = 1
        try:
            nested(2).execute()
            report, stats = otelflow.shutdown(60), otelflow.stats()
            facts = {"ended": ended_spans.number, "produced": stats.produced, "delivered": report.delivered}
            facts["lost"] = sum(report.lost.values())
            os.write(write_end, json.dumps(facts).encode())
            code = 0
        finally:
            os._exit(code)

    def wait_for(self, number: int) -> None:
        """Wait until ``number`` children have ended, the oldest first."""
        for _ in range(number):
            with self._lock:
                if not self._running:
                    return
                child, read_end = self._running.pop(0)
            facts: dict[str, int] = {"stuck": 1}
            if select.select([read_end], [], [], self.TIMEOUT)[0]:
                facts = json.loads(os.read(read_end, 4096) or b'{"stuck": 1}')
            else:
                os.kill(child, signal.SIGKILL)
            os.close(read_end)
            os.waitpid(child, 0)
            with self._lock:
                for name, value in {"children": 1, **facts}.items():
                    self.totals[name] = self.totals.get(name, 0) + value


children = Children()
ended_spans = EndedSpans()


WORK: list[Callable[[], object]] = [
    lambda: plain().execute(),
    lambda: many_messages().execute(),
    lambda: broken().execute(),
    lambda: closed_early().execute(),
    lambda: pooled().execute(),
    *(run_loop, with_headers, with_listeners, run_twice),
]
# gRPC's own fork handlers block one child in a hundred.
if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") != "grpc":
    WORK.append(children.fork)


def run_round() -> None:
    """Run all work in four threads, then once in this thread."""
    threads = [threading.Thread(target=part) for part in WORK for _ in range(2)]
    for group in (threads[start : start + 4] for start in range(0, len(threads), 4)):
        for thread in group:
            thread.start()
        for thread in group:
            thread.join()
    for part in WORK:
        part()
    in_workers().execute()  # not in a thread: multiprocessing's children flush what other threads print


# --- leftovers --------------------------------------------------------------------------------------------------------

RUN_CLASSES = (
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
    """Return the resident memory of this process, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def measure() -> dict[str, int]:
    """Send everything, then count what is left.

    The newest events and the queued measurements of metrics are bounded: they are cleared first and are no growth.
    """
    children.wait_for(Children.MAX_RUNNING * 3)
    otelflow.flush(120)
    measures.process()
    flow_events.clear_history()
    time.sleep(0.2)  # for threads to end
    for _ in range(3):
        gc.collect()
    kinds: dict[str, int] = dict.fromkeys(RUN_CLASSES, 0)
    for item in gc.get_objects():
        if (name := type(item).__name__) in kinds:
            kinds[name] += 1
    return {
        "resident memory": resident(),
        "allocated blocks": sys.getallocatedblocks(),
        "threads": threading.active_count(),
        "file descriptors": len(os.listdir("/proc/self/fd")),
        "listeners": len(flow_events.event_listeners),
        "attached contexts": len(get_current()),
        "fork hooks": FORK_HOOKS[0],
        "watched flows": len(markers.open),
        "objects of runs": sum(kinds.values()),
    }


FORK_HOOKS = [0]


def count_fork_hooks() -> None:
    """Count calls of ``os.register_at_fork``. A hook stays until the process ends, so their number must not grow."""
    register = os.register_at_fork

    def counted(**hooks: Any) -> None:
        FORK_HOOKS[0] += 1
        register(**hooks)

    os.register_at_fork = counted


def run_rounds(min_rounds: int, seconds: float) -> int:
    """Run at least ``min_rounds`` rounds, for at least ``seconds``. Return their number."""
    rounds, end = 0, time.monotonic() + seconds
    while rounds < min_rounds or time.monotonic() < end:
        run_round()
        rounds += 1
        print("ROUND", file=sys.stderr, flush=True)
    return rounds


def main(warm_up: int, warm_up_seconds: float, rounds: int, seconds: float) -> None:
    """Warm up, measure, run the rounds, and measure again."""
    count_fork_hooks()
    provider: Any = otelflow.configure("soak")
    provider.add_span_processor(ended_spans)
    stdout, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115  # the flows' output is not the result
    run_rounds(warm_up, warm_up_seconds)
    before = measure()
    rounds_done = run_rounds(rounds, seconds)
    after, report, stats = measure(), otelflow.flush(120), otelflow.stats()
    sys.stdout.close()
    sys.stdout = stdout
    print(
        json.dumps(
            {
                "rounds": rounds_done,
                "children": children.totals,
                "before": before,
                "after": after,
                "ended": ended_spans.number,
                "produced": stats.produced,
                "delivered": report.delivered,
                "pending": report.pending,
                "lost": report.lost,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
