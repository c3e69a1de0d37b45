"""Tasks with ``min_duration``: which short tasks make no span, and what is recorded without one."""

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
    """Yield a module whose functions are tasks that make no span below 20 ms."""
    shopping.write(tmp_path, short=SHORT)
    with shopping.importable(tmp_path):
        module = shopping.load("short")
        with instrument(tasks=[{"target": "shop.short:*", "min_duration": "20ms", "attributes": {}}]):
            yield module


@flow
def outer(do: Any) -> Any:
    """Call ``do`` in a flow."""
    return do()


def test_a_short_task_makes_no_span(short: Any, captured: Capture) -> None:
    """A long task makes a span with its whole duration. The flow counts tasks without span."""
    run = outer(lambda: [short.leaf(), short.leaf(seconds=0.03), short.leaf()]).execute()
    captured.assert_tree("outer\n  leaf")
    captured.assert_duration("leaf", at_least=0.02)
    attributes = captured.flow("outer").attributes
    assert (attributes["otelflow.flow.tasks"], attributes["otelflow.dropped.short_tasks"]) == (3, 2)
    assert [item.name for item in run.tasks] == ["leaf"] * 3
    assert [item.span_id is None for item in run.tasks] == [True, False, True]


def test_listeners_get_events_of_short_tasks(short: Any, captured: Capture) -> None:
    """Start and end, without a span id. The history has these events too."""
    outer(short.leaf).execute()
    events = [(event.event_type.name, event.event_data.span_id is None) for event in captured.events]
    assert events == [("FLOW_START", False), ("TASK_START", True), ("TASK_STOP", True), ("FLOW_STOP", False)]
    assert all(event.event_data.trace_id == captured.flow("outer").trace_id for event in flow_events.history())
    captured.assert_tree("outer")


CONTENT = {
    "a failure": lambda: 1 / 0,
    "a message": lambda: current_task().log_info("message"),  # type: ignore[union-attr]
    "an artifact": lambda: current_task().add_artifact(key="a", data=1),  # type: ignore[union-attr]
    "its id": lambda: current_task().span_id,  # type: ignore[union-attr]
    "headers": lambda: w3c.inject({}),
    "an event": lambda: trace.get_current_span().add_event("x"),
    "a link": lambda: trace.get_current_span().add_link(trace.SpanContext(1, 2, False)),
    "an error": lambda: trace.get_current_span().set_status(StatusCode.ERROR, "bad"),
    "an exception": lambda: trace.get_current_span().record_exception(ValueError("x")),
    "its context": lambda: trace.get_current_span().get_span_context(),
}


@pytest.mark.parametrize("what", CONTENT)
def test_a_short_task_with_content_keeps_its_span(short: Any, captured: Capture, what: str) -> None:
    """The span is kept if it has an error or data, or if its id was read."""
    if what == "a failure":
        with pytest.raises(ZeroDivisionError):
            outer(lambda: short.leaf(CONTENT[what])).execute()
    else:
        outer(lambda: short.leaf(CONTENT[what])).execute()
    run = captured.task("leaf")
    assert (run.parent, run.status) == (captured.flow("outer"), "failed" if what == "a failure" else "completed")
    assert "otelflow.dropped.short_tasks" not in captured.flow("outer").attributes


def test_a_short_task_with_a_child_keeps_its_span(short: Any, captured: Capture) -> None:
    """The child may be a task or a span of another library."""

    @task
    def child() -> None:
        """Run below a short task."""

    def other_library() -> None:
        with trace.get_tracer("other").start_as_current_span("other"):
            pass

    outer(lambda: (short.middle(child), short.middle(other_library), short.middle())).execute()
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


def test_data_set_before_the_span_starts(short: Any, captured: Capture) -> None:
    """Attributes, name and status are set when the span starts. Setting them does not start it."""

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
            assert span.attributes["three"] == 3  # type: ignore[attr-defined]  # the SDK's span has it

    outer(lambda: (short.leaf(touch), short.leaf(lambda: touch(lambda: w3c.inject({}))))).execute()
    (run,) = captured.find("renamed")
    assert [run.attributes[name] for name in ("one", "two", "three")] == [1, 2, 3]
    assert run.span.status.status_code is StatusCode.OK


def test_coroutines_and_generators_may_be_short_too(short: Any, captured: Capture) -> None:
    """The duration of a generator includes the time of its consumer."""

    async def both() -> None:
        await asyncio.gather(short.later(), short.later(0.03))

    outer(lambda: asyncio.run(both())).execute()
    outer(lambda: list(short.steps(2))).execute()
    outer(lambda: [time.sleep(0.015) for _ in short.steps(2)]).execute()
    captured.assert_tree("outer\n  later\nouter\nouter\n  steps")


