"""Which runs are wanted: by flow, status, duration, attribute, time, id."""

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
_LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]*)")


def as_seconds(text: str) -> float:
    """``250ms``, ``2s``, ``1.5h``; a number alone is in seconds. Raises ValueError for anything else."""
    found = _LENGTH.fullmatch(text.strip().lower())
    if found is None or (found[2] or "s") not in _UNITS:
        raise ValueError(f"{text!r} is no length of time. Use one like 250ms, 2s, 5m, 1h, 2d.")
    return float(found[1]) * _UNITS[found[2] or "s"]


def as_moment(text: str) -> int:
    """A time in ISO 8601 (without a zone: the local one), or how long ago, as ``2h``; in nanoseconds since the epoch.
    Raises ValueError for anything else."""
    try:
        return time.time_ns() - int(as_seconds(text) * 1e9)
    except ValueError:
        has_zone = re.search(r"(Z|[+-]\d\d:?\d\d)$", text) is not None
        found = nanoseconds(text)
        if not found:
            raise ValueError(f"{text!r} is no time. Use 2026-11-23T10:00, or how long ago: 2h.") from None
        return (
            found
            if has_zone
            else found + int(time.timezone if not time.localtime(found / 1e9).tm_isdst else time.altzone) * 10**9
        )


@dataclass(frozen=True)
class Filters:
    """What a run has to be. ``flows`` are patterns of names of root spans and of flows; ``attributes`` are pairs of key
    and pattern (None: any value), each on some span of the run; times are in nanoseconds since the epoch, lengths in
    seconds."""

    flows: Sequence[str] = ()
    status: str | None = None
    shortest: float = 0.0
    longest: float = float("inf")
    attributes: Sequence[tuple[str, str | None]] = ()
    since: int = 0
    until: int | None = None
    ids: Sequence[str] = ()

    def facts_of(self, span: Span) -> int:
        """What this span shows of what is asked for: bit 0 the flow, and one for each attribute."""
        found = 0
        if self.flows:
            names = {span.attributes.get("otelflow.flow.name")}
            if span.parent_id is None or span.parent_is_remote:
                names.add(span.name)
            found |= any(fnmatchcase(str(name), wanted) for wanted in self.flows for name in names if name)
        for bit, (key, wanted) in enumerate(self.attributes, 1):
            value = span.attributes.get(key, span.resource.get(key))
            if value is not None and (wanted is None or fnmatchcase(_text(value), wanted)):
                found |= 1 << bit
        return found

    def want(self, trace: Trace) -> bool:
        """Whether the run is one of those asked for."""
        bits = (1 if self.flows else 0) | sum(1 << bit for bit in range(1, len(self.attributes) + 1))
        return (
            trace.facts & bits == bits
            and self._status_fits(trace)
            and self.shortest <= trace.duration <= self.longest
            and self.since <= trace.start
            and (self.until is None or trace.start < self.until)
            and (not self.ids or any(trace.trace_id.startswith(one.lower()) for one in self.ids))
        )

    def _status_fits(self, trace: Trace) -> bool:
        if self.status == "error":  # also a failure that was tolerated
            return trace.failed > 0
        return self.status is None or trace.status == self.status


def _text(value: object) -> str:
    """As it reads in JSON: ``true``, not ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)
