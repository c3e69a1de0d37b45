"""One span as bytes of OTLP's protobuf, and the resource and scope that it stands under.

The shape is that of ``opentelemetry/proto/trace/v1/trace.proto`` (https://github.com/open-telemetry/opentelemetry-proto).
"""

from __future__ import annotations

from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from otelflow._otlp.attribute_encoder import AttributeEncoder, EncodingCache, sized, text_field, varint
from otelflow._otlp.resource_encoder import EncodedScope, EncodedScopes
from otelflow._otlp.shared_attribute_encoder import SharedAttributeEncoder
from otelflow._runtime.log_once import log_once
from otelflow._spans.lean_span import LeanSpan

__all__ = ["SpanEncoder"]

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
_USUAL = _KINDS[SpanKind.INTERNAL]
_INTERNAL, _UNSET = SpanKind.INTERNAL, StatusCode.UNSET  # a member of an Enum is not found at once
_FLAGS, _FLAGS_REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Whether the parent is of another process is known; and it is."""

_LINK_FLAGS, _LINK_FLAGS_REMOTE = b"\x35\x00\x01\x00\x00", b"\x35\x00\x03\x00\x00"
_List: Any = BoundedList  # what is inside is taken out without its lock: a span that has ended does not change
_NO_STATE = SpanContext(1, 1, False).trace_state

_PUBLIC = (
    *("name", "parent", "kind", "start_time", "end_time", "attributes", "events", "links", "status"),
    *("resource", "instrumentation_scope", "dropped_attributes", "dropped_events", "dropped_links"),
    *("get_span_context", "__getattribute__"),
)
_BEFORE = ("_name", "_context", "_parent", "_kind", "_start_time", "_end_time")
_AFTER = ("_events", "_links", "_status", "_resource", "_instrumentation_scope")
_inside = attrgetter(*_BEFORE, "_attributes", *_AFTER)
"""All that is read of a span, in one call: its properties are a third of what encoding it costs."""

_inside_lean = attrgetter(*_BEFORE, "_own", "_said", *_AFTER[1:])
"""The same; the attributes are None where the span is to be asked for its parts, and events may be plain tuples."""


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
    known = LeanSpan if issubclass(cls, LeanSpan) else Span if issubclass(cls, Span) else ReadableSpan
    if not _KNOWN or any(getattr(cls, name, None) is not getattr(known, name) for name in _PUBLIC):
        return _outside
    return _inside_lean if known is LeanSpan else _inside


class SpanEncoder:
    """Writes spans one by one, for one request or several, and remembers what they have in common.

    It is made for one encoding, by one thread, and goes with it: nothing is kept from one batch to the next.
    """

    def __init__(self) -> None:
        self._attributes = AttributeEncoder(b"\x4a")
        self._shared = SharedAttributeEncoder(self._attributes)
        self._of_events, self._of_links = AttributeEncoder(b"\x1a"), AttributeEncoder(b"\x22")
        self._frames = EncodedScopes()
        self._names = EncodingCache(lambda name: text_field(b"\x2a", name))
        self._event_names = EncodingCache(lambda name: text_field(b"\x12", name))
        self._above: dict[int, tuple[int, bytes, Any]] = {}
        self._starts = EncodingCache(lambda size: b"\x12" + varint(size))
        self._readers: dict[type, Any] = {}
        self._read: Any = None
        self._class = self._resource = self._scope = self._frame = None  # those of the last span

    def span(self, span: Any) -> tuple[bytes, EncodedScope] | None:
        """``span`` as a field of its scope's message, and that scope's frame; None where it cannot be encoded."""
        try:
            if type(span) is not self._class:
                self._meet(type(span))
            name, context, parent, kind, start, end, attributes, events, links, status, resource, scope = self._read(
                span
            )
            if resource is not self._resource or scope is not self._scope:
                self._enter(resource, scope)
            trace_id, span_id, _, state = _facts(context)
            known, head, _ = self._above.get(id(parent)) or self._below(parent, trace_id)
            if attributes is None:
                about = self._shared.written(span)
            else:
                about = self._attributes.written(attributes)
                if dropped := span.dropped_attributes:
                    about += b"\x50" + varint(dropped)
            is_plain = events == () and links == () and state is _NO_STATE
            body = b"".join(
                (
                    head if known == trace_id else self._below(parent, trace_id)[1],
                    span_id.to_bytes(8, "big"),
                    self._names[name],
                    _USUAL if kind is _INTERNAL else _KINDS[kind],
                    _TIMES.pack(0x39, start or 0, 0x41, end or 0),
                    about,
                    b"\x7a\x00" if status.status_code is _UNSET else _status(status),
                    b"" if is_plain else self._rare(span, state, events, links),
                )
            )
            return self._starts[len(body)] + body, self._frame  # type: ignore[return-value]
        except Exception:  # anything that is not as the SDK's spans are
            return self._by_upstream(span)

    def _by_upstream(self, span: Any) -> tuple[bytes, EncodedScope] | None:
        try:
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            message = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
            frame = self._frames.of(span.resource, span.instrumentation_scope)
            return b"\x12" + sized(message.SerializeToString()), frame
        except Exception as error:
            log_once("otlp span", "A span cannot be encoded and is lost: %s", error, exc_info=True)
            return None

    # --- what spans have in common ------------------------------------------------------------------------------

    def _meet(self, cls: type) -> None:
        self._class = None
        self._read = self._readers.get(cls) or self._readers.setdefault(cls, _reader(cls))
        self._class = cls  # type: ignore[assignment]

    def _enter(self, resource: Any, scope: Any) -> None:
        self._frame = self._frames.of(resource, scope)  # type: ignore[assignment]
        self._resource, self._scope = resource, scope

    def _below(self, parent: Any, trace_id: int) -> tuple[int, bytes, Any]:
        """What children of ``parent`` have in common: flags, parent, trace, and what stands before their own id. They
        know it again by identity, so it is held."""
        above, flags = b"", _FLAGS
        if parent is not None:
            _, parent_id, is_remote, _ = _facts(parent)
            above = b"\x22\x08" + parent_id.to_bytes(8, "big")
            flags = _FLAGS_REMOTE if is_remote else _FLAGS
        made = trace_id, flags + above + b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08", parent
        if len(self._above) >= _MOST_KNOWN:
            self._above.clear()
        self._above[id(parent)] = made
        return made

    # --- what few spans have ------------------------------------------------------------------------------------

    def _rare(self, span: Any, state: Any, events: Any, links: Any) -> bytes:
        parts = [] if state is _NO_STATE else [_trace_state(state)]
        within, dropped = (events._dq, events.dropped) if type(events) is _List else (events, span.dropped_events)
        parts += [self._plain(*event) if type(event) is tuple else self._event(event) for event in within]
        if dropped:
            parts.append(b"\x60" + varint(dropped))
        within, dropped = (links._dq, links.dropped) if type(links) is _List else (links, span.dropped_links)
        parts += [self._link(link) for link in within]
        if dropped:
            parts.append(b"\x70" + varint(dropped))
        return b"".join(parts)

    def _plain(self, name: str, attributes: dict[str, Any], ns: int) -> bytes:
        """An event that a lean span has not made yet."""
        parts = [_TIME.pack(9, ns), self._event_names[name], *self._of_events.fields(attributes)]
        return b"\x5a" + sized(b"".join(parts))

    def _event(self, event: Any) -> bytes:
        parts = [_TIME.pack(9, event.timestamp), self._event_names[event.name]]
        parts += self._of_events.fields(event.attributes)
        if dropped := event.dropped_attributes:
            parts.append(b"\x20" + varint(dropped))
        return b"\x5a" + sized(b"".join(parts))

    def _link(self, link: Any) -> bytes:
        trace_id, span_id, is_remote, _ = _facts(link.context)  # upstream's encoder leaves its state out, too
        body = b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big")
        body += b"".join(self._of_links.fields(link.attributes))
        if dropped := link.dropped_attributes:
            body += b"\x28" + varint(dropped)
        return b"\x6a" + sized(body + (_LINK_FLAGS_REMOTE if is_remote else _LINK_FLAGS))


def _status(status: Any) -> bytes:
    code = status.status_code.value
    body = text_field(b"\x12", status.description) + (b"\x18" + varint(code) if code else b"")
    return b"\x7a" + sized(body)


def _trace_state(state: Any) -> bytes:
    return text_field(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()]))
