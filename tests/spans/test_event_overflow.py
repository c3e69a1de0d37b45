"""More events than a span has room for: the first and the newest stay, the others are counted or go to child spans."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelflow import FlowRunConfig, flow, stats, task
from otelflow._spans.span_limits import MAX_EVENT_BYTES, MAX_SPAN_BYTES, estimated_size
from otelflow._spans.tracer import use_provider
from otelflow.testing import Capture

TEXT, LEFT_OUT = "otelflow.message.text", "otelflow.dropped.events"


QUIET = FlowRunConfig(capture_output=False, raise_flow_error=False)


@flow(flow_config=QUIET)
def talks(number: int, text: str = "line {}", this_flow: Any = None) -> None:
    """Log a number of lines."""
    for line in range(number):
        this_flow.log_info(text.format(line))


def event_texts(span: Any) -> list[Any]:
    """Return the texts of a span's messages, and the names of its other events."""
    return [(event.attributes or {}).get(TEXT, event.name) for event in span.events]


@contextmanager
def limited(max_events: int | None) -> Iterator[InMemorySpanExporter]:
    """Use a provider whose spans keep ``max_events`` events."""
    exporter = InMemorySpanExporter()
    limits = SpanLimits(max_events=SpanLimits.UNSET if max_events is None else max_events)
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        yield exporter


def test_the_first_and_the_newest_are_kept(captured: Capture) -> None:
    """They are in order. A gap event between them, the span and the stats say how many are missing."""
    before = stats().dropped.get("events_over_span_limit", 0)
    talks(1000).execute()
    span = captured.flow("talks").span
    first, newest = [f"line {n}" for n in range(64)], [f"line {n}" for n in range(937, 1000)]
    assert event_texts(span) == [*first, "otelflow.left_out", *newest]
    assert [event.timestamp for event in span.events] == sorted(event.timestamp for event in span.events)
    assert dict(span.events[64].attributes or {}) == {LEFT_OUT: 873}
    assert (dict(span.attributes or {})[LEFT_OUT], span.dropped_events) == (873, 0)
    assert stats().dropped["events_over_span_limit"] == before + 873


def test_a_span_that_is_exactly_full_loses_no_event(captured: Capture) -> None:
    """There is no gap event and no count of missing events."""
    talks(128).execute()
    span = captured.flow("talks").span
    assert event_texts(span) == [f"line {n}" for n in range(128)]
    assert LEFT_OUT not in (span.attributes or {})


@pytest.mark.parametrize("max_events", [0, 1, 2, 3, 10, None])
def test_every_event_is_on_the_span_or_counted_under_any_limit(max_events: int | None) -> None:
    """Without a limit, all events are on the span."""
    with limited(max_events) as exporter:
        talks(200).execute()
    (span,) = exporter.get_finished_spans()
    texts = [text for text in event_texts(span) if text != "otelflow.left_out"]
    assert len(texts) + dict(span.attributes or {}).get(LEFT_OUT, 0) == 200
    assert span.dropped_events == 0
    assert len(span.events) == (200 if max_events is None else max_events)
    if max_events != 0:
        assert texts[-1] == "line 199"


def test_events_with_priority_stay_on_the_span(captured: Capture) -> None:
    """The final exception, artifacts, results and error messages stay, however many messages there are."""

    @flow(flow_config=QUIET)
    def fails(this_flow: Any = None) -> None:
        for number in range(500):
            this_flow.log_info(f"line {number}")
            if number == 200:
                this_flow.add_artifact(key="rows", data=[1])
                this_flow.add_result("answer", "42")
                this_flow.log_error("not good")
        raise ValueError("the end")

    fails().execute()
    run = captured.flow("fails")
    texts = event_texts(run.span)
    assert len(texts) == 128
    assert texts[64:68] == ["otelflow.left_out", "otelflow.artifact", "otelflow.result", "not good"]
    assert texts[-2:] == ["exception", "Error executing flow: the end"]
    assert texts[-3] == "line 499"
    assert str(run.error) == "ValueError: the end"
    assert run.artifact("rows").data == [1]


