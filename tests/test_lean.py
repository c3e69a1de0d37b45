"""Lean spans are the SDK's spans: whatever is done to them, what is exported is the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, SamplingResult, StaticSampler
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from otelflow import _lean, _lean_start
from otelflow._overflow import add_event
from otelflow._telemetry import Source
from otelflow._values import attribute

START = {"otelflow.kind": "task", "number": 3, "list": ("a", "b")}

keys = st.sampled_from(["a", "b", "otelflow.kind", "", "long" * 10])
values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(0, 3), max_size=3)
attributes = st.dictionaries(keys, values, max_size=4)
LINKED = SpanContext(7, 8, True, TraceFlags(1))

Step = Callable[[Any], object]


def raised(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


ERROR = raised("the same")

steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(keys, values).map(lambda given: lambda span: span.set_attribute(*given)),
    attributes.map(lambda given: lambda span: span.set_attributes(given)),
    st.tuples(st.text(max_size=3), attributes).map(lambda given: lambda span: span.add_event(*given, timestamp=5)),
    attributes.map(lambda given: lambda span: span.add_link(LINKED, given)),
    st.sampled_from([Status(StatusCode.ERROR, "no"), Status(StatusCode.OK), Status(StatusCode.UNSET)]).map(
        lambda given: lambda span: span.set_status(given)
    ),
    st.text(max_size=3).map(lambda given: lambda span: span.update_name(given)),
    st.just(lambda span: span.record_exception(ERROR, timestamp=6)),
    st.just(lambda span: span.end(99)),
    st.just(lambda span: (span.attributes, span.events, span.links, span.status, span.is_recording())),
)


class Seen(SpanProcessor):
    """What a processor of the user's sees when a span starts."""

    def __init__(self) -> None:
        self.starts: list[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.starts.append((span.name, dict(span.attributes), span.kind, span.start_time, parent_context is not None))
        span.set_attribute("from.processor", True)


def exported(todo: list[Step], lean: bool, limits: SpanLimits | None = None) -> tuple[ReadableSpan, list[Any]]:
    """The span that ``todo`` leaves, started leanly or by the SDK, and what processors saw."""
    memory, seen = InMemorySpanExporter(), Seen()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(seen)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("otelflow", "1", attributes={"scope": 1})
    root = tracer.start_span("root", start_time=1)
    context = set_span_in_context(root)
    if lean:
        start = _lean_start.starter_for(tracer)
        assert start is not None
        span: Any = start("task", context, (START,), 10)
        assert isinstance(span, _lean.LeanSpan)
    else:
        span = tracer.start_span("task", context, attributes=dict(START), start_time=10)
    for step in todo:
        step(span)
    span.end(100)
    (made,) = memory.get_finished_spans()
    assert made.parent is not None
    assert made.context is not None
    assert (made.parent.span_id, made.context.trace_id) == (root.get_span_context().span_id, made.parent.trace_id)
    return made, seen.starts


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Everything that an exporter may look at, but for ids."""
    assert span.context is not None
    return {
        "name": span.name,
        "kind": span.kind,
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code, span.status.description),
        "attributes": list((span.attributes or {}).items()),
        "events": [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events],
        "links": [(link.context, dict(link.attributes or {})) for link in span.links],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "flags": (span.context.trace_flags, span.context.trace_state, span.context.is_remote),
        "scope": span.instrumentation_scope,
        "resource": dict(span.resource.attributes),
    }


@settings(deadline=None)
@given(st.lists(steps, max_size=12))
def test_any_sequence_of_calls_leaves_the_same_span(todo: list[Step]) -> None:
    """Attributes, events, links, status, name, times, drops: equal to the SDK's own; processors saw the same start."""
    lean, lean_seen = exported(todo, lean=True)
    usual, usual_seen = exported(todo, lean=False)
    assert facts(lean) == facts(usual)
    assert lean_seen == usual_seen
    assert isinstance(lean, ReadableSpan)


@settings(deadline=None)
@given(st.lists(steps, max_size=12), st.sampled_from([0, 1, 2, 3, 5, 33]))
def test_limits_hold(todo: list[Step], most: int) -> None:
    """The SDK's limits of attributes, events and links are the lean span's, too."""
    limits = SpanLimits(
        max_span_attributes=most, max_events=2, max_links=1, max_event_attributes=1, max_link_attributes=1
    )
    assert facts(exported(todo, True, limits)[0]) == facts(exported(todo, False, limits)[0])


anything = st.recursive(values | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=5), anything, max_size=4), max_size=4),
    st.sampled_from([128, 2, 0]),
)
def test_events_of_ours_are_the_same(given_: list[dict[str, Any]], most: int) -> None:
    """Made without the SDK looking at what we cleaned: equal, also under limits, and as unchangeable."""
    events = [{key: attribute(key, value)[0] for key, value in one.items()} for one in given_]
    limits = SpanLimits(max_event_attributes=most)
    todo: list[Step] = [partial(_add, attributes=attributes) for attributes in events]
    lean, usual = exported(todo, True, limits)[0], exported(todo, False, limits)[0]
    assert facts(lean) == facts(usual)
    for event, other in zip(lean.events, usual.events, strict=True):
        assert event.dropped_attributes == other.dropped_attributes
        with pytest.raises(TypeError):
            event.attributes["more"] = 1  # type: ignore[index]


def _add(span: Any, attributes: dict[str, Any]) -> None:
    add_event(span, "event", dict(attributes), 50)


class ByName(StaticSampler):
    """A sampler of the user's own, which looks at attributes."""

    def should_sample(self, *given: Any, **more: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "me"})


@pytest.mark.parametrize(
    "more",
    [
        {"sampler": ByName(Decision.DROP)},
        {"sampler": ParentBased(ALWAYS_ON, local_parent_sampled=ByName(Decision.DROP))},
        {"span_limits": SpanLimits(max_span_attribute_length=3)},
    ],
    ids=["own sampler", "own sampler below", "value length"],
)
def test_what_is_unusual_takes_the_public_way(more: dict[str, Any]) -> None:
    """Samplers that have to be asked and limits that apply at the start."""
    tracer = TracerProvider(shutdown_on_exit=False, **more).get_tracer("x")
    source = Source(tracer)
    context = set_span_in_context(tracer.start_span("root"))
    assert source.lean("t", context, (), 1) is None
    assert not isinstance(source.start("t", context, (), 1), _lean.LeanSpan)


def test_an_sdk_of_another_shape_takes_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK's fields are not those known, spans are made by the SDK alone, and flows work the same."""
    monkeypatch.setattr(_lean, "_known_shape", None)
    monkeypatch.setattr(_lean, "_OF_SPAN", {*_lean._OF_SPAN, "_of_the_future"})
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("otelflow")
    source = Source(tracer)
    span = source.start("task", set_span_in_context(tracer.start_span("root")), ({"a": 1},), 5)
    assert not isinstance(span, _lean.LeanSpan)
    assert not _lean.has_known_shape()


def test_links_given_at_the_start_are_not_lost() -> None:
    """Source.start passes them on: a span with links is the SDK's own."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    span: Any = Source(tracer).start("t", set_span_in_context(tracer.start_span("root")), (), 1, [Link(LINKED)])
    assert [link.context for link in span.links] == [LINKED]
