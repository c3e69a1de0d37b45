"""Measure otelflow against the same span written by hand, with one kind of telemetry.

``bench.py`` runs this in a separate process for each mode, because a global provider can be set only once.
``python benchmarks/cases/cases.py MODE [--quick] [NAME ...]`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import json
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

import by_hand
from harness import Case, Sample, measure, row

from otelflow import FlowRunConfig, flow, flow_events, task
from otelflow.propagate import propagating

QUIET = FlowRunConfig(capture_output=False)


@task
def add(x: int) -> int:
    return x + 1


class Adder:
    @task
    def add(self, x: int) -> int:
        return x + 1


adder = Adder()


@task
async def async_add(x: int) -> int:
    return x + 1


@task(name="add")
def add_raises(x: int) -> int:
    raise ValueError(x)


@task(name="add")
def add_message(x: int, this_task: Any = None) -> int:
    this_task.log_info("added")
    return x + 1


@task(name="add")
def add_artifact(x: int, this_task: Any = None) -> int:
    this_task.add_artifact(key="rows", data=by_hand.DATA, artifact_type="json")
    return x + 1


@flow(transparent=True)
def transparent(x: int) -> int:
    return x + 1


@flow(flow_config=QUIET)
def deferred(x: int) -> int:
    return x + 1


# --- ways to call it --------------------------------------------------------------------------------------------------


def calls(function: Callable[[int], Any]) -> Sample:
    def sample(number: int) -> None:
        for x in range(number):
            function(x)

    return sample


def in_root_by_hand(sample: Sample) -> Sample:
    """Run each sample within a new root span, by hand."""

    def inside(number: int) -> None:
        with by_hand.tracer.start_as_current_span("root"):
            sample(number)

    return inside


def in_flow(sample: Sample, **config: Any) -> Sample:
    """Run each sample within a new flow."""
    settings = FlowRunConfig(**{"capture_output": False, **config})

    @flow(name="root", flow_config=settings)
    def root(number: int) -> None:
        sample(number)

    return lambda number: root(number).execute() and None


def catching(function: Callable[[int], Any]) -> Callable[[int], Any]:
    def call(x: int) -> None:
        try:
            function(x)
        except ValueError:
            pass

    return call


def deep(sample: Sample, depth: int) -> Sample:
    """Run ``sample`` with ``depth`` more frames on the stack."""

    def descend(number: int, frames_left: int) -> None:
        descend(number, frames_left - 1) if frames_left else sample(number)

    return lambda number: descend(number, depth)


def awaited(function: Callable[[int], Any]) -> Sample:
    async def await_all(number: int) -> None:
        for x in range(number):
            await function(x)

    loop = asyncio.new_event_loop()  # one for all samples: creating a loop takes as long as some dozens of spans
    atexit.register(loop.close)
    return lambda number: loop.run_until_complete(await_all(number))


def with_listener(sample: Sample) -> Sample:
    def listened_sample(number: int) -> None:
        with flow_events.listen(lambda event: None):
            sample(number)

    return listened_sample


def after(tasks: int) -> Sample:
    """Run tasks of a flow that already has ``tasks`` tasks.

    It is a generator flow: each sample steps it once, and the first sample starts it.
    """

    @flow(flow_config=FlowRunConfig(capture_output=False, max_tasks=10**7))
    def long() -> Any:
        for x in range(tasks):
            add(x)
        while True:
            calls(add)((yield))

    steps: list[Any] = []

    def sample(number: int) -> None:
        if not steps:
            steps.append(iter(long()))
            next(steps[0])
        steps[0].send(number)

    return sample


def submitted(pool: Executor, function: Callable[[int], Any]) -> Sample:
    """Submit a job to ``pool`` for each call, and wait for all results."""

    def sample(number: int) -> None:
        for future in [pool.submit(function, x) for x in range(number)]:
            future.result()

    return sample


def in_threads(function: Callable[[int], Any], threads: int) -> Sample:
    """Run the calls in concurrent threads; together they make as many calls as one thread would."""

    def sample(number: int) -> None:
        run = calls(function)
        pool = [Thread(target=contextvars.copy_context().run, args=(run, number // threads)) for _ in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()

    return sample


# --- pairs ------------------------------------------------------------------------------------------------------------

Pair = tuple[str, Case, Case]


def case(sample: Sample, times: int) -> Case:
    return Case("", sample, times)


def pairs(number: int) -> list[Pair]:
    """Return the cases to compare: name, otelflow's case, case by hand."""
    few = max(12, number // 10)

    def hand(function: Callable[[int], Any], times: int = number) -> Case:
        return case(in_root_by_hand(calls(function)), times)

    plain, asynchronous = hand(by_hand.add), case(in_root_by_hand(awaited(by_hand.async_add)), number)
    root = case(calls(by_hand.root), number)

    def ours(sample: Sample, times: int = number, **config: Any) -> Case:
        return case(in_flow(sample, **config), times)

    caught, hand_caught = catching(add_raises), catching(by_hand.add_raises)
    pool = ThreadPoolExecutor(1)
    return [
        ("by hand", plain, plain),
        ("the SDK's minimal form", hand(by_hand.minimal), plain),
        ("task", ours(calls(add)), plain),
        ("task, a method", ours(calls(lambda x: adder.add(x))), hand(lambda x: by_hand.adder.add(x))),
        ("async task", ours(awaited(async_add)), asynchronous),
        ("task, stack depth 5", ours(deep(calls(add), 5)), plain),
        ("task, stack depth 500", ours(deep(calls(add), 500)), plain),
        ("async task, stack depth 500", ours(deep(awaited(async_add), 500)), asynchronous),
        ("task, number 10 of a flow", case(after(10), number), plain),
        ("task, number 1,000,000 of a flow", case(after(1_000_000 if number > 500 else 10_000), number), plain),
        ("task, not kept by its flow", ours(calls(add), add_task_to_self=False), plain),
        ("task, one listener", ours(with_listener(calls(add))), plain),
        ("task + message", ours(calls(add_message)), hand(by_hand.add_message)),
        ("task + artifact", ours(calls(add_artifact)), hand(by_hand.add_artifact)),
        ("task that raises", ours(calls(caught), few), hand(hand_caught, few)),
        ("task in a pool of threads", *(case(sample, few) for sample in pooled(pool))),
        (
            "task, 4 threads at once",
            ours(in_threads(add, 4)),
            case(in_root_by_hand(in_threads(by_hand.add, 4)), number),
        ),
        ("transparent flow", case(calls(transparent), number), root),
        ("deferred flow", case(calls(lambda x: deferred(x).execute()), number), root),
    ]


def pooled(pool: Executor) -> tuple[Sample, Sample]:
    return in_flow(submitted(propagating(pool), add)), in_root_by_hand(submitted(pool, by_hand.add))


def main() -> None:
    mode, *names = [word for word in sys.argv[1:] if not word.startswith("--")]
    rounds, number = (5, 300) if "--quick" in sys.argv else (31, 1000)
    by_hand.set_up(mode)
    compared = pairs(number)
    if mode != "recording":
        names = ["by hand", "the SDK's minimal form", "task", "async task"]
    if names:
        compared = [pair for pair in compared if pair[0] in names]
    measure(list({id(case): case for _, ours, hand in compared for case in (ours, hand)}.values()), rounds)
    print(json.dumps({"rows": [*(row(*pair) for pair in compared), *listener_rows(compared)]}))


def listener_rows(compared: list[Pair]) -> list[dict[str, Any]]:
    """Return a row with the cost of one call of a listener. A listener is called twice for each task."""
    cases = {name: ours for name, ours, _ in compared}
    listened, plain = cases.get("task, one listener"), cases.get("task")
    if listened is None or plain is None:
        return []
    micros = (listened.median - plain.median) / 2 * 1e6
    return [{"name": "what one call of a listener adds, µs (goal: < 1)", "value": f"{micros:.2f}"}]


if __name__ == "__main__":
    main()
