"""Lean spans behave like the SDK's spans: after any sequence of calls, the exported span is the same."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otelflow import stats
from otelflow._spans import lean_span, lean_tracer
from otelflow._spans.event_overflow import add_event
from otelflow._spans.tracer import TracerSource
from otelflow._values.attribute import to_attribute

START = {"otelflow.kind": "task", "number": 3, "list": ("a", "b")}


keys = st.sampled_from(["a", "b", "otelflow.kind", "", "long" * 10])


values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(0, 3), max_size=3)


attributes = st.dictionaries(keys, values, max_size=4)


LINKED = SpanContext(7, 8, True, TraceFlags(1))


Step = Callable[[Any], object]


def raised_error(text: str) -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


ERROR = raised_error("the same")


steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(keys, values).map(lambda value: lambda span: span.set_attribute(*value)),
    attributes.map(lambda value: lambda span: span.set_attributes(value)),
    st.tuples(st.text(max_size=3), attributes).map(lambda value: lambda span: span.add_event(*value, timestamp=5)),
    st.dictionaries(st.sampled_from("abc"), st.text(max_size=5), max_size=3).map(
        lambda value: lambda span: add_event(span, "of ours", dict(value), 7)
    ),
    attributes.map(lambda value: lambda span: span.add_link(LINKED, value)),
    st.sampled_from([Status(StatusCode.ERROR, "no"), Status(StatusCode.OK), Status(StatusCode.UNSET)]).map(
        lambda value: lambda span: span.set_status(value)
    ),
    st.text(max_size=3).map(lambda value: lambda span: span.update_name(value)),
    st.just(lambda span: span.record_exception(ERROR, timestamp=6)),
    st.just(lambda span: span.end(99)),
    st.just(lambda span: (span.attributes, span.events, span.links, span.status, span.is_recording())),
)


class StartRecorder(SpanProcessor):
    """A processor of the user that records what it sees when a span starts."""

    def __init__(self) -> None:
        self.starts: list[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.starts.append((span.name, dict(span.attributes), span.kind, span.start_time, parent_context is not None))
        span.set_attribute("from.processor", True)


def exported(calls: list[Step], lean: bool, limits: SpanLimits | None = None) -> tuple[ReadableSpan, list[Any]]:
    """Return the exported span after ``calls``, started as a lean span or by the SDK, and what processors saw."""
    memory, recorder = InMemorySpanExporter(), StartRecorder()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(recorder)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("otelflow", "1", attributes={"scope": 1})
    root = tracer.start_span("root", start_time=1)
    context = set_span_in_context(root)
    if lean:
        start = lean_tracer.starter_for(tracer)
        assert start is not None
        span: Any = start("task", context, (START,), 10)
        assert isinstance(span, lean_span.LeanSpan)
    else:
        span = tracer.start_span("task", context, attributes=dict(START), start_time=10)
    for step in calls:
        step(span)
    span.end(100)
    (exported_span,) = memory.get_finished_spans()
    assert exported_span.parent is not None
    assert exported_span.context is not None
    assert (exported_span.parent.span_id, exported_span.context.trace_id) == (
        root.get_span_context().span_id,
        exported_span.parent.trace_id,
    )
    return exported_span, recorder.starts


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Return everything that an exporter may read, except ids."""
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
def test_any_sequence_of_calls_leaves_the_same_span(calls: list[Step]) -> None:
    """Attributes, events, links, status, name, times, drops: equal to the SDK's own; processors saw the same start."""
    lean, lean_starts = exported(calls, lean=True)
    sdk, sdk_starts = exported(calls, lean=False)
    assert facts(lean) == facts(sdk)
    assert lean_starts == sdk_starts
    assert isinstance(lean, ReadableSpan)


@settings(deadline=None)
@given(st.lists(steps, max_size=12), st.sampled_from([0, 1, 2, 3, 5, 33]))
def test_limits_hold(calls: list[Step], limit: int) -> None:
    """The SDK's limits of attributes, events and links apply to lean spans too."""
    limits = SpanLimits(
        max_span_attributes=limit, max_events=2, max_links=1, max_event_attributes=1, max_link_attributes=1
    )
    assert facts(exported(calls, True, limits)[0]) == facts(exported(calls, False, limits)[0])


