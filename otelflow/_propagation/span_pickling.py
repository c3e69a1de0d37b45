"""Ended spans in a form that can be pickled, and back: the SDK's own hold locks and processors."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, _Span
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otelflow._spans.tracer import SCOPE
from otelflow._version import __version__

__all__ = ["Ids", "context_from", "ids_of", "live_again", "parts_of"]

Ids = tuple[int, int, int, bool, str]
"""A span context: trace id, span id, flags, whether it is remote, trace state as in its W3C header."""


def ids_of(context: SpanContext) -> Ids:
    """A span context as plain values."""
    return (
        context.trace_id,
        context.span_id,
        int(context.trace_flags),
        context.is_remote,
        context.trace_state.to_header(),
    )


def context_from(ids: Ids) -> SpanContext:
    """The span context that ``ids`` tell."""
    trace_id, span_id, flags, is_remote, state = ids
    return SpanContext(
        trace_id, span_id, is_remote, TraceFlags(flags), TraceState.from_header([state] if state else [])
    )


def parts_of(span: ReadableSpan) -> tuple[Any, ...]:
    """All that an exporter reads of a span, but for its resource and scope."""
    status, context = span.status, span.context
    assert context is not None  # an ended span has one
    return (
        span.name,
        ids_of(context),
        None if span.parent is None else ids_of(span.parent),
        span.kind.value,
        dict(span.attributes or {}),
        [(event.name, dict(event.attributes or {}), event.timestamp) for event in span.events],
        [(ids_of(link.context), dict(link.attributes or {})) for link in span.links],
        (status.status_code.value, status.description),
        (span.start_time, span.end_time),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
    )


def live_again(parts: tuple[Any, ...], tracer: Any) -> None:
    """Start and end a span of ``tracer`` with the parts of one that ran elsewhere: a span as any other to its
    processors, in this process's resource, and within its limits."""
    name, ids, parent, kind, attributes, events, links, (code, description), (start, end), dropped = parts
    above = None if parent is None else context_from(parent)
    context = Context() if above is None else set_span_in_context(NonRecordingSpan(above), Context())
    span = _Span(
        name=name,
        context=context_from(ids),
        parent=above,
        sampler=tracer.sampler,
        resource=tracer.resource,
        attributes=attributes,
        links=[Link(context_from(ids), attributes) for ids, attributes in links],
        kind=SpanKind(kind),
        span_processor=tracer.span_processor,
        instrumentation_scope=InstrumentationScope(SCOPE, __version__),
        limits=tracer._span_limits,
    )
    span.start(start, context)
    for event, attributes, timestamp in events:
        span.add_event(event, attributes, timestamp)
    if code:
        span.set_status(Status(StatusCode(code), description))
    for items, number in zip((span._attributes, span._events, span._links), dropped, strict=True):
        items.dropped += number  # type: ignore[union-attr]
    span.end(end)