def test_threads_read_the_context_at_the_same_time(short: Any, captured: Capture) -> None:
    """They all get the same span."""
    seen = []

    def read_in_threads() -> None:
        span = trace.get_current_span()
        gate = threading.Barrier(8)

        def read_context() -> None:
            gate.wait(10)
            seen.append(span.get_span_context().span_id)

        threads = [threading.Thread(target=read_context) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    outer(lambda: short.leaf(read_in_threads)).execute()
    captured.assert_tree("outer\n  leaf")
    assert set(seen) == {captured.task("leaf").span.context.span_id}  # type: ignore[union-attr]


def test_a_short_task_outside_any_flow(short: Any, captured: Capture) -> None:
    """A short orphan makes no span; a longer one is a root span."""
    short.leaf()
    short.leaf(seconds=0.03)
    captured.assert_tree("leaf")
    assert captured.task("leaf").attributes["otelflow.task.orphan"] is True
    assert [event.event_data.trace_id is None for event in captured.events] == [True, True, False, False]
    trace_id = short.leaf(lambda: current_task().trace_id)  # type: ignore[union-attr]
    assert captured.tasks[1].trace_id == trace_id


def test_a_span_is_not_started_after_its_task_ended(short: Any, captured: Capture) -> None:
    """A reference to the span then returns the parent's context, so that background work stays in the trace."""
    spans: list[Any] = []
    outer(lambda: short.leaf(lambda: spans.append(trace.get_current_span()))).execute()
    assert spans[0].get_span_context() == captured.flow("outer").span.context
    assert not spans[0].is_recording()
    spans[0].add_event("late")
    spans[0].end()
    captured.assert_tree("outer")


# --- providers --------------------------------------------------------------------------------------------------------


def exported_names(sampler: Any, do: Any, *processors: SpanProcessor) -> list[str]:
    """Return the names of the spans that an SDK provider with this sampler exports."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    for processor in (*processors, SimpleSpanProcessor(exporter)):
        provider.add_span_processor(processor)
    with use_provider(provider):
        do()
    return [span.name for span in exporter.get_finished_spans()]


@pytest.mark.parametrize("sampler", [ParentBased(ALWAYS_ON), ALWAYS_ON, TraceIdRatioBased(1.0)])
def test_other_providers_and_samplers(short: Any, sampler: Any) -> None:
    """Only the public API is used, so any provider works."""
    seen = []

    class ReadingProcessor(SpanProcessor):
        """Read the current span when a span starts, as a processor may."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            seen.append(trace.get_current_span().get_span_context())

    def work() -> None:
        outer(lambda: (short.leaf(), short.leaf(lambda: w3c.inject({})), short.leaf(seconds=0.03))).execute()

    assert exported_names(sampler, work, ReadingProcessor()) == ["leaf", "leaf", "outer"]
    assert len(seen) == 3


def test_a_sampled_out_parent_has_no_children(short: Any) -> None:
    """Even if the context of the child is read."""
    assert (
        exported_names(ParentBased(ALWAYS_OFF), lambda: outer(lambda: short.leaf(lambda: w3c.inject({}))).execute())
        == []
    )
    assert exported_names(ALWAYS_OFF, lambda: outer(lambda: short.leaf(seconds=0.03)).execute()) == []


def test_a_processor_that_raises(short: Any) -> None:
    """The call continues without a span."""

    class Broken(SpanProcessor):
        """Raise at the start of the task."""

        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if span.name == "leaf":
                raise RuntimeError("broken")

    def work() -> Any:
        return outer(lambda: short.leaf(lambda: [w3c.inject({}), current_task().log_info("x"), 5][-1])).execute()  # type: ignore[union-attr]

    values = []
    assert exported_names(ALWAYS_ON, lambda: values.append(work().return_value), Broken()) == ["outer"]
    assert values == [5]


def test_without_an_sdk(short: Any) -> None:
    """There is no span; the call returns its value."""
    with use_provider(trace.NoOpTracerProvider()):
        assert outer(lambda: short.leaf(lambda: 5)).execute().return_value == 5


def test_a_flow_cannot_have_a_min_duration() -> None:
    """Only tasks can."""
    from otelflow.errors import ConfigError

    with pytest.raises(ConfigError, match=r"only for \[\[task\]\]"):
        instrument(flows=[{"target": "shop.short:leaf", "min_duration": "1s"}])
