"""One span as bytes of OTLP's protobuf, and the resource and scope that it stands under.

The shape is that of ``opentelemetry/proto/trace/v1/trace.proto`` (https://github.com/open-telemetry/opentelemetry-proto).
"""

from __future__ import annotations

from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from otelflow._counts import log_once
from otelflow._otlp_values import Attributes, sized, text_field, varint

__all__ = ["Encoding", "Frame"]

_MOST_KNOWN = 1024
"""Names, trace ids and the like that are remembered for one encoding."""

_TIMES = Struct("<BQBQ")
_TIME = Struct("<BQ")
_KINDS = {
    SpanKind.INTERNAL: b"\x30\x01",
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
_FLAGS, _FLAGS_REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Whether the parent is of another process is known; and it is."""

_LINK_FLAGS, _LINK_FLAGS_REMOTE = b"\x35\x00\x01\x00\x00", b"\x35\x00\x03\x00\x00"
_NO_STATE = SpanContext(1, 1, False).trace_state

_PUBLIC = (
    *("name", "parent", "kind", "start_time", "end_time", "attributes", "events", "links", "status"),
    *("resource", "instrumentation_scope", "dropped_attributes", "dropped_events", "dropped_links"),
)
_inside = attrgetter(
    *("_name", "_context", "_parent", "_kind", "_start_time", "_end_time", "_attributes", "_events", "_links"),
    *("_status", "_resource", "_instrumentation_scope"),
)
"""All that is read of a span, in one call: its properties are a third of what encoding it costs."""


def _inside_is_known() -> bool:
    """Whether this SDK's spans keep their facts under the names above."""
    given = [object() for _ in range(12)]
    names = ("name", "context", "parent", "kind", "start_time", "end_time", "attributes", "events", "links", "status")
    try:
        span = ReadableSpan(**dict(zip((*names, "resource", "instrumentation_scope"), given, strict=True)))  # type: ignore[arg-type]
        return list(_inside(span)) == given
    except Exception:  # whatever another version may do
        return False


_KNOWN = _inside_is_known()
_some = SpanContext(1, 2, True, TraceFlags(1), TraceState([("a", "b")]))
_facts: Any = (
    itemgetter(0, 1, 2, 4)
    if tuple(_some)[:5] == (1, 2, True, 1, _some.trace_state)
    else attrgetter("trace_id", "span_id", "is_remote", "trace_state")
)


def _outside(span: Any) -> tuple[Any, ...]:
    """What :data:`_inside` reads, of a span that may answer differently from what it keeps."""
    return (
        *(span.name, span.get_span_context(), span.parent, span.kind, span.start_time, span.end_time),
        *(span.attributes, list(span.events), list(span.links), span.status),
        *(span.resource, span.instrumentation_scope),
    )


def _reader(cls: type) -> Any:
    """How spans of ``cls`` are read: from within only where the class answers as the SDK's own do."""
    usual = (
        _KNOWN
        and all(getattr(cls, name, None) is getattr(ReadableSpan, name) for name in _PUBLIC)
        and getattr(cls, "get_span_context", None) in (ReadableSpan.get_span_context, Span.get_span_context)
        and getattr(cls, "__getattribute__", None) is object.__getattribute__  # a method, to mypy
    )
    return _inside if usual else _outside


class Frame:
    """What stands around spans of one resource, or of one scope: before them, and after them."""

    __slots__ = ("after", "before", "parent")

    def __init__(self, before: bytes, after: bytes, parent: Frame | None = None) -> None:
        self.before, self.after, self.parent = before, after, parent


class Encoding:
    """Writes spans one by one, for one request or several, and remembers what they have in common.

    It is made for one encoding, by one thread, and goes with it: nothing is kept from one batch to the next.
    """

    def __init__(self) -> None:
        self._attributes, self._of_events = Attributes(b"\x4a"), Attributes(b"\x1a")
        self._readers: dict[type, Any] = {}
        self._names: dict[str, bytes] = {}
        self._traces: dict[int, bytes] = {}
        self._frames: dict[Any, Frame] = {}
        self._places: dict[tuple[int, int], tuple[Frame, Any, Any]] = {}

    def span(self, span: ReadableSpan) -> tuple[bytes, Frame] | None:
        """``span`` as a field of its scope's message, and that scope's frame; None where it cannot be encoded."""
        try:
            return self._by_hand(span)
        except Exception:  # anything that is not as the SDK's spans are
            return self._by_upstream(span)

    def _by_hand(self, span: Any) -> tuple[bytes, Frame]:
        read = self._readers.get(type(span)) or self._readers.setdefault(type(span), _reader(type(span)))
        name, context, parent, kind, start, end, attributes, events, links, status, resource, scope = read(span)
        trace_id, span_id, _, state = _facts(context)
        parts = [
            self._traces.get(trace_id) or self._trace(trace_id),
            span_id.to_bytes(8, "big"),
            self._names.get(name) or self._name(name),
            b"\x30\x01" if kind is SpanKind.INTERNAL else _KINDS[kind],
            _TIMES.pack(0x39, start or 0, 0x41, end or 0),
            self._attributes.written(attributes),
            b"\x7a\x00" if status.status_code is StatusCode.UNSET and not status.description else _status(status),
        ]
        if parent is None:
            parts.append(_FLAGS)
        else:
            _, above, is_remote, _ = _facts(parent)
            parts += b"\x22\x08", above.to_bytes(8, "big"), _FLAGS_REMOTE if is_remote else _FLAGS
        if state is not _NO_STATE:
            parts.append(_trace_state(state))
        if dropped := span.dropped_attributes:
            parts += b"\x50", varint(dropped)
        if events or type(events) is not tuple:
            self._add_events(parts, events, span.dropped_events)
        if links or type(links) is not tuple:
            self._add_links(parts, links, span.dropped_links)
        body = b"".join(parts)
        place = self._places.get((id(resource), id(scope))) or self._place(resource, scope)
        return b"\x12" + varint(len(body)) + body, place[0]

    def _by_upstream(self, span: Any) -> tuple[bytes, Frame] | None:
        try:
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            message = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
            return b"\x12" + sized(message.SerializeToString()), self._place(span.resource, span.instrumentation_scope)[
                0
            ]
        except Exception as error:
            log_once("otlp span", "A span cannot be encoded and is lost: %s", error, exc_info=True)
            return None

    # --- what spans have in common ------------------------------------------------------------------------------

    def _trace(self, trace_id: int) -> bytes:
        """A trace's id, and what stands before the id of a span of it."""
        made = b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08"
        if len(self._traces) < _MOST_KNOWN:
            self._traces[trace_id] = made
        return made

    def _name(self, name: str) -> bytes:
        made = text_field(b"\x2a", name)
        if len(self._names) < _MOST_KNOWN:
            self._names[name] = made
        return made

    def _place(self, resource: Any, scope: Any) -> tuple[Frame, Any, Any]:
        """The frame of a scope within a resource; the two are held, as they are known again by identity."""
        if len(self._places) >= _MOST_KNOWN:
            self._places.clear()
        made = self._scope_frame(scope, self._resource_frame(resource)), resource, scope
        self._places[id(resource), id(scope)] = made
        return made

    def _resource_frame(self, resource: Any) -> Frame:
        fields = Attributes(b"\x0a").fields(resource.attributes)
        key = "resource", frozenset(fields), resource.schema_url
        before = b"\x0a" + sized(b"".join(fields))
        return self._frames.setdefault(key, Frame(before, text_field(b"\x1a", resource.schema_url)))

    def _scope_frame(self, scope: Any, parent: Frame) -> Frame:
        if scope is None:
            return self._frames.setdefault((parent, None), Frame(b"\x0a\x00", b"", parent))
        fields = Attributes(b"\x1a").fields(scope.attributes)
        key = parent, scope.name, scope.version, scope.schema_url, frozenset(fields)
        before = text_field(b"\x0a", scope.name) + text_field(b"\x12", scope.version) + b"".join(fields)
        made = Frame(b"\x0a" + sized(before), text_field(b"\x1a", scope.schema_url), parent)
        return self._frames.setdefault(key, made)

    # --- what few spans have ------------------------------------------------------------------------------------

    def _add_events(self, parts: list[bytes], events: Any, dropped: int) -> None:
        for event in events:
            body = _TIME.pack(9, event.timestamp) + text_field(b"\x12", event.name)
            body += b"".join(self._of_events.fields(event.attributes))
            if event.dropped_attributes:
                body += b"\x20" + varint(event.dropped_attributes)
            parts += b"\x5a", sized(body)
        if dropped:
            parts += b"\x60", varint(dropped)

    def _add_links(self, parts: list[bytes], links: Any, dropped: int) -> None:
        for link in links:
            trace_id, span_id, is_remote, _ = _facts(link.context)  # upstream's encoder leaves its state out, too
            body = b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big")
            body += b"".join(Attributes(b"\x22").fields(link.attributes))
            if link.dropped_attributes:
                body += b"\x28" + varint(link.dropped_attributes)
            parts += b"\x6a", sized(body + (_LINK_FLAGS_REMOTE if is_remote else _LINK_FLAGS))
        if dropped:
            parts += b"\x70", varint(dropped)


def _status(status: Any) -> bytes:
    code = status.status_code.value
    body = text_field(b"\x12", status.description) + (b"\x18" + varint(code) if code else b"")
    return b"\x7a" + sized(body)


def _trace_state(state: Any) -> bytes:
    return text_field(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()]))
