"""Spans as lines of OTLP/JSON, by way of OpenTelemetry's own protobuf encoder.

The encoding is that of https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding in the lines of
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/: ids in hex, lowerCamelCase, 64-bit integers as decimal
strings, enum values as integers. ``json_format`` of protobuf writes ids in base64, and takes several times as long.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["MOST_BYTES", "lines_of"]

MOST_BYTES = 1_000_000
"""Length beyond which a batch becomes several lines. Readers have limits: the Collector's is 1 MiB a line, unless
``max_log_size`` says otherwise. A single span that is longer has a line of its own."""

_RESOURCE, _SCOPE = '{"scopeSpans":[', '{"spans":['
"""Spans stand before their scope and resource: a file then begins with ids of its own. The Collector knows a file by
its first 1,000 bytes, and takes one that begins like another for that one, read already."""

_Scope = tuple[list[str], str]
"""The spans of a scope, and what stands after them."""


def lines_of(spans: Sequence[ReadableSpan]) -> tuple[bytes, int]:
    """Lines that hold ``spans``, each ended, and how many of the spans could not be encoded.

    Where the batch as a whole cannot be encoded, its spans are, one by one: the others are not lost with one of them.
    """
    try:
        return _lines(spans), 0
    except Exception:
        encoded = [line for span in spans if (line := _line_of_one(span))]
        return b"".join(encoded), len(spans) - len(encoded)


def _line_of_one(span: ReadableSpan) -> bytes:
    """The line of ``span``, its texts mended; nothing where that does not help."""
    try:
        return _lines([_mended(span)])
    except Exception:
        return b""


def _lines(spans: Sequence[ReadableSpan]) -> bytes:
    resources = [_resource_spans(each) for each in encode_spans(spans).resource_spans]
    return "".join([line + "\n" for line in _joined(resources)]).encode()


def _joined(resources: list[tuple[list[_Scope], str]]) -> Iterator[str]:
    """All in one line, or, where that would be too long, a part of the spans of one scope in each."""
    whole = _line(
        _RESOURCE + ",".join([_SCOPE + ",".join(spans) + tail for spans, tail in scopes]) + after
        for scopes, after in resources
    )
    if _size(whole) <= MOST_BYTES:
        yield whole
        return
    for scopes, after in resources:
        for spans, tail in scopes:
            for part in _parts(spans, MOST_BYTES - _size(_line([_RESOURCE + _SCOPE + tail + after]))):
                yield _line([_RESOURCE + _SCOPE + ",".join(part) + tail + after])


def _parts(spans: list[str], most: int) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for span in spans:
        size += _size(span) + 1
        if part and size > most:
            yield part
            part, size = [], _size(span) + 1
        part.append(span)
    yield part


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _line(resources: Iterable[str]) -> str:
    return '{"resourceSpans":[' + ",".join(resources) + "]}"


def _resource_spans(message: Any) -> tuple[list[_Scope], str]:
    scopes = [_scope_spans(each) for each in message.scope_spans]
    return scopes, '],"resource":' + _described(message.resource) + _schema(message) + "}"


def _scope_spans(message: Any) -> _Scope:
    spans = [_span(span) for span in message.spans]
    return spans, '],"scope":' + _described(message.scope) + _schema(message) + "}"


def _schema(message: Any) -> str:
    return ',"schemaUrl":' + quoted(message.schema_url) if message.schema_url else ""


def _described(message: Any) -> str:
    """A Resource, or an InstrumentationScope, which has name and version besides."""
    texts = ((name, getattr(message, name, "")) for name in ("name", "version"))
    fields = [f'"{name}":{quoted(text)}' for name, text in texts if text]
    if message.attributes:
        fields.append('"attributes":' + _pairs(message.attributes))
    if message.dropped_attributes_count:
        fields.append(f'"droppedAttributesCount":{message.dropped_attributes_count}')
    return "{" + ",".join(fields) + "}"


def _span(span: Any) -> str:
    text = f'{{"traceId":"{span.trace_id.hex()}","spanId":"{span.span_id.hex()}"'
    if span.trace_state:
        text += ',"traceState":' + quoted(span.trace_state)
    if span.parent_span_id:
        text += f',"parentSpanId":"{span.parent_span_id.hex()}"'
    text += (
        f',"flags":{span.flags},"name":{quoted(span.name)},"kind":{span.kind}'
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
    return f'{{"message":{quoted(status.message)},"code":{status.code}}}'


def _event(event: Any) -> str:
    return (
        f'{{"timeUnixNano":"{event.time_unix_nano}","name":{quoted(event.name)}'
        + _attributes(event.attributes, event.dropped_attributes_count)
        + "}"
    )


def _link(link: Any) -> str:
    state = f',"traceState":{quoted(link.trace_state)}' if link.trace_state else ""
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
    """The same few keys are on every span."""
    return '{"key":' + quoted(key) + ',"value":'


def _pairs(pairs: Any) -> str:
    return "[" + ",".join([_key(pair.key) + _value(pair.value) + "}" for pair in pairs]) + "]"


def _value(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return '{"stringValue":' + quoted(value.string_value) + "}"
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


class _Mended:
    """What upstream's encoder reads of ``of``, with some of it changed."""

    def __init__(self, of: Any, **changed: Any) -> None:
        self.__dict__.update(changed, _of=of)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)


def _mended(span: ReadableSpan) -> Any:
    """``span`` with U+FFFD where its texts have halves of surrogate pairs, for which UTF-8 has no place.

    They come from file names that are not UTF-8, mostly: the span of an ``open`` that failed has one in its status.
    """
    return _Mended(
        span,
        name=_text(span.name),
        attributes=_texts(span.attributes),
        events=[_Mended(event, name=_text(event.name), attributes=_texts(event.attributes)) for event in span.events],
        status=_Mended(span.status, description=_text(span.status.description)),
    )


def _texts(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_text(key): _text(value) for key, value in (attributes or {}).items()}


def _text(value: Any) -> Any:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value
