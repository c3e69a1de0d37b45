"""Encode spans as lines of OTLP/JSON, with OpenTelemetry's own protobuf encoder as the first step.

The encoding is that of https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding in the lines of
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/: ids in hex, lowerCamelCase, 64-bit integers as decimal
strings, enum values as integers. protobuf's ``json_format`` is no alternative: it writes ids in base64, and takes
several times as long.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring as quote
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["MAX_LINE_BYTES", "encode_lines"]

MAX_LINE_BYTES = 1_000_000
"""Length in bytes above which a batch is split into several lines. Readers have limits: the Collector's is 1 MiB a line
by default (``max_log_size``). A single span that is longer gets a line of its own."""

_RESOURCE_START, _SCOPE_START = '{"scopeSpans":[', '{"spans":['
"""Spans are written before their scope and resource, so that each file begins with ids of its own. The Collector
identifies a file by its first 1,000 bytes: it skips a file that begins like another one that it has read."""

_EncodedScope = tuple[list[str], str]
"""The encoded spans of a scope, and the JSON text that follows them."""


def encode_lines(spans: Sequence[ReadableSpan]) -> tuple[bytes, int]:
    """Encode ``spans`` as complete lines. Return them, and the number of spans that could not be encoded.

    If the batch as a whole cannot be encoded, its spans are encoded one by one, so that one bad span does not cost the
    others.
    """
    try:
        return _encode(spans), 0
    except Exception:
        encoded = [line for span in spans if (line := _encode_one(span))]
        return b"".join(encoded), len(spans) - len(encoded)


def _encode_one(span: ReadableSpan) -> bytes:
    """Encode ``span`` with invalid text replaced. Return empty bytes if that fails as well."""
    try:
        return _encode([_with_valid_text(span)])
    except Exception:
        return b""


def _encode(spans: Sequence[ReadableSpan]) -> bytes:
    resources = [_resource_spans(message) for message in encode_spans(spans).resource_spans]
    return "".join([line + "\n" for line in _join_lines(resources)]).encode()


def _join_lines(resources: list[tuple[list[_EncodedScope], str]]) -> Iterator[str]:
    """Yield one line for all spans or, if it would be too long, lines with spans of one scope each."""
    single_line = _line(
        _RESOURCE_START + ",".join([_SCOPE_START + ",".join(spans) + tail for spans, tail in scopes]) + resource_tail
        for scopes, resource_tail in resources
    )
    if _byte_length(single_line) <= MAX_LINE_BYTES:
        yield single_line
        return
    for scopes, resource_tail in resources:
        for spans, tail in scopes:
            for part in _split_spans(
                spans, MAX_LINE_BYTES - _byte_length(_line([_RESOURCE_START + _SCOPE_START + tail + resource_tail]))
            ):
                yield _line([_RESOURCE_START + _SCOPE_START + ",".join(part) + tail + resource_tail])


def _split_spans(spans: list[str], max_bytes: int) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for span in spans:
        size += _byte_length(span) + 1
        if part and size > max_bytes:
            yield part
            part, size = [], _byte_length(span) + 1
        part.append(span)
    yield part


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _line(resources: Iterable[str]) -> str:
    return '{"resourceSpans":[' + ",".join(resources) + "]}"


def _resource_spans(message: Any) -> tuple[list[_EncodedScope], str]:
    scopes = [_scope_spans(scope) for scope in message.scope_spans]
    return scopes, '],"resource":' + _resource_or_scope(message.resource) + _schema_url(message) + "}"


def _scope_spans(message: Any) -> _EncodedScope:
    spans = [_span(span) for span in message.spans]
    return spans, '],"scope":' + _resource_or_scope(message.scope) + _schema_url(message) + "}"


def _schema_url(message: Any) -> str:
    return ',"schemaUrl":' + quote(message.schema_url) if message.schema_url else ""


def _resource_or_scope(message: Any) -> str:
    """Encode a Resource, or an InstrumentationScope, which also has a name and a version."""
    texts = ((name, getattr(message, name, "")) for name in ("name", "version"))
    fields = [f'"{name}":{quote(text)}' for name, text in texts if text]
    if message.attributes:
        fields.append('"attributes":' + _pairs(message.attributes))
    if message.dropped_attributes_count:
        fields.append(f'"droppedAttributesCount":{message.dropped_attributes_count}')
    return "{" + ",".join(fields) + "}"


def _span(span: Any) -> str:
    text = f'{{"traceId":"{span.trace_id.hex()}","spanId":"{span.span_id.hex()}"'
    if span.trace_state:
        text += ',"traceState":' + quote(span.trace_state)
    if span.parent_span_id:
        text += f',"parentSpanId":"{span.parent_span_id.hex()}"'
    text += (
        f',"flags":{span.flags},"name":{quote(span.name)},"kind":{span.kind}'
        f',"startTimeUnixNano":"{span.start_time_unix_nano}","endTimeUnixNano":"{span.end_time_unix_nano}"'
    )
    text += _attributes(span.attributes, span.dropped_attributes_count)
    if events := span.events:
        text += ',"events":[' + ",".join([_event(event) for event in events]) + "]"
    if span.dropped_events_count:
        text += f',"droppedEventsCount":{span.dropped_events_count}'
    if links := span.links:
        text += ',"links":[' + ",".join([_link(link) for link in links]) + "]"
    if span.dropped_links_count:
        text += f',"droppedLinksCount":{span.dropped_links_count}'
    return text + ',"status":' + _status(span.status) + "}"


def _status(status: Any) -> str:
    if not status.code:
        return "{}"
    if not status.message:
        return f'{{"code":{status.code}}}'
    return f'{{"message":{quote(status.message)},"code":{status.code}}}'


def _event(event: Any) -> str:
    return (
        f'{{"timeUnixNano":"{event.time_unix_nano}","name":{quote(event.name)}'
        + _attributes(event.attributes, event.dropped_attributes_count)
        + "}"
    )


def _link(link: Any) -> str:
    state = f',"traceState":{quote(link.trace_state)}' if link.trace_state else ""
    return (
        f'{{"traceId":"{link.trace_id.hex()}","spanId":"{link.span_id.hex()}"{state}'
        + _attributes(link.attributes, link.dropped_attributes_count)
        + f',"flags":{link.flags}}}'
    )


def _attributes(pairs: Any, dropped: int) -> str:
    text = ',"attributes":' + _pairs(pairs) if pairs else ""
    return text + f',"droppedAttributesCount":{dropped}' if dropped else text


@lru_cache(1024)
def _key(key: str) -> str:
    """Encode the key of a pair. Cached, because every span has the same few keys."""
    return '{"key":' + quote(key) + ',"value":'


def _pairs(pairs: Any) -> str:
    return "[" + ",".join([_key(pair.key) + _value(pair.value) + "}" for pair in pairs]) + "]"


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return '{"stringValue":' + quote(value.string_value) + "}"
    if kind == "int_value":
        return f'{{"intValue":"{value.int_value}"}}'
    if kind == "bool_value":
        return '{"boolValue":true}' if value.bool_value else '{"boolValue":false}'
    if kind == "double_value":
        return '{"doubleValue":' + _double(value.double_value) + "}"
    if kind == "array_value":
        return '{"arrayValue":{"values":[' + ",".join([_value(item) for item in value.array_value.values]) + "]}}"
    if kind == "kvlist_value":
        return '{"kvlistValue":{"values":' + _pairs(value.kvlist_value.values) + "}}"
    if kind == "bytes_value":
        return '{"bytesValue":"' + b64encode(value.bytes_value).decode() + '"}'
    return "{}"  # None


def _double(number: float) -> str:
    if math.isfinite(number):
        return repr(number)
    return '"NaN"' if number != number else '"Infinity"' if number > 0 else '"-Infinity"'


class _Overlay:
    """A proxy for ``target`` that replaces some of the attributes that upstream's encoder reads."""

    def __init__(self, target: Any, **replacements: Any) -> None:
        self.__dict__.update(replacements, _target=target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def _with_valid_text(span: ReadableSpan) -> Any:
    """Return ``span`` with U+FFFD in the place of lone surrogates, which UTF-8 cannot encode.

    Most of them come from file names that are not UTF-8: the span of a failed ``open`` has one in its status.
    """
    return _Overlay(
        span,
        name=_valid_text(span.name),
        attributes=_valid_attributes(span.attributes),
        events=[
            _Overlay(event, name=_valid_text(event.name), attributes=_valid_attributes(event.attributes))
            for event in span.events
        ],
        status=_Overlay(span.status, description=_valid_text(span.status.description)),
    )


def _valid_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_valid_text(key): _valid_text(value) for key, value in (attributes or {}).items()}


def _valid_text(value: Any) -> Any:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value
