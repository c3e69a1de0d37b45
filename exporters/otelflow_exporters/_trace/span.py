"""The exporters' model of a span, for all sources: the SDK, files of OTLP JSON, files of Jaeger JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple

__all__ = ["Event", "Kind", "Link", "Span", "StatusName", "timestamp", "to_plain"]

Kind = Literal["internal", "server", "client", "producer", "consumer", "unspecified"]
StatusName = Literal["unset", "ok", "error"]

_NO_ATTRIBUTES: Mapping[str, Any] = {}


class Event(NamedTuple):
    """An event of a span. ``time`` is in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: Mapping[str, Any] = _NO_ATTRIBUTES


class Link(NamedTuple):
    """A link to another span, usually in another trace."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any] = _NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class Span:
    """One span.

    Ids are hex. ``start`` and ``end`` are nanoseconds since the epoch; ``end`` is None if the span has not ended.
    ``dropped`` are the numbers of attributes, events and links that the span's limits dropped.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: int
    end: int | None
    kind: Kind = "internal"
    status: StatusName = "unset"
    status_message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Event] = ()
    links: Sequence[Link] = ()
    resource: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""
    parent_is_remote: bool = False
    dropped: tuple[int, int, int] = (0, 0, 0)

    @property
    def failed(self) -> bool:
        return self.status == "error"

    @property
    def duration(self) -> float:
        """Duration in seconds; 0 if the span has not ended, or ended before it started (clocks can be set back)."""
        return max(0, (self.start if self.end is None else self.end) - self.start) / 1e9

    @property
    def service(self) -> str:
        """The ``service.name`` of its resource; empty if it has none."""
        return str(self.resource.get("service.name", ""))

    @property
    def error(self) -> str:
        """Description of the error: from the status, else the exception event, else the error's type."""
        if self.status_message:
            return self.status_message
        for event in self.events:
            if event.name == "exception":
                parts = (event.attributes.get("exception.type"), event.attributes.get("exception.message"))
                return ": ".join(str(part) for part in parts if part) or "exception"
        return str(self.attributes.get("error.type", "error"))

    def to_json(self) -> dict[str, Any]:
        """Return the span as a JSON object, as in the lines of ``otelflow show --json`` and in the page."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "name": self.name,
            "kind": self.kind,
            "start": timestamp(self.start),
            "duration": None if self.end is None else self.duration,
            "status": self.status,
            "status_message": self.status_message,
            "attributes": to_plain(self.attributes),
            "events": [
                {"name": event.name, "time": timestamp(event.time), "attributes": to_plain(event.attributes)}
                for event in self.events
            ],
            "links": [
                {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": to_plain(link.attributes)}
                for link in self.links
            ],
            "dropped": dict(zip(("attributes", "events", "links"), self.dropped, strict=True)),
            "scope": self.scope,
            "resource": to_plain(self.resource),
        }


def timestamp(nanoseconds: int) -> str:
    """Format as ISO 8601 in UTC with all nine digits, without loss: ``2026-11-23T10:00:00.000000001Z``."""
    seconds, nanos = divmod(nanoseconds, 10**9)
    try:
        moment = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):  # after the year 9999: a clock was wrong
        moment = datetime.fromtimestamp(0, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"


def to_plain(value: Any) -> Any:
    """Convert ``value`` to JSON's types: bytes become base64, and numbers that JSON does not have become text."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)