anything = st.recursive(values | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.text(max_size=5), anything, max_size=4), max_size=4),
    st.sampled_from([128, 2, 0]),
    st.sampled_from([128, 2, 0]),
)
def test_events_added_without_the_sdks_checks_are_the_same(
    dicts: list[dict[str, Any]], limit: int, max_events: int
) -> None:
    """They equal the SDK's events, also under limits, and cannot be changed."""
    events = [{key: to_attribute(key, value)[0] for key, value in attributes.items()} for attributes in dicts]
    limits = SpanLimits(max_event_attributes=limit, max_events=max_events)
    calls: list[Step] = [partial(_add, attributes=attributes) for attributes in events]
    lean, sdk = exported(calls, True, limits)[0], exported(calls, False, limits)[0]
    assert facts(lean) == facts(sdk)
    for event, other in zip(lean.events, sdk.events, strict=True):
        assert event.dropped_attributes == other.dropped_attributes
        with pytest.raises(TypeError):
            event.attributes["more"] = 1  # type: ignore[index]


def test_events_that_a_processor_replaced_are_exported() -> None:
    """A processor that redacts sets a plain list of the SDK's events."""

    def redact(span: Any) -> None:
        span._events = [Event(event.name, {"gone": True}, event.timestamp) for event in span.events]

    calls: list[Step] = [partial(_add, attributes={"a": 1}), redact, partial(_add, attributes={"b": 2})]
    lean, sdk = exported(calls, True)[0], exported(calls, False)[0]
    assert [dict(event.attributes or {}) for event in lean.events] == [{"gone": True}, {"b": 2}]
    assert facts(lean) == facts(sdk)


def _add(span: Any, attributes: dict[str, Any]) -> None:
    add_event(span, "event", dict(attributes), 50)


class OwnSampler(StaticSampler):
    """A sampler of the user that adds an attribute."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"sampled.by": "me"})


@pytest.mark.parametrize(
    "more",
    [
        {"sampler": OwnSampler(Decision.DROP)},
        {"sampler": ParentBased(ALWAYS_ON, local_parent_sampled=OwnSampler(Decision.DROP))},
        {"span_limits": SpanLimits(max_span_attribute_length=3)},
    ],
    ids=["own sampler", "own sampler below", "value length"],
)
def test_unusual_samplers_and_limits_use_the_public_api(more: dict[str, Any]) -> None:
    """The SDK starts the span if its sampler must be called, or if a limit applies at the start."""
    tracer = TracerProvider(shutdown_on_exit=False, **more).get_tracer("x")
    source = TracerSource(tracer)
    context = set_span_in_context(tracer.start_span("root"))
    assert source.lean("t", context, (), 1) is None
    assert not isinstance(source.start("t", context, (), 1), lean_span.LeanSpan)


def test_an_sdk_with_other_fields_uses_the_public_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the SDK's spans have other fields, the SDK alone creates spans, and flows work the same."""
    monkeypatch.setattr(lean_span, "_known_shape", None)
    monkeypatch.setattr(lean_span, "_SPAN_FIELDS", {*lean_span._SPAN_FIELDS, "_of_the_future"})
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("otelflow")
    source = TracerSource(tracer)
    span = source.start("task", set_span_in_context(tracer.start_span("root")), ({"a": 1},), 5)
    assert not isinstance(span, lean_span.LeanSpan)
    assert not lean_span.has_known_shape()
    assert stats().lean_spans is False


def test_links_given_at_the_start_are_not_lost() -> None:
    """``TracerSource.start`` passes them on: a span with links is the SDK's own."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    span: Any = TracerSource(tracer).start("t", set_span_in_context(tracer.start_span("root")), (), 1, [Link(LINKED)])
    assert [link.context for link in span.links] == [LINKED]


# --- first spans, samplers, generators, processors -------------------------------------------------------------------


class Ids(IdGenerator):
    """Ids that count up from ``first``; 0 is not a valid id."""

    def __init__(self, first: int = 1) -> None:
        self._numbers = itertools.count(first)

    def generate_trace_id(self) -> int:
        return next(self._numbers)

    def generate_span_id(self) -> int:
        return next(self._numbers)


class Meddler(SpanProcessor):
    """A processor that writes at the start and at the end, and replaces the attributes that it redacts."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        span.set_attribute("at.start", len(span.attributes))
        span.add_event("started", {"a": 1}, 7)

    def _on_ending(self, span: Any) -> None:
        span.set_attribute("too.late", True)

    def on_end(self, span: Any) -> None:
        span._attributes = {**span.attributes, "number": "redacted"}


