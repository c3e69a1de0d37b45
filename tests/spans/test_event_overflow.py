"""More events than a span has room for: the first and the newest stay, the rest is counted, or is in child spans."""

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


quiet = FlowRunConfig(capture_output=False, raise_flow_error=False)


@flow(flow_config=quiet)
def talks(number: int, text: str = "line {}", this_flow: Any = None) -> None:
    """Says a number of lines."""
    for line in range(number):
        this_flow.log_info(text.format(line))


def said(span: Any) -> list[Any]:
    """The texts of a span's messages, the names of its other events."""
    return [(event.attributes or {}).get(TEXT, event.name) for event in span.events]


@contextmanager
def limited(most: int | None) -> Iterator[InMemorySpanExporter]:
    """A provider whose spans keep ``most`` events."""
    exporter = InMemorySpanExporter()
    limits = SpanLimits(max_events=SpanLimits.UNSET if most is None else most)
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        yield exporter


def test_the_first_and_the_newest_are_kept(captured: Capture) -> None:
    """In order, with a mark that says how many are missing between them; the span and the stats say so, too."""
    before = stats().dropped.get("events_over_span_limit", 0)
    talks(1000).execute()
    made = captured.flow("talks").span
    first, newest = [f"line {n}" for n in range(64)], [f"line {n}" for n in range(937, 1000)]
    assert said(made) == [*first, "otelflow.left_out", *newest]
    assert [event.timestamp for event in made.events] == sorted(event.timestamp for event in made.events)
    assert dict(made.events[64].attributes or {}) == {LEFT_OUT: 873}
    assert (dict(made.attributes or {})[LEFT_OUT], made.dropped_events) == (873, 0)
    assert stats().dropped["events_over_span_limit"] == before + 873


def test_a_span_that_is_just_full(captured: Capture) -> None:
    """Nothing is missing, and nothing says so."""
    talks(128).execute()
    made = captured.flow("talks").span
    assert said(made) == [f"line {n}" for n in range(128)]
    assert LEFT_OUT not in (made.attributes or {})


@pytest.mark.parametrize("most", [0, 1, 2, 3, 10, None])
def test_the_limits_of_whatever_provider(most: int | None) -> None:
    """What is on the span and what is said to be missing make up the whole; without a limit all is there."""
    with limited(most) as exporter:
        talks(200).execute()
    (made,) = exporter.get_finished_spans()
    texts = [text for text in said(made) if text != "otelflow.left_out"]
    assert len(texts) + dict(made.attributes or {}).get(LEFT_OUT, 0) == 200
    assert made.dropped_events == 0
    assert len(made.events) == (200 if most is None else most)
    if most != 0:
        assert texts[-1] == "line 199"


def test_what_counts_most_is_there(captured: Capture) -> None:
    """An exception at the end, artifacts, results, and error messages, however many messages there are."""

    @flow(flow_config=quiet)
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
    kept = said(run.span)
    assert len(kept) == 128
    assert kept[64:68] == ["otelflow.left_out", "otelflow.artifact", "otelflow.result", "not good"]
    assert kept[-2:] == ["exception", "Error executing flow: the end"]
    assert kept[-3] == "line 499"
    assert str(run.error) == "ValueError: the end"
    assert run.artifact("rows").data == [1]


def test_events_of_others_are_not_pushed_out(captured: Capture) -> None:
    """What a program puts on the span itself, by OpenTelemetry's API, stays there."""

    @flow(flow_config=quiet)
    def shared(this_flow: Any = None) -> None:
        for number in range(300):
            this_flow.log_info(f"line {number}")
            if number % 10 == 0:
                trace.get_current_span().add_event(f"theirs {number}")

    shared().execute()
    made = captured.flow("shared").span
    kept = said(made)
    assert [name for name in kept if str(name).startswith("theirs")] == [f"theirs {n}" for n in range(0, 300, 10)]
    assert (kept[0], kept[-1], len(kept), made.dropped_events) == ("line 0", "line 299", 128, 0)


KINDS = ("info", "error", "artifact", "result", "theirs")


Say = tuple[str, int]
"""What is said, and how long it is."""