def test_events_of_the_program_are_not_dropped(captured: Capture) -> None:
    """Events that the program adds with OpenTelemetry's API stay on the span."""

    @flow(flow_config=QUIET)
    def shared(this_flow: Any = None) -> None:
        for number in range(300):
            this_flow.log_info(f"line {number}")
            if number % 10 == 0:
                trace.get_current_span().add_event(f"theirs {number}")

    shared().execute()
    span = captured.flow("shared").span
    texts = event_texts(span)
    assert [name for name in texts if str(name).startswith("theirs")] == [f"theirs {n}" for n in range(0, 300, 10)]
    assert (texts[0], texts[-1], len(texts), span.dropped_events) == ("line 0", "line 299", 128, 0)


KINDS = ("info", "error", "artifact", "result", "theirs")


Step = tuple[str, int]
"""The kind of an event, and the length of its text."""


@settings(deadline=None, max_examples=60)
@example([("theirs", 1), ("theirs", 1)], 1)
@given(
    st.lists(
        st.tuples(st.sampled_from(["info", "error", "artifact", "result", "theirs"]), st.integers(1, 3000)), max_size=60
    ),
    st.sampled_from([1, 2, 3, 8, 20, None]),
)
def test_every_event_of_a_run_is_accounted_for(steps: list[Step], max_events: int | None) -> None:
    """In any order, of any size, under any limit, each event is on the span or counted, once and in order.

    The last event with priority is on the span. The bytes are within their limit.
    """

    @flow(flow_config=QUIET)
    def speaks(this_flow: Any = None) -> None:
        for number, (what, size) in enumerate(steps):
            text = f"{number} " + "x" * size
            if what == "theirs":
                trace.get_current_span().add_event("theirs")
            elif what == "artifact":
                this_flow.add_artifact(key=text, data=text)
            elif what == "result":
                this_flow.add_result(text)
            else:
                (this_flow.log_error if what == "error" else this_flow.log_info)(text)

    with limited(max_events) as exporter:
        speaks().execute()
    (span,) = exporter.get_finished_spans()
    numbers = [int(text.split()[0]) for text in map(_text_of, span.events) if text]
    theirs = sum(event.name == "theirs" for event in span.events)
    missing = dict(span.attributes or {}).get(LEFT_OUT, 0)
    assert numbers == sorted(set(numbers))
    assert len(numbers) + theirs + int(missing) == len(steps)  # type: ignore[arg-type]
    assert bytes_of(span) <= MAX_SPAN_BYTES
    with_priority = [number for number, (what, _) in enumerate(steps) if what not in ("info", "theirs")]
    foreign = sum(what == "theirs" for what, _ in steps)
    if with_priority and (max_events is None or foreign < max_events // 2):
        assert with_priority[-1] in numbers


def _text_of(event: Any) -> str:
    attributes = event.attributes or {}
    keys = (TEXT, "otelflow.artifact.key", "otelflow.result.key")
    return next((str(attributes[key]) for key in keys if key in attributes), "")


# --- bytes ----------------------------------------------------------------------------------------------------------


def bytes_of(span: ReadableSpan) -> int:
    """Return the size of a span's attributes and events, as otelflow counts it."""
    return estimated_size(span.attributes) + sum(estimated_size(event.attributes) for event in span.events)


@pytest.mark.parametrize("max_events", [128, None])
@pytest.mark.parametrize("character", ["x", "é", "🙂"])
def test_the_bytes_of_a_span_are_bounded(max_events: int | None, character: str) -> None:
    """The first texts are complete, later ones short, the newest is present; truncated and missing ones are counted."""
    with limited(max_events) as exporter:
        talks(1000, "{} " + character * 1900).execute()
    (span,) = exporter.get_finished_spans()
    assert MAX_SPAN_BYTES // 2 < bytes_of(span) <= MAX_SPAN_BYTES
    texts = [text for text in event_texts(span) if text != "otelflow.left_out"]
    assert [text.split()[0] for text in (texts[0], texts[1], texts[-1])] == ["0", "1", "999"]
    assert len(texts[0]) > 400 > len(texts[-1])
    attributes = dict(span.attributes or {})
    assert attributes[LEFT_OUT] == 1000 - len(texts)
    assert attributes["otelflow.dropped.values"] > 0


def test_one_event_cannot_fill_a_span(captured: Capture) -> None:
    """A message with a hundred large attributes is shortened, and the missing values are counted."""
    large_attributes = {f"key_{number}": "x" * 2000 for number in range(100)}

    @flow(flow_config=QUIET)
    def large(this_flow: Any = None) -> None:
        for _ in range(10):
            this_flow.log_info("all of it", **large_attributes)

    large().execute()
    span = captured.flow("large").span
    assert bytes_of(span) <= MAX_SPAN_BYTES
    assert estimated_size(span.events[0].attributes) <= MAX_EVENT_BYTES
    assert (span.events[0].attributes or {})[TEXT] == "all of it"
    assert dict(span.attributes or {})["otelflow.dropped.values"] >= 100


# --- threads, a second run, memory ----------------------------------------------------------------------------------


def test_messages_of_many_threads_are_on_the_span_or_counted(captured: Capture) -> None:
    """No message is on the span twice."""

    @flow(flow_config=QUIET)
    def crowded(this_flow: Any = None) -> None:
        def speak(name: int) -> None:
            for number in range(500):
                this_flow.log_info(f"{name} {number}")

        threads = [threading.Thread(target=speak, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    crowded().execute()
    span = captured.flow("crowded").span
    texts = [text for text in event_texts(span) if text != "otelflow.left_out"]
    assert len(set(texts)) == len(texts)
    missing = dict(span.attributes or {})[LEFT_OUT]
    assert isinstance(missing, int)
    assert len(texts) + missing == 3000


@pytest.mark.parametrize("number", [3, 200])
def test_a_thread_that_logs_while_the_span_ends(number: int, captured: Capture) -> None:
    """Each of its messages is on the span, or counted for one reason."""
    before = Counter(stats().dropped)
    stop, begun = threading.Event(), threading.Event()
    spoken = []

    @flow(flow_config=QUIET)
    def ends(this_flow: Any = None) -> None:
        def speak() -> None:
            while not stop.is_set() or not spoken:
                this_flow.log_info("late")
                spoken.append(1)
                begun.set()

        thread = threading.Thread(target=speak)
        thread.start()
        begun.wait(20)
        for line in range(number):
            this_flow.log_info(f"line {line}")
        threads.append(thread)

    threads: list[threading.Thread] = []
    ends().execute()
    stop.set()
    threads[0].join()
    lost = Counter(stats().dropped) - before
    on_span = [text for text in event_texts(captured.flow("ends").span) if text != "otelflow.left_out"]
    assert len(on_span) + lost["events_over_span_limit"] + lost["messages_after_end"] == len(spoken) + number


def test_a_second_execution_starts_clean(captured: Capture) -> None:
    """The span of the second execution has its own first and newest events."""
    run = talks(200)
    run.execute()
    run.execute()
    assert [len(span.events) for span in captured.flows] == [128, 128]
    assert [span.attributes[LEFT_OUT] for span in captured.flows] == [73, 73]


def test_held_events_are_freed_with_their_run() -> None:
    """They are freed at once, without the garbage collector."""
    gc.disable()
    try:
        run = talks(200).execute()
        alive = weakref.ref(run)
        del run
        assert alive() is None
    finally:
        gc.enable()


@task
def is_small(this_task: Any = None) -> None:
    """Log one message."""
    this_task.log_info("one")


def test_a_task_with_few_events_has_no_overflow(captured: Capture) -> None:
    """Its span has no attribute for missing events."""
    is_small()
    span = captured.task("is_small")
    assert (event_texts(span.span), "otelflow.dropped.events" in span.attributes) == (["one"], False)
