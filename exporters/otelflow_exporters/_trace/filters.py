"""Filter runs by flow, status, duration, attribute, time and id."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from otelflow_exporters._trace.file_index import Trace
from otelflow_exporters._trace.from_json import nanoseconds
from otelflow_exporters._trace.span import Span

__all__ = ["Filters", "as_moment", "as_seconds"]

_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]*)")


def as_seconds(text: str) -> float:
    """Parse a duration: ``250ms``, ``2s``, ``1.5h``; a number alone is in seconds. Raises ValueError for other text."""
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None or (match[2] or "s") not in _UNITS:
        raise ValueError(f"{text!r} is not a duration. Use for example 250ms, 2s, 5m, 1h or 2d.")
    return float(match[1]) * _UNITS[match[2] or "s"]


def as_moment(text: str) -> int:
    """Parse a time in ISO 8601 (local time if it has no zone), or a duration before now, such as ``2h``.

    Returns nanoseconds since the epoch. Raises ValueError for other text.
    """
    try:
        return time.time_ns() - int(as_seconds(text) * 1e9)
    except ValueError:
        has_zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", text) is not None
        moment = nanoseconds(text)
        if not moment:
            raise ValueError(
                f"{text!r} is not a time. Use for example 2026-11-23T10:00, or 2h for two hours ago."
            ) from None
        return (
            moment
            if has_zone
            else moment + int(time.timezone if not time.localtime(moment / 1e9).tm_isdst else time.altzone) * 10**9
        )


@dataclass(frozen=True)
class Filters:
    """Conditions that a run must meet.

    ``flows`` are patterns for the names of flows and root spans. ``attributes`` are pairs of key and pattern (None: any
    value); some span of the run must have each. Times are in nanoseconds since the epoch, durations in seconds.
    """

    flows: Sequence[str] = ()
    status: str | None = None
    shortest: float = 0.0
    longest: float = float("inf")
    attributes: Sequence[tuple[str, str | None]] = ()
    since: int = 0
    until: int | None = None
    ids: Sequence[str] = ()

    def match_bits_of(self, span: Span) -> int:
        """Return the conditions that this span meets: bit 0 for the flow, and one bit for each attribute."""
        bits = 0
        if self.flows:
            names = {span.attributes.get("otelflow.flow.name")}
            if span.parent_id is None or span.parent_is_remote:
                names.add(span.name)
            bits |= any(fnmatchcase(str(name), pattern) for pattern in self.flows for name in names if name)
        for bit, (key, pattern) in enumerate(self.attributes, 1):
            value = span.attributes.get(key, span.resource.get(key))
            if value is not None and (pattern is None or fnmatchcase(_text(value), pattern)):
                bits |= 1 << bit
        return bits

    def accepts(self, trace: Trace) -> bool:
        """Return whether the run meets all conditions."""
        bits = (1 if self.flows else 0) | sum(1 << bit for bit in range(1, len(self.attributes) + 1))
        return (
            trace.match_bits & bits == bits
            and self._has_status(trace)
            and self.shortest <= trace.duration <= self.longest
            and self.since <= trace.start
            and (self.until is None or trace.start < self.until)
            and (not self.ids or any(trace.trace_id.startswith(prefix.lower()) for prefix in self.ids))
        )

    def _has_status(self, trace: Trace) -> bool:
        if self.status == "error":  # includes a failure that the run tolerated
            return trace.failed > 0
        return self.status is None or trace.status == self.status


def _text(value: object) -> str:
    """Return the value as in JSON: ``true``, not ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)
