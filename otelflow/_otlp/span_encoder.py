"""Encode one span as OTLP protobuf bytes.

The messages are those of ``opentelemetry/proto/trace/v1/trace.proto``
(https://github.com/open-telemetry/opentelemetry-proto).
"""

from __future__ import annotations

from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, Span
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from otelflow._otlp.attribute_encoder import AttributeEncoder, EncodingCache, text_field, varint, with_length
from otelflow._otlp.resource_encoder import EncodedScope, EncodedScopes
from otelflow._otlp.shared_attribute_encoder import SharedAttributeEncoder
from otelflow._runtime.log_once import log_once
from otelflow._spans.lean_span import LeanSpan

__all__ = ["SpanEncoder"]

_MAX_CACHED = 1024
"""Limit of cached parents."""

_TIMES = Struct("<BQBQ")
_TIME = Struct("<BQ")
_KINDS = {
    SpanKind.INTERNAL: b"\x30\x01",
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
_USUAL_KIND = _KINDS[SpanKind.INTERNAL]
_INTERNAL, _UNSET = SpanKind.INTERNAL, StatusCode.UNSET  # looking up a member of an Enum is slow
_FLAGS, _FLAGS_REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Flags of a span: it is known whether the parent is remote, and it is not; or it is."""

_LINK_FLAGS, _LINK_FLAGS_REMOTE = b"\x35\x00\x01\x00\x00", b"\x35\x00\x03\x00\x00"
_List: Any = BoundedList  # its items are read without its lock: a span that has ended does not change
_NO_STATE = SpanContext(1, 1, False).trace_state

_PUBLIC_NAMES = (
    *("name", "parent", "kind", "start_time", "end_time", "attributes", "events", "links", "status"),
    *("resource", "instrumentation_scope", "dropped_attributes", "dropped_events", "dropped_links"),
    *("get_span_context", "__getattribute__"),
)
_FIELDS_BEFORE = ("_name", "_context", "_parent", "_kind", "_start_time", "_end_time")
_FIELDS_AFTER = ("_events", "_links", "_status", "_resource", "_instrumentation_scope")
_read_fields = attrgetter(*_FIELDS_BEFORE, "_attributes", *_FIELDS_AFTER)
"""Read all fields of a span in one call: its properties take a third of the time of encoding it."""

_read_lean_fields = attrgetter(*_FIELDS_BEFORE, "_own", "_event_list", *_FIELDS_AFTER[1:])
"""The same for a lean span. The attributes are None if it still shares them; events may be plain tuples."""


def _has_known_fields() -> bool:
    """Return whether spans of this SDK version store their values in the fields above."""
    values = [object() for _ in range(12)]
    names = ("name", "context", "parent", "kind", "start_time", "end_time", "attributes", "events", "links", "status")
    try:
        span = ReadableSpan(**dict(zip((*names, "resource", "instrumentation_scope"), values, strict=True)))  # type: ignore[arg-type]
        return list(_read_fields(span)) == values
    except Exception:  # another version may raise anything
        return False


_HAS_KNOWN_FIELDS = _has_known_fields()
_example = SpanContext(1, 2, True, TraceFlags(1), TraceState([("a", "b")]))
_read_context: Any = (
    itemgetter(0, 1, 2, 4)
    if tuple(_example)[:5] == (1, 2, True, 1, _example.trace_state)
    else attrgetter("trace_id", "span_id", "is_remote", "trace_state")
)


def _read_properties(span: Any) -> tuple[Any, ...]:
    """Read the same values as :data:`_read_fields` by the public properties, which a subclass may have overridden."""
    return (
        *(span.name, span.get_span_context(), span.parent, span.kind, span.start_time, span.end_time),
        *(span.attributes, list(span.events), list(span.links), span.status),
        *(span.resource, span.instrumentation_scope),
    )


def _reader_for(cls: type) -> Any:
    """Return the function that reads spans of ``cls``: from the fields only if the class overrides no property."""
    base = LeanSpan if issubclass(cls, LeanSpan) else Span if issubclass(cls, Span) else ReadableSpan
    if not _HAS_KNOWN_FIELDS or any(getattr(cls, name, None) is not getattr(base, name) for name in _PUBLIC_NAMES):
        return _read_properties
    return _read_lean_fields if base is LeanSpan else _read_fields


class SpanEncoder:
    """Encodes spans one by one, for one request or several, and caches the parts that they share.

    Create one for each encoding, use it on one thread, and discard it: nothing is kept from one batch to the next.
    """

    def __init__(self) -> None:
        self._attributes = AttributeEncoder(b"\x4a")
        self._shared = SharedAttributeEncoder(self._attributes)
        self._event_attributes, self._link_attributes = AttributeEncoder(b"\x1a"), AttributeEncoder(b"\x22")
        self._scopes = EncodedScopes()
        self._names = EncodingCache(lambda name: text_field(b"\x2a", name))
        self._event_names = EncodingCache(lambda name: text_field(b"\x12", name))
        self._parents: dict[int, tuple[int, bytes, Any]] = {}
        self._span_prefixes = EncodingCache(lambda size: b"\x12" + varint(size))
        self._readers: dict[type, Any] = {}
        self._read: Any = None
        self._last_class = self._last_resource = self._last_scope = self._encoded_scope = None

    def encode(self, span: Any) -> tuple[bytes, EncodedScope] | None:
        """Encode ``span`` as a field of its scope's message. Return it and the scope; None if it cannot be encoded."""
        try:
            if type(span) is not self._last_class:
                self._use_class(type(span))
            name, context, parent, kind, start, end, attributes, events, links, status, resource, scope = self._read(
                span
            )
            if resource is not self._last_resource or scope is not self._last_scope:
                self._use_scope(resource, scope)
            trace_id, span_id, _, state = _read_context(context)
            cached_trace_id, prefix, _ = self._parents.get(id(parent)) or self._add_parent(parent, trace_id)
            if attributes is None:
                attribute_fields = self._shared.encode(span)
            else:
                attribute_fields = self._attributes.encode(attributes)
                if dropped := span.dropped_attributes:
                    attribute_fields += b"\x50" + varint(dropped)
            is_plain = events == () and links == () and state is _NO_STATE
            body = b"".join(
                (
                    prefix if cached_trace_id == trace_id else self._add_parent(parent, trace_id)[1],
                    span_id.to_bytes(8, "big"),
                    self._names[name],
                    _USUAL_KIND if kind is _INTERNAL else _KINDS[kind],
                    _TIMES.pack(0x39, start or 0, 0x41, end or 0),
                    attribute_fields,
                    b"\x7a\x00" if status.status_code is _UNSET else _status(status),
                    b"" if is_plain else self._rare_fields(span, state, events, links),
                )
            )
            return self._span_prefixes[len(body)] + body, self._encoded_scope  # type: ignore[return-value]
        except Exception:  # the span differs from the SDK's spans
            return self._encode_with_opentelemetry(span)

    def _encode_with_opentelemetry(self, span: Any) -> tuple[bytes, EncodedScope] | None:
        try:
            from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

            message = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
            scope = self._scopes.of(span.resource, span.instrumentation_scope)
            return b"\x12" + with_length(message.SerializeToString()), scope
        except Exception as error:
            log_once("otlp span", "A span cannot be encoded and is lost: %s", error, exc_info=True)
            return None

    # --- parts that spans share ---------------------------------------------------------------------------------

    def _use_class(self, cls: type) -> None:
        self._last_class = None
        self._read = self._readers.get(cls) or self._readers.setdefault(cls, _reader_for(cls))
        self._last_class = cls  # type: ignore[assignment]

    def _use_scope(self, resource: Any, scope: Any) -> None:
        self._encoded_scope = self._scopes.of(resource, scope)  # type: ignore[assignment]
        self._last_resource, self._last_scope = resource, scope

    def _add_parent(self, parent: Any, trace_id: int) -> tuple[int, bytes, Any]:
        """Encode the fields that children of ``parent`` share: flags, parent, trace, and the tag of their own id.

        The cache identifies ``parent`` by ``id()``, so it holds a reference to it.
        """
        parent_field, flags = b"", _FLAGS
        if parent is not None:
            _, parent_id, is_remote, _ = _read_context(parent)
            parent_field = b"\x22\x08" + parent_id.to_bytes(8, "big")
            flags = _FLAGS_REMOTE if is_remote else _FLAGS
        entry = trace_id, flags + parent_field + b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08", parent
        if len(self._parents) >= _MAX_CACHED:
            self._parents.clear()
        self._parents[id(parent)] = entry
        return entry

    # --- fields that few spans have -----------------------------------------------------------------------------

    def _rare_fields(self, span: Any, state: Any, events: Any, links: Any) -> bytes:
        parts = [] if state is _NO_STATE else [_trace_state(state)]
        items, dropped = (events._dq, events.dropped) if type(events) is _List else (events, span.dropped_events)
        parts += [self._pending_event(*event) if type(event) is tuple else self._event(event) for event in items]
        if dropped:
            parts.append(b"\x60" + varint(dropped))
        items, dropped = (links._dq, links.dropped) if type(links) is _List else (links, span.dropped_links)
        parts += [self._link(link) for link in items]
        if dropped:
            parts.append(b"\x70" + varint(dropped))
        return b"".join(parts)

    def _pending_event(self, name: str, attributes: dict[str, Any], ns: int) -> bytes:
        """Encode an event of which a lean span has not created the SDK's object yet."""
        parts = [_TIME.pack(9, ns), self._event_names[name], *self._event_attributes.fields(attributes)]
        return b"\x5a" + with_length(b"".join(parts))

    def _event(self, event: Any) -> bytes:
        parts = [_TIME.pack(9, event.timestamp), self._event_names[event.name]]
        parts += self._event_attributes.fields(event.attributes)
        if dropped := event.dropped_attributes:
            parts.append(b"\x20" + varint(dropped))
        return b"\x5a" + with_length(b"".join(parts))

    def _link(self, link: Any) -> bytes:
        trace_id, span_id, is_remote, _ = _read_context(link.context)  # OpenTelemetry's encoder omits the state, too
        body = b"\x0a\x10" + trace_id.to_bytes(16, "big") + b"\x12\x08" + span_id.to_bytes(8, "big")
        body += b"".join(self._link_attributes.fields(link.attributes))
        if dropped := link.dropped_attributes:
            body += b"\x28" + varint(dropped)
        return b"\x6a" + with_length(body + (_LINK_FLAGS_REMOTE if is_remote else _LINK_FLAGS))


def _status(status: Any) -> bytes:
    code = status.status_code.value
    body = text_field(b"\x12", status.description) + (b"\x18" + varint(code) if code else b"")
    return b"\x7a" + with_length(body)


def _trace_state(state: Any) -> bytes:
    return text_field(b"\x1a", ",".join([f"{key}={value}" for key, value in state.items()]))
