"""Convert spans of the SDK to the span model of the exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind, StatusCode

from otelflow_exporters._trace.span import Event, Kind, Link, Span, StatusName

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["from_sdk", "is_root"]

_KINDS: dict[SpanKind, Kind] = {
    SpanKind.INTERNAL: "internal",
    SpanKind.SERVER: "server",
    SpanKind.CLIENT: "client",
    SpanKind.PRODUCER: "producer",
    SpanKind.CONSUMER: "consumer",
}
_STATUSES: dict[StatusCode, StatusName] = {
    StatusCode.UNSET: "unset",
    StatusCode.OK: "ok",
    StatusCode.ERROR: "error",
}
_NO_CONTEXT = (0, 0)


def is_root(span: ReadableSpan) -> bool:
    """Return whether the span has no parent in this process."""
    return span.parent is None or span.parent.is_remote


def from_sdk(span: ReadableSpan, *, brief: bool = False) -> Span:
    """Convert a span of the SDK. The attributes are the SDK's own object, not a copy.

    ``brief`` omits links, resource and scope, and the events of a span that did not fail.
    """
    context, parent, status = span.context, span.parent, _STATUSES[span.status.status_code]
    trace_id, span_id = (context.trace_id, context.span_id) if context else _NO_CONTEXT
    details = {} if brief else _details(span)
    return Span(
        trace_id=f"{trace_id:032x}",
        span_id=f"{span_id:016x}",
        parent_id=None if parent is None else f"{parent.span_id:016x}",
        name=span.name,
        start=span.start_time or 0,
        end=span.end_time,
        kind=_KINDS[span.kind],
        status=status,
        status_message=span.status.description or "",
        attributes=span.attributes or {},
        events=() if brief and status != "error" else _events(span),
        parent_is_remote=parent is not None and parent.is_remote,
        **details,
    )


def _events(span: ReadableSpan) -> list[Event]:
    return [Event(event.name, event.timestamp, event.attributes or {}) for event in span.events]


def _details(span: ReadableSpan) -> dict[str, Any]:
    scope = span.instrumentation_scope
    return {
        "links": [
            Link(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}", link.attributes or {})
            for link in span.links
        ],
        "resource": span.resource.attributes if span.resource else {},
        "scope": f"{scope.name} {scope.version or ''}".strip() if scope else "",
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
    }
