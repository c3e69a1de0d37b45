"""What is measured: a task of otelflow beside the same span written by hand, under one kind of telemetry.

Run by ``bench.py`` in a process of its own for each mode, as a global provider can be set once:
``python benchmarks/cases.py MODE [--quick]`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import harness
from opentelemetry import trace

from otelflow import FlowRunConfig, flow, flow_events, task
from otelflow.propagate import propagating

ATTRIBUTES = {
    "otelflow.kind": "task",
    "otelflow.task.name": "add",
    "code.function.name": "cases.add",
    "otelflow.task.run_id": "task_85981e9767fbdb71000000000003",
    "otelflow.flow.name": "root",
    "otelflow.flow.run_id": "flow_85981e9767fbdb71000000000000",
}


def set_up(mode: str) -> None:
    """``recording``: a batch processor with an exporter that does nothing; ``sampled-out``; ``no-sdk``."""
    if mode == "no-sdk":
        return
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

    provider = TracerProvider(sampler=DEFAULT_ON if mode == "recording" else ParentBased(ALWAYS_OFF))
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=2**17))
    trace.set_tracer_provider(provider)


tracer = trace.get_tracer("benchmark")


# --- by hand ------------------------------------------------------------------------------------------------------


def hand_add(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        span.set_attribute("otelflow.status", "completed")
        return value


async def hand_async_add(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        span.set_attribute("otelflow.status", "completed")
        return value


def hand_raise(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES):
        raise ValueError(x)


def hand_message(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        span.add_event("otelflow.message", {"otelflow.message.text": "added", "otelflow.message.severity": "INFO"})
        span.set_attribute("otelflow.status", "completed")
        return value


# --- otelflow -----------------------------------------------------------------------------------------------------


@task
def add(x: int) -> int:
    return x + 1


@task
async def async_add(x: int) -> int:
    return x + 1


@task(name="add")
def add_raise(x: int) -> int:
    raise ValueError(x)


@task(name="add")
def add_message(x: int, this_task: Any = None) -> int:
    this_task.log_info("added")
    return x + 1


def calls(function: Callable[[int], Any]) -> harness.Sample:
    def sample(number: int) -> None:
        for x in range(number):
            function(x)

    return sample


def in_hand_root(sample: harness.Sample) -> harness.Sample:
    """Each sample within a root span of its own, by hand."""

    def inside(number: int) -> None:
        with tracer.start_as_current_span("root"):
            sample(number)

    return inside


def in_flow(sample: harness.Sample, **config: Any) -> harness.Sample:
    """Each sample within a flow of its own."""
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


def deep(sample: harness.Sample, depth: int) -> harness.Sample:
    """``sample`` below ``depth`` more frames on the stack."""

    def descend(number: int, left: int) -> None:
        descend(number, left - 1) if left else sample(number)

    return lambda number: descend(number, depth)


def awaited(function: Callable[[int], Any]) -> harness.Sample:
    async def all_of(number: int) -> None:
        for x in range(number):
            await function(x)

    return lambda number: asyncio.run(all_of(number))


def listened(sample: harness.Sample) -> harness.Sample:
    def with_listener(number: int) -> None:
        with flow_events.listen(lambda event: None):
            sample(number)

    return with_listener


def after(tasks: int) -> harness.Sample:
    """Tasks of one flow that has run ``tasks`` of them already: a generator flow, stepped once a sample."""

    @flow(flow_config=FlowRunConfig(capture_output=False, max_tasks=10**7))
    def long() -> Any:
        for x in range(tasks):
            add(x)
        while True:
            calls(add)((yield))

    steps: Any = iter(long())
    next(steps)
    return lambda number: steps.send(number)


def submitted(pool: Executor, function: Callable[[int], Any]) -> harness.Sample:
    """A job each in ``pool``, and all results."""

    def sample(number: int) -> None:
        for future in [pool.submit(function, x) for x in range(number)]:
            future.result()

    return sample


def of_the_original() -> harness.Sample | None:
    """The same task in OSBot-Utils' flow system, where that is installed."""
    try:
        from osbot_utils.helpers.flows.decorators.flow import flow as original_flow
        from osbot_utils.helpers.flows.decorators.task import task as original_task
    except ImportError:
        return None
    original_add = original_task()(add.__wrapped__)

    def root(number: int) -> None:
        calls(original_add)(number)

    return lambda number: original_flow()(root)(number).execute() and None


def pairs(number: int) -> list[tuple[str, harness.Case, harness.Case]]:
    """What is compared: name, ours, by hand."""

    def case(name: str, sample: harness.Sample, times: int = number) -> harness.Case:
        return harness.Case(name, sample, times)

    hand = case("by hand", in_hand_root(calls(hand_add)))
    hand_async = case("by hand, async", in_hand_root(awaited(hand_async_add)))
    few = max(10, number // 10)
    original = of_the_original()
    peers = [] if original is None else [("osbot-utils task", case("osbot", original, 5), case("ho", hand.sample, few))]
    return [
        *peers,
        ("task", case("task", in_flow(calls(add))), hand),
        ("async task", case("async task", in_flow(awaited(async_add))), hand_async),
        ("task, one listener", case("listener", in_flow(listened(calls(add)))), hand),
        ("task, tasks not kept", case("not kept", in_flow(calls(add), add_task_to_self=False)), hand),
        (
            "task that raises",
            case("raises", in_flow(calls(catching(add_raise))), few),
            case("by hand, raises", in_hand_root(calls(catching(hand_raise))), few),
        ),
        ("task + message", case("message", in_flow(calls(add_message))), case("hm", in_hand_root(calls(hand_message)))),
        ("task, stack depth 5", case("d5", in_flow(deep(calls(add), 5))), hand),
        ("task, stack depth 500", case("d500", in_flow(deep(calls(add), 500))), hand),
        (
            "task in a pool of threads",
            case("pool", in_flow(submitted(propagating(ThreadPoolExecutor(1)), add)), few),
            case("by hand, pool", in_hand_root(submitted(ThreadPoolExecutor(1), hand_add)), few),
        ),
        ("task number 10 of a flow", case("10th", after(10)), hand),
        ("task number 100,000 of a flow", case("100,000th", after(100_000)), hand),
    ]


def main() -> None:
    mode = sys.argv[1]
    rounds, number = (5, 300) if "--quick" in sys.argv else (41, 1000)
    set_up(mode)
    compared = pairs(number)
    if mode != "recording":
        compared = [pair for pair in compared if pair[0] in ("task", "async task")]
    cases = list({id(case): case for _, ours, hand in compared for case in (ours, hand)}.values())
    harness.measure(cases, rounds)
    rows = [
        {"name": name, "ratio": harness.ratio(ours, hand), "ours": ours.seconds, "hand": hand.seconds}
        for name, ours, hand in compared
    ]
    print(json.dumps({"mode": mode, "rows": rows}))


if __name__ == "__main__":
    main()
