"""Spans out of JSON: OTLP's, Jaeger's, and the lines that ``otelflow show --json`` prints.

What is not as it should be in a single span (no number where one is needed, an unknown kind) becomes the default: a
file is read to see what happened, and most of it is better than nothing.
"""

from __future__ import annotations

import base64
import string
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, cast, get_args

from otelflow_exporters._trace.span import Event, Kind, Link, Span, StatusName

__all__ = ["from_json", "is_known", "nanoseconds"]

_KINDS: Sequence[Kind] = ("unspecified", "internal", "server", "client", "producer", "consumer")
_DEEPEST = 100
"""Levels of values within values that are read."""
_HEX_DIGITS = frozenset(string.hexdigits)
_OWN = {"trace_id", "span_id"}
_STATUSES: Sequence[StatusName] = ("unset", "ok", "error")


def is_known(document: Any) -> bool:
    """Whether :func:`from_json` knows what to do with the document."""
    if isinstance(document, list):
        return all(is_known(one) for one in document)
    return isinstance(document, dict) and bool(
        {"resourceSpans", "resource_spans", "data", "result"} & document.keys()
        or {"trace_id", "span_id"} <= document.keys()
    )


def from_json(document: Any, *, brief: bool = False) -> Iterator[Span]:
    """The spans of one JSON document, of whichever of the three kinds. ``brief``: without the events and links of
    OTLP's."""
    if isinstance(document, list):
        for one in document:
            yield from from_json(one, brief=brief)
    elif not isinstance(document, dict):
        return
    elif "resourceSpans" in document or "resource_spans" in document:
        for group in _items(document, "resourceSpans", "resource_spans"):
            yield from _of_resource(group, brief)
    elif isinstance(document.get("result"), dict):  # Jaeger's API of version 3
        yield from from_json(document["result"], brief=brief)
    elif "data" in document:
        for trace in document["data"] if isinstance(document["data"], list) else ():
            yield from _of_jaeger(trace)
    elif document.keys() >= _OWN:
        yield _of_own(document)


# --- OTLP (opentelemetry-proto's trace.proto, in the JSON form of the OTLP specification) -----------------------------


def _items(holder: Any, *names: str) -> list[Any]:
    for name in names:
        found = holder.get(name)
        if isinstance(found, list):
            return _dicts(found)
    return []