@settings(deadline=None, max_examples=60)
@example([("theirs", 1), ("theirs", 1)], 1)
@given(
    st.lists(
        st.tuples(st.sampled_from(["info", "error", "artifact", "result", "theirs"]), st.integers(1, 3000)), max_size=60
    ),
    st.sampled_from([1, 2, 3, 8, 20, None]),
)
def test_whatever_a_run_says_is_accounted_for(said_: list[Say], most: int | None) -> None:
    """In any order, of any size, under any limit: on the span or counted, each once, and in order; the last of what
    counts most is there; the bytes are within their bound."""

    @flow(flow_config=quiet)
    def speaks(this_flow: Any = None) -> None:
        for number, (what, size) in enumerate(said_):
            text = f"{number} " + "x" * size
            if what == "theirs":
                trace.get_current_span().add_event("theirs")
            elif what == "artifact":
                this_flow.add_artifact(key=text, data=text)
            elif what == "result":
                this_flow.add_result(text)
            else:
                (this_flow.log_error if what == "error" else this_flow.log_info)(text)

    with limited(most) as exporter:
        speaks().execute()
    (made,) = exporter.get_finished_spans()
    numbers = [int(text.split()[0]) for text in map(_told, made.events) if text]
    theirs = sum(event.name == "theirs" for event in made.events)
    missing = dict(made.attributes or {}).get(LEFT_OUT, 0)
    assert numbers == sorted(set(numbers))
    assert len(numbers) + theirs + int(missing) == len(said_)  # type: ignore[arg-type]
    assert bytes_of(made) <= MAX_SPAN_BYTES
    prior = [number for number, (what, _) in enumerate(said_) if what not in ("info", "theirs")]
    foreign = sum(what == "theirs" for what, _ in said_)
    if prior and (most is None or foreign < most // 2):
        assert prior[-1] in numbers


def _told(event: Any) -> str:
    known = event.attributes or {}
    keys = (TEXT, "otelflow.artifact.key", "otelflow.result.key")
    return next((str(known[key]) for key in keys if key in known), "")


# --- bytes ----------------------------------------------------------------------------------------------------------


def bytes_of(made: ReadableSpan) -> int:
    """What we count on a span."""
    return estimated_size(made.attributes) + sum(estimated_size(event.attributes) for event in made.events)


@pytest.mark.parametrize("most", [128, None])
@pytest.mark.parametrize("character", ["x", "é", "🙂"])
def test_the_bytes_of_a_span_are_bounded(most: int | None, character: str) -> None:
    """The first texts are whole, those that follow short, the newest is there; what is cut and left out is counted."""
    with limited(most) as exporter:
        talks(1000, "{} " + character * 1900).execute()
    (made,) = exporter.get_finished_spans()
    assert MAX_SPAN_BYTES // 2 < bytes_of(made) <= MAX_SPAN_BYTES
    texts = [text for text in said(made) if text != "otelflow.left_out"]
    assert [text.split()[0] for text in (texts[0], texts[1], texts[-1])] == ["0", "1", "999"]
    assert len(texts[0]) > 400 > len(texts[-1])
    attributes = dict(made.attributes or {})
    assert attributes[LEFT_OUT] == 1000 - len(texts)
    assert attributes["otelflow.dropped.values"] > 0


def test_one_event_cannot_fill_a_span(captured: Capture) -> None:
    """A message with a hundred large attributes is shortened, and says that values are missing."""
    given = {f"key_{number}": "x" * 2000 for number in range(100)}

    @flow(flow_config=quiet)
    def large(this_flow: Any = None) -> None:
        for _ in range(10):
            this_flow.log_info("all of it", **given)

    large().execute()
    made = captured.flow("large").span
    assert bytes_of(made) <= MAX_SPAN_BYTES
    assert estimated_size(made.events[0].attributes) <= MAX_EVENT_BYTES
    assert (made.events[0].attributes or {})[TEXT] == "all of it"
    assert dict(made.attributes or {})["otelflow.dropped.values"] >= 100


# --- threads, a second run, memory ----------------------------------------------------------------------------------


def test_many_threads_at_once(captured: Capture) -> None:
    """Each message is on the span, or counted; those of one thread stand in its order."""

    @flow(flow_config=quiet)
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
    made = captured.flow("crowded").span
    texts = [text for text in said(made) if text != "otelflow.left_out"]
    assert len(set(texts)) == len(texts)
    missing = dict(made.attributes or {})[LEFT_OUT]
    assert isinstance(missing, int)
    assert len(texts) + missing == 3000


@pytest.mark.parametrize("number", [3, 200])
def test_a_thread_that_speaks_while_the_span_ends(number: int, captured: Capture) -> None:
    """Whatever it says is on the span, or counted for one reason."""
    before = Counter(stats().dropped)
    stop, begun = threading.Event(), threading.Event()
    spoken = []

    @flow(flow_config=quiet)
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
    on_span = [text for text in said(captured.flow("ends").span) if text != "otelflow.left_out"]
    assert len(on_span) + lost["events_over_span_limit"] + lost["messages_after_end"] == len(spoken) + number


def test_a_second_execution_starts_clean(captured: Capture) -> None:
    """Its span has its own first and newest events."""
    run = talks(200)
    run.execute()
    run.execute()
    assert [len(made.events) for made in captured.flows] == [128, 128]
    assert [made.attributes[LEFT_OUT] for made in captured.flows] == [73, 73]


def test_what_waits_is_freed_with_its_run() -> None:
    """At once, without the garbage collector."""
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
    """Says little."""
    this_task.log_info("one")


def test_a_task_that_says_little_has_nothing_of_it(captured: Capture) -> None:
    """No ring, no continuation, no attribute."""
    is_small()
    made = captured.task("is_small")
    assert (said(made.span), "otelflow.dropped.events" in made.attributes) == (["one"], False)