PARENTS = {
    "none": None,
    "local": SpanContext(7, 8, False, TraceFlags(1), TraceState([("k", "v")])),
    "remote": SpanContext(7, 8, True, TraceFlags(3), TraceState([("k", "v")])),
    "local, sampled out": SpanContext(7, 8, False, TraceFlags(0)),
    "remote, sampled out": SpanContext(7, 8, True, TraceFlags(0)),
    "invalid": SpanContext(0, 8, True, TraceFlags(1)),
}


SAMPLERS = {
    "default": lambda: ParentBased(ALWAYS_ON),
    "always": lambda: ALWAYS_ON,
    "never": lambda: ALWAYS_OFF,
    "never, at first": lambda: ParentBased(ALWAYS_OFF),
    "by chance": lambda: ParentBased(TraceIdRatioBased(0.5)),
    "its own": lambda: OwnSampler(Decision.DROP),
    "its own, below": lambda: ParentBased(ALWAYS_ON, remote_parent_sampled=OwnSampler(Decision.DROP)),
    "its own, elsewhere": lambda: ParentBased(ALWAYS_OFF, local_parent_sampled=ALWAYS_OFF),
}


GENERATORS = {"random": lambda: None, "counting": Ids, "none at first": lambda: Ids(0)}


def started(
    by_source: bool, sampler: Any, generator: Any, parent: SpanContext | None
) -> tuple[Any, list[ReadableSpan]]:
    """Start a child of ``parent`` as a task's span or by the SDK, and end it. Return its context and the export."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, id_generator=generator, shutdown_on_exit=False)
    provider.add_span_processor(Meddler())
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("otelflow")
    context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
    if by_source:
        span: Any = TracerSource(tracer).start("t", context, (START,), 10)
    else:
        span = tracer.start_span("t", context, attributes=dict(START), start_time=10)
    span.end(20)
    return span.get_span_context(), list(memory.get_finished_spans())


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("parent", PARENTS)
def test_any_parent_sampler_and_id_generator_give_the_same_span(parent: str, sampler: str, generator: str) -> None:
    """Flags, trace state, validity, the exported spans and the changes of processors are the same as the SDK's."""
    recorder = []
    assert lean_span.has_known_shape()  # its first call starts a span, which draws ids from the seeded generator
    for by_source in (True, False):
        random.seed(11)
        context, spans = started(by_source, SAMPLERS[sampler](), GENERATORS[generator](), PARENTS[parent])
        recorder.append((tuple(context), [facts(span) for span in spans], [span.parent for span in spans]))
    assert recorder[0] == recorder[1]


def test_a_disabled_tracer_starts_no_span() -> None:
    """Each start reads the SDK's switch, if this version has one."""
    provider = TracerProvider(shutdown_on_exit=False)
    tracer: Any = provider.get_tracer("x")
    if not hasattr(tracer, "_tracer_config"):
        pytest.skip("this SDK cannot switch a tracer off")
    source = TracerSource(tracer)
    assert source.start("t", Context(), (), 1).is_recording()
    tracer._set_tracer_config(replace(tracer._tracer_config, is_enabled=False))
    assert not source.start("t", Context(), (), 1).is_recording()


def test_a_processor_that_is_added_later_is_called() -> None:
    """It receives the end of a span that has started before, and all later spans."""
    provider = TracerProvider(shutdown_on_exit=False)
    source, memory = TracerSource(provider.get_tracer("x")), InMemorySpanExporter()
    span = source.start("first", Context(), (), 1)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    span.end()
    source.start("second", Context(), (), 1).end()
    assert [span.name for span in memory.get_finished_spans()] == ["first", "second"]


def test_an_ended_span_is_copied_as_the_sdk_s_are() -> None:
    """Processors that keep copies get a readable span, without locks."""
    source = TracerSource(TracerProvider(shutdown_on_exit=False).get_tracer("x"))
    span: Any = source.start("t", Context(), (START, 5), 1)
    span.end(9)
    ways = [copy.copy, copy.deepcopy] if hasattr(BoundedAttributes, "__deepcopy__") else [copy.copy]  # since 1.40
    for way in ways:
        assert facts(way(span)) == facts(span)
        assert type(way(span)) is ReadableSpan
    assert span.attributes["otelflow.task.run_id"] == f"task_{5:028x}"