def _dicts(values: Any) -> list[Any]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _of_resource(group: Any, brief: bool) -> Iterator[Span]:
    resource = _attributes(_mapping(group.get("resource")).get("attributes"))
    for scoped in _items(group, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
        scope = _mapping(scoped.get("scope") or scoped.get("instrumentationLibrary"))
        name = f"{scope.get('name', '')} {scope.get('version', '')}".strip()
        for span in _items(scoped, "spans"):
            yield _of_otlp(span, resource, name, brief)


def _of_otlp(span: Any, resource: Mapping[str, Any], scope: str, brief: bool) -> Span:
    status = _mapping(span.get("status"))
    flags = _whole(span.get("flags"))
    end = _whole(span.get("endTimeUnixNano"))
    return Span(
        trace_id=_hex(span.get("traceId"), 32),
        span_id=_hex(span.get("spanId"), 16),
        parent_id=_hex(span.get("parentSpanId"), 16) or None,
        name=str(span.get("name", "")),
        start=_whole(span.get("startTimeUnixNano")),
        end=end or None,
        kind=_named(span.get("kind"), _KINDS, "SPAN_KIND_"),
        status=_named(status.get("code"), _STATUSES, "STATUS_CODE_"),
        status_message=str(status.get("message") or ""),
        attributes=_attributes(span.get("attributes")),
        events=() if brief or "events" not in span else [_otlp_event(one) for one in _items(span, "events")],
        links=() if brief or "links" not in span else [_otlp_link(one) for one in _items(span, "links")],
        resource=resource,
        scope=scope,
        parent_is_remote=bool(flags & 0x100 and flags & 0x200),  # SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE, _IS_REMOTE
        dropped=(
            _whole(span.get("droppedAttributesCount")),
            _whole(span.get("droppedEventsCount")),
            _whole(span.get("droppedLinksCount")),
        ),
    )


def _otlp_event(event: Any) -> Event:
    return Event(str(event.get("name", "")), _whole(event.get("timeUnixNano")), _attributes(event.get("attributes")))


def _otlp_link(link: Any) -> Link:
    return Link(_hex(link.get("traceId"), 32), _hex(link.get("spanId"), 16), _attributes(link.get("attributes")))


def _attributes(pairs: Any, depth: int = 0) -> dict[str, Any]:
    return {str(pair["key"]): _value(pair.get("value"), depth) for pair in _dicts(pairs) if "key" in pair}


def _value(value: Any, depth: int = 0) -> Any:
    """An AnyValue."""
    if not isinstance(value, dict) or depth > _DEEPEST:
        return None
    for kind, found in value.items():
        if kind == "intValue":
            return _whole(found)
        if kind == "doubleValue":
            return _number(found)
        if kind == "arrayValue":
            return [_value(one, depth + 1) for one in _listed(found)]
        if kind == "kvlistValue":
            return _attributes(_listed(found), depth + 1)
        if kind in ("stringValue", "boolValue", "bytesValue"):
            return found
    return None


def _listed(found: Any) -> list[Any]:
    values = found.get("values") if isinstance(found, dict) else None
    return values if isinstance(values, list) else []


def _whole(value: Any) -> int:
    """64-bit numbers are text in OTLP's JSON."""
    try:
        return int(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _hex(identity: Any, digits: int) -> str:
    """Ids are hex in OTLP's JSON. Writers that turn protobuf to JSON by its own rules make base64 of them. What is
    neither becomes the hex of its characters: an id is printed as it is."""
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


def _named(value: Any, names: Sequence[Any], prefix: str) -> Any:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    name = str(value).removeprefix(prefix).lower()
    return name if name in names else names[0]


# --- Jaeger (the JSON of its query service and of its UI's download) --------------------------------------------------


def _of_jaeger(trace: Any) -> Iterator[Span]:
    processes = _mapping(_mapping(trace).get("processes"))
    for span in _items(_mapping(trace), "spans"):
        process = _mapping(processes.get(str(span.get("processID"))) or span.get("process"))
        resource = {"service.name": process.get("serviceName", ""), **_tags(process.get("tags"))}
        yield _from_jaeger(span, resource)


def _from_jaeger(span: Any, resource: Mapping[str, Any]) -> Span:
    tags = _tags(span.get("tags"))
    kind = str(tags.pop("span.kind", "internal"))
    failed = tags.pop("error", False) in (True, "true") or tags.get("otel.status_code") == "ERROR"
    is_ok = tags.pop("otel.status_code", None) == "OK"
    scope = f"{tags.pop('otel.scope.name', '')} {tags.pop('otel.scope.version', '')}".strip()
    start = _whole(span.get("startTime")) * 1000  # microseconds
    references = _items(span, "references")
    parent = next((one for one in references if one.get("refType") == "CHILD_OF"), None)
    return Span(
        trace_id=_hex(span.get("traceID"), 32),
        span_id=_hex(span.get("spanID"), 16),
        parent_id=(_hex(parent.get("spanID"), 16) if parent else _hex(span.get("parentSpanID"), 16)) or None,
        name=str(span.get("operationName", "")),
        start=start,
        end=start + _whole(span.get("duration")) * 1000,
        kind=cast(Kind, kind) if kind in get_args(Kind) else "internal",
        status="error" if failed else "ok" if is_ok else "unset",
        status_message=str(tags.pop("otel.status_description", "")),
        attributes=tags,
        events=[_jaeger_event(one) for one in _items(span, "logs")],
        links=[
            Link(_hex(one.get("traceID"), 32), _hex(one.get("spanID"), 16)) for one in references if one is not parent
        ],
        resource=resource,
        scope=scope,
    )


def _tags(tags: Any) -> dict[str, Any]:
    return {str(one["key"]): one.get("value") for one in _dicts(tags) if "key" in one}


def _jaeger_event(log: Any) -> Event:
    fields = _tags(log.get("fields"))
    name = str(fields.pop("event", fields.pop("message", "log")))
    return Event(name, _whole(log.get("timestamp")) * 1000, fields)


# --- our own lines ----------------------------------------------------------------------------------------------------


def _of_own(document: Any) -> Span:
    start = nanoseconds(document.get("start"))
    lasted = document.get("duration")
    dropped = _mapping(document.get("dropped"))
    return Span(
        trace_id=_hex(document["trace_id"], 32),
        span_id=_hex(document["span_id"], 16),
        parent_id=_hex(document.get("parent_id"), 16) or None,
        name=str(document.get("name", "")),
        start=start,
        end=None if lasted is None else start + _whole(_number(lasted) * 1e9 + 0.5),
        kind=_named(document.get("kind", "internal"), _KINDS, ""),
        status=_named(document.get("status"), _STATUSES, ""),
        status_message=str(document.get("status_message") or ""),
        attributes=_mapping(document.get("attributes")),
        events=[
            Event(str(one.get("name", "")), nanoseconds(one.get("time")), _mapping(one.get("attributes")))
            for one in _items(document, "events")
        ],
        links=[
            Link(_hex(one.get("trace_id"), 32), _hex(one.get("span_id"), 16), _mapping(one.get("attributes")))
            for one in _items(document, "links")
        ],
        resource=_mapping(document.get("resource")),
        scope=str(document.get("scope") or ""),
        dropped=(_whole(dropped.get("attributes")), _whole(dropped.get("events")), _whole(dropped.get("links"))),
    )


def nanoseconds(text: Any) -> int:
    """ISO 8601 as nanoseconds since the epoch; what has no zone is in UTC. 0 for what is none."""
    whole, _, rest = str(text or "").partition(".")
    digits = "".join(rest[: next((i for i, char in enumerate(rest) if not char.isdecimal()), len(rest))])
    zone = rest[len(digits) :]
    try:
        moment = datetime.fromisoformat((whole + zone).replace("Z", "+00:00"))
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 10**9 + int(digits[:9].ljust(9, "0") or 0)
