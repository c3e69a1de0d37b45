"""Short tasks that leave no span: which do, which do not, and what is still known of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shopping
from opentelemetry import propagate as w3c
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from otelflow import current_task, flow, flow_events, instrument, task
from otelflow._spans.tracer import use_provider
from otelflow.testing import Capture

SHORT = """
import asyncio, time

def leaf(do=None, seconds=0):
    if seconds: time.sleep(seconds)
    return do() if do else None

def middle(do=None):
    return leaf(do)

async def later(seconds=0):
    await asyncio.sleep(seconds)

def steps(count):
    for number in range(count):
        yield number
"""


@pytest.fixture(autouse=True)
def short(tmp_path: Path) -> Iterator[Any]:
    """A module whose functions are tasks that leave no span below 20 ms."""
    shopping.write(tmp_path, short=SHORT)
    with shopping.importable(tmp_path):
        module = shopping.load("short")
        with instrument(tasks=[{"target": "shop.short:*", "min_duration": "20ms", "attributes": {}}]):
            yield module


@flow
def outer(do: Any) -> Any:
    """A flow around what is tried."""
    return do()


def test_a_short_task_leaves_no_span(short: Any, captured: Capture) -> None:
    """A long one does, with its whole duration; the flow tells how many did not."""
    run = outer(lambda: [short.leaf(), short.leaf(seconds=0.03), short.leaf()]).execute()
    captured.assert_tree("outer\n  leaf")
    captured.assert_duration("leaf", at_least=0.02)
    attributes = captured.flow("outer").attributes
    assert (attributes["otelflow.flow.tasks"], attributes["otelflow.dropped.short_tasks"]) == (3, 2)
    assert [one.name for one in run.tasks] == ["leaf"] * 3
    assert [one.span_id is None for one in run.tasks] == [True, False, True]


def test_listeners_hear_of_short_tasks(short: Any, captured: Capture) -> None:
    """Start and end, without a span's id; the history has them as well."""
    outer(short.leaf).execute()
    heard = [(event.event_type.name, event.event_data.span_id is None) for event in captured.events]
    assert heard == [("FLOW_START", False), ("TASK_START", True), ("TASK_STOP", True), ("FLOW_STOP", False)]
    assert all(event.event_data.trace_id == captured.flow("outer").trace_id for event in flow_events.history())
    captured.assert_tree("outer")


KEEPS = {
    "a failure": lambda: 1 / 0,
    "a message": lambda: current_task().log_info("said"),  # type: ignore[union-attr]
    "an artifact": lambda: current_task().add_artifact(key="a", data=1),  # type: ignore[union-attr]
    "its id": lambda: current_task().span_id,  # type: ignore[union-attr]
    "headers": lambda: w3c.inject({}),
    "an event": lambda: trace.get_current_span().add_event("x"),
    "a link": lambda: trace.get_current_span().add_link(trace.SpanContext(1, 2, False)),
    "an error": lambda: trace.get_current_span().set_status(StatusCode.ERROR, "bad"),
    "an exception": lambda: trace.get_current_span().record_exception(ValueError("x")),
    "its context": lambda: trace.get_current_span().get_span_context(),
}


@pytest.mark.parametrize("what", KEEPS)
def test_what_keeps_a_short_task(short: Any, captured: Capture, what: str) -> None:
    """Whatever a person would miss, and whoever was told its id."""
    if what == "a failure":
        with pytest.raises(ZeroDivisionError):
            outer(lambda: short.leaf(KEEPS[what])).execute()
    else:
        outer(lambda: short.leaf(KEEPS[what])).execute()
    run = captured.task("leaf")
    assert (run.parent, run.status) == (captured.flow("outer"), "failed" if what == "a failure" else "completed")
    assert "otelflow.dropped.short_tasks" not in captured.flow("outer").attributes


def test_a_parent_is_kept_with_its_child(short: Any, captured: Capture) -> None:
    """Neither a task of ours below it nor a span of someone else's loses its parent."""

    @task
    def child() -> None:
        """Below a short task."""

    def others() -> None:
        with trace.get_tracer("other").start_as_current_span("other"):
            pass

    outer(lambda: (short.middle(child), short.middle(others), short.middle())).execute()
    captured.assert_tree(
        """
        outer
          middle
            leaf
              child
          middle
            leaf
              other
        """
    )
    for run in captured.spans[1:]:
        assert run.parent is not None
        assert run.parent.span.start_time <= run.span.start_time  # type: ignore[operator]
    assert captured.flow("outer").attributes["otelflow.dropped.short_tasks"] == 2


def test_what_is_set_before_the_span_is_there(short: Any, captured: Capture) -> None:
    """Attributes, name and status wait with it; to set them keeps nothing."""

    def touch(then: Any = None) -> None:
        span = trace.get_current_span()
        assert span.is_recording()
        span.set_attribute("one", 1)
        span.set_attributes({"two": 2})
        span.update_name("renamed")
        span.set_status(StatusCode.OK)
        if then is not None:
            then()
            span.set_attribute("three", 3)
            assert span.attributes["three"] == 3  # type: ignore[attr-defined]  # as the SDK's span has

    outer(lambda: (short.leaf(touch), short.leaf(lambda: touch(lambda: w3c.inject({}))))).execute()
    (run,) = captured.find("renamed")
    assert [run.attributes[name] for name in ("one", "two", "three")] == [1, 2, 3]
    assert run.span.status.status_code is StatusCode.OK


