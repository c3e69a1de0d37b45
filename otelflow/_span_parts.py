"""Ended spans in a form that can be pickled, and back: the SDK's own hold locks and processors."""

from __future__ import annotations

from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

__all__ = ["FROM_WORKER", "Ids", "context_from", "ids_of", "parts_of", "span_from"]

FROM_WORKER = "_otelflow_from_worker"
"""Attribute of the spans made here: they began in another process, so that no processor saw them start."""

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


def span_from(parts: tuple[Any, ...], resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """An ended span of this process's ``resource``, from the parts that :func:`parts_of` made elsewhere."""
    name, ids, parent, kind, attributes, events, links, (code, description), (start, end), dropped = parts
    made = ReadableSpan(
        name=name,
        context=context_from(ids),
        parent=None if parent is None else context_from(parent),
        resource=resource,
        attributes=_counted_attributes(attributes, dropped[0]),
        events=_counted([Event(name, attributes, timestamp) for name, attributes, timestamp in events], dropped[1]),
        links=_counted([Link(context_from(ids), attributes) for ids, attributes in links], dropped[2]),
        kind=SpanKind(kind),
        status=Status(StatusCode(code), description),
        start_time=start,
        end_time=end,
        instrumentation_scope=scope,
    )
    setattr(made, FROM_WORKER, True)
    return made


def _counted_attributes(attributes: dict[str, Any], dropped: int) -> Any:
    made = BoundedAttributes(attributes=attributes, immutable=True)
    made.dropped = dropped
    return made


def _counted(items: list[Any], dropped: int) -> Any:
    """A list that knows how many more there were, as exporters ask."""
    if not dropped:
        return items
    made = BoundedList.from_seq(max(1, len(items)), items)
    made.dropped = dropped
    return made
