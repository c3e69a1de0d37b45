"""Read spans from JSON: OTLP's, Jaeger's, and the lines that ``otelflow show --json`` prints.

A wrong value in a span (text in place of a number, an unknown kind) becomes the default. A file is read to see what
happened, and most of a span is better than no span.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, cast, get_args

from otelflow_exporters._trace.span import Event, Kind, Link, Span, StatusName

__all__ = ["from_json", "is_span_document", "nanoseconds"]

_KINDS: Sequence[Kind] = ("unspecified", "internal", "server", "client", "producer", "consumer")
_MAX_DEPTH = 100
"""Largest depth of nested values that is read."""
_HEX_DIGITS = frozenset(string.hexdigits)
_OWN_KEYS = {"trace_id", "span_id"}
_STATUSES: Sequence[StatusName] = ("unset", "ok", "error")


def is_span_document(document: Any) -> bool:
    """Return whether :func:`from_json` can read the document."""
    if isinstance(document, list):
        return all(is_span_document(item) for item in document)
    return isinstance(document, dict) and bool(
        {"resourceSpans", "resource_spans", "data", "result"} & document.keys()
        or {"trace_id", "span_id"} <= document.keys()
    )


def from_json(document: Any, *, brief: bool = False) -> Iterator[Span]:
    """Yield the spans of one JSON document of any kind. ``brief`` omits the events and links of OTLP spans."""
    if isinstance(document, list):
        for item in document:
            yield from from_json(item, brief=brief)
    elif not isinstance(document, dict):
        return
    elif "resourceSpans" in document or "resource_spans" in document:
        for group in _dict_list(document, "resourceSpans", "resource_spans"):
            yield from _from_resource_spans(group, brief)
    elif isinstance(document.get("result"), dict):  # version 3 of Jaeger's API
        yield from from_json(document["result"], brief=brief)
    elif "data" in document:
        for trace in document["data"] if isinstance(document["data"], list) else ():
            yield from _from_jaeger_trace(trace)
    elif document.keys() >= _OWN_KEYS:
        yield _from_own(document)


# --- OTLP (opentelemetry-proto's trace.proto, in the JSON form of the OTLP specification) -----------------------------


def _dict_list(holder: Any, *names: str) -> list[Any]:
    for name in names:
        values = holder.get(name)
        if isinstance(values, list):
            return _only_dicts(values)
    return []


def _only_dicts(values: Any) -> list[Any]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_resource_spans(group: Any, brief: bool) -> Iterator[Span]:
    resource = _attributes(_mapping(group.get("resource")).get("attributes"))
    for scoped in _dict_list(group, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
        scope = _mapping(scoped.get("scope") or scoped.get("instrumentationLibrary"))
        name = f"{scope.get('name', '')} {scope.get('version', '')}".strip()
        for span in _dict_list(scoped, "spans"):
            yield _from_otlp(span, resource, name, brief)


def _from_otlp(span: Any, resource: Mapping[str, Any], scope: str, brief: bool) -> Span:
    status = _mapping(span.get("status"))
    flags = _int(span.get("flags"))
    end = _int(span.get("endTimeUnixNano"))
    return Span(
        trace_id=_hex(span.get("traceId"), 32),
        span_id=_hex(span.get("spanId"), 16),
        parent_id=_hex(span.get("parentSpanId"), 16) or None,
        name=str(span.get("name", "")),
        start=_int(span.get("startTimeUnixNano")),
        end=end or None,
        kind=_enum_name(span.get("kind"), _KINDS, "SPAN_KIND_"),
        status=_enum_name(status.get("code"), _STATUSES, "STATUS_CODE_"),
        status_message=str(status.get("message") or ""),
        attributes=_attributes(span.get("attributes")),
        events=() if brief or "events" not in span else [_otlp_event(event) for event in _dict_list(span, "events")],
        links=() if brief or "links" not in span else [_otlp_link(link) for link in _dict_list(span, "links")],
        resource=resource,
        scope=scope,
        parent_is_remote=bool(flags & 0x100 and flags & 0x200),  # SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE, _IS_REMOTE
        dropped=(
            _int(span.get("droppedAttributesCount")),
            _int(span.get("droppedEventsCount")),
            _int(span.get("droppedLinksCount")),
        ),
    )


def _otlp_event(event: Any) -> Event:
    return Event(str(event.get("name", "")), _int(event.get("timeUnixNano")), _attributes(event.get("attributes")))


def _otlp_link(link: Any) -> Link:
    return Link(_hex(link.get("traceId"), 32), _hex(link.get("spanId"), 16), _attributes(link.get("attributes")))


def _attributes(pairs: Any, depth: int = 0) -> dict[str, Any]:
    return {str(pair["key"]): _value(pair.get("value"), depth) for pair in _only_dicts(pairs) if "key" in pair}


def _value(value: Any, depth: int = 0) -> Any:
    """Return the value of an OTLP ``AnyValue``."""
    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        return None
    for kind, content in value.items():
        if kind == "intValue":
            return _int(content)
        if kind == "doubleValue":
            return _float(content)
        if kind == "arrayValue":
            return [_value(item, depth + 1) for item in _values_of(content)]
        if kind == "kvlistValue":
            return _attributes(_values_of(content), depth + 1)
        if kind in ("stringValue", "boolValue", "bytesValue"):
            return content
    return None


def _values_of(content: Any) -> list[Any]:
    values = content.get("values") if isinstance(content, dict) else None
    return values if isinstance(values, list) else []


def _int(value: Any) -> int:
    """Return the value as int, 0 if it is none. OTLP's JSON has 64-bit numbers as text."""
    try:
        return int(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _hex(identity: Any, digits: int) -> str:
    """Return an id as hex with that many digits; empty if it is all zeros.

    OTLP's JSON has ids in hex. Programs that convert protobuf to JSON by protobuf's rules write base64. Any other text
    becomes the hex of its characters, because ids are printed without escaping.
    """
    text = str(identity or "")
    if len(text) != digits:
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raw = b""
        text = raw.hex() if len(raw) * 2 == digits else text
    if not _HEX_DIGITS.issuperset(text):
        text = text.encode("utf-8", "replace").hex()
    return text.lower().zfill(digits) if text.strip("0") else ""


def _enum_name(value: Any, names: Sequence[Any], prefix: str) -> Any:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    name = str(value).removeprefix(prefix).lower()
    return name if name in names else names[0]


# --- Jaeger (the JSON of its query service and of its UI's download) --------------------------------------------------


def _from_jaeger_trace(trace: Any) -> Iterator[Span]:
    processes = _mapping(_mapping(trace).get("processes"))
    for span in _dict_list(_mapping(trace), "spans"):
        process = _mapping(processes.get(str(span.get("processID"))) or span.get("process"))
        resource = {"service.name": process.get("serviceName", ""), **_tags(process.get("tags"))}
        yield _from_jaeger_span(span, resource)


def _from_jaeger_span(span: Any, resource: Mapping[str, Any]) -> Span:
    tags = _tags(span.get("tags"))
    kind = str(tags.pop("span.kind", "internal"))
    failed = tags.pop("error", False) in (True, "true") or tags.get("otel.status_code") == "ERROR"
    is_ok = tags.pop("otel.status_code", None) == "OK"
    scope = f"{tags.pop('otel.scope.name', '')} {tags.pop('otel.scope.version', '')}".strip()
    start = _int(span.get("startTime")) * 1000  # microseconds
    references = _dict_list(span, "references")
    parent = next((reference for reference in references if reference.get("refType") == "CHILD_OF"), None)
    return Span(
        trace_id=_hex(span.get("traceID"), 32),
        span_id=_hex(span.get("spanID"), 16),
        parent_id=(_hex(parent.get("spanID"), 16) if parent else _hex(span.get("parentSpanID"), 16)) or None,
        name=str(span.get("operationName", "")),
        start=start,
        end=start + _int(span.get("duration")) * 1000,
        kind=cast(Kind, kind) if kind in get_args(Kind) else "internal",
        status="error" if failed else "ok" if is_ok else "unset",
        status_message=str(tags.pop("otel.status_description", "")),
        attributes=tags,
        events=[_jaeger_event(log) for log in _dict_list(span, "logs")],
        links=[
            Link(_hex(reference.get("traceID"), 32), _hex(reference.get("spanID"), 16))
            for reference in references
            if reference is not parent
        ],
        resource=resource,
        scope=scope,
    )


def _tags(tags: Any) -> dict[str, Any]:
    return {str(tag["key"]): tag.get("value") for tag in _only_dicts(tags) if "key" in tag}


def _jaeger_event(log: Any) -> Event:
    fields = _tags(log.get("fields"))
    name = str(fields.pop("event", fields.pop("message", "log")))
    return Event(name, _int(log.get("timestamp")) * 1000, fields)


# --- the lines of otelflow show --json --------------------------------------------------------------------------------


def _from_own(document: Any) -> Span:
    start = nanoseconds(document.get("start"))
    seconds = document.get("duration")
    dropped = _mapping(document.get("dropped"))
    return Span(
        trace_id=_hex(document["trace_id"], 32),
        span_id=_hex(document["span_id"], 16),
        parent_id=_hex(document.get("parent_id"), 16) or None,
        name=str(document.get("name", "")),
        start=start,
        end=None if seconds is None else start + _int(_float(seconds) * 1e9 + 0.5),
        kind=_enum_name(document.get("kind", "internal"), _KINDS, ""),
        status=_enum_name(document.get("status"), _STATUSES, ""),
        status_message=str(document.get("status_message") or ""),
        attributes=_mapping(document.get("attributes")),
        events=[
            Event(str(event.get("name", "")), nanoseconds(event.get("time")), _mapping(event.get("attributes")))
            for event in _dict_list(document, "events")
        ],
        links=[
            Link(_hex(link.get("trace_id"), 32), _hex(link.get("span_id"), 16), _mapping(link.get("attributes")))
            for link in _dict_list(document, "links")
        ],
        resource=_mapping(document.get("resource")),
        scope=str(document.get("scope") or ""),
        dropped=(_int(dropped.get("attributes")), _int(dropped.get("events")), _int(dropped.get("links"))),
    )


def nanoseconds(text: Any) -> int:
    """Parse ISO 8601 (UTC if it has no zone). Return nanoseconds since the epoch, 0 for any other text."""
    seconds, _, fraction = str(text or "").partition(".")
    digits = "".join(fraction[: next((i for i, char in enumerate(fraction) if not char.isdecimal()), len(fraction))])
    zone = fraction[len(digits) :]
    try:
        moment = datetime.fromisoformat((seconds + zone).replace("Z", "+00:00"))
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 10**9 + int(digits[:9].ljust(9, "0") or 0)