def test_coroutines_and_generators(short: Any, captured: Capture) -> None:
    """The same for the other shapes; a generator's time includes that of its consumer."""

    async def both() -> None:
        await asyncio.gather(short.later(), short.later(0.03))

    outer(lambda: asyncio.run(both())).execute()
    outer(lambda: list(short.steps(2))).execute()
    outer(lambda: [time.sleep(0.015) for _ in short.steps(2)]).execute()
    captured.assert_tree("outer\n  later\nouter\nouter\n  steps")


def test_threads_that_look_at_once(short: Any, captured: Capture) -> None:
    """One span, whoever asked first."""
    seen = []

    def ask() -> None:
        span = trace.get_current_span()
        gate = threading.Barrier(8)

        def look() -> None:
            gate.wait(10)
            seen.append(span.get_span_context().span_id)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    outer(lambda: short.leaf(ask)).execute()
    captured.assert_tree("outer\n  leaf")
    assert set(seen) == {captured.task("leaf").span.context.span_id}  # type: ignore[union-attr]


def test_outside_any_flow(short: Any, captured: Capture) -> None:
    """An orphan that is short leaves nothing; a longer one is a root."""
    short.leaf()
    short.leaf(seconds=0.03)
    captured.assert_tree("leaf")
    assert captured.task("leaf").attributes["otelflow.task.orphan"] is True
    assert [event.event_data.trace_id is None for event in captured.events] == [True, True, False, False]
    asked = short.leaf(lambda: current_task().trace_id)  # type: ignore[union-attr]
    assert captured.tasks[1].trace_id == asked


def test_after_the_end_there_is_no_span_any_more(short: Any, captured: Capture) -> None:
    """Who kept the span and asks too late starts nothing, and gets its parent's context: what a short call left running
    stays in its trace."""
    kept: list[Any] = []
    outer(lambda: short.leaf(lambda: kept.append(trace.get_current_span()))).execute()
    assert kept[0].get_span_context() == captured.flow("outer").span.context
    assert not kept[0].is_recording()
    kept[0].add_event("late")
    kept[0].end()
    captured.assert_tree("outer")


# --- providers --------------------------------------------------------------------------------------------------------


def exported(sampler: Any, do: Any, *processors: SpanProcessor) -> list[str]:
    """Names of the spans that a provider of the SDK with that sampler exports."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    for processor in (*processors, SimpleSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    with use_provider(provider):
        do()
    return [span.name for span in exporter.get_finished_spans()]


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ALWAYS_ON, TraceIdRatioBased(1.0)])
def test_with_other_providers_and_samplers(short: Any, sampler: Any) -> None:
    """It uses the public API only, so any provider will do."""
    seen = []

    class Watcher(SpanProcessor):
        """Looks at the current span when one starts, as a processor may."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(trace.get_current_span().get_span_context())

    def work() -> None:
        outer(lambda: (short.leaf(), short.leaf(lambda: w3c.inject({})), short.leaf(seconds=0.03))).execute()

    assert exported(sampler, work, Watcher()) == ["leaf", "leaf", "outer"]
    assert len(seen) == 3


def test_sampled_out(short: Any) -> None:
    """Below a parent that was sampled out there is nothing, looked at or not."""
    assert exported(ParentBased(ALWAYS_OFF), lambda: outer(lambda: short.leaf(lambda: w3c.inject({}))).execute()) == []
    assert exported(ALWAYS_OFF, lambda: outer(lambda: short.leaf(seconds=0.03)).execute()) == []


def test_a_provider_that_raises(short: Any) -> None:
    """The call goes on without a span."""

    class Broken(SpanProcessor):
        """Raises at every start but the flow's."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if span.name == "leaf":
                raise RuntimeError("broken")

    def work() -> Any:
        return outer(lambda: short.leaf(lambda: [w3c.inject({}), current_task().log_info("x"), 5][-1])).execute()  # type: ignore[union-attr]

    values = []
    assert exported(ALWAYS_ON, lambda: values.append(work().return_value), Broken()) == ["outer"]
    assert values == [5]


def test_without_an_sdk(short: Any) -> None:
    """Nothing to postpone; the value is the function's."""
    with use_provider(trace.NoOpTracerProvider()):
        assert outer(lambda: short.leaf(lambda: 5)).execute().return_value == 5


def test_a_short_flow_is_kept() -> None:
    """Only tasks may be left out."""
    from otelflow.errors import ConfigError

    with pytest.raises(ConfigError, match=r"for \[\[task\]\] only"):
        instrument(flows=[{"target": "shop.short:leaf", "min_duration": "1s"}])
