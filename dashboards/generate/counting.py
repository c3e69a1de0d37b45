"""Count the increase of a Prometheus counter within a time range, its first value included.

``increase()`` knows differences between samples, so what a series has when it first appears is never in it: the first
failure of a flow (``error.type`` makes it a series of its own), the first spans that are dropped, and everything of a
process that runs one flow and ends. Flows are often just that. The start times in OTLP do not help: Prometheus 3.16
makes no zero of them, with ``created-timestamp-zero-ingestion`` either.
"""

from __future__ import annotations

__all__ = ["counted", "each"]

BEFORE = "1h"
"""A series without a value for this long before a time range is new in it. It must be longer than an outage: otherwise
the counts from before the outage would be counted again."""


def counted(series: str, window: str = "$__range", ago: str = "") -> str:
    """Return the increase of each series within a window that ends now, or ``ago``."""
    then = f" offset {ago}" if ago else ""
    new = f"last_over_time({series}[{window}]{then}) unless last_over_time({series}[{BEFORE}] offset {ago}{window})"
    return f"(({new}) or increase({series}[{window}]{then}))"


def each(series: str, ago: str = "") -> str:
    """Return the increase in each interval of a graph. The intervals add up: ``increase(…[$__interval])`` misses the
    increase between the last sample of one interval and the first of the next."""
    then = f" offset {ago}" if ago else ""
    now = f"last_over_time({series}[$__interval]{then})"
    before = f"last_over_time({series}[{BEFORE}] offset {ago}$__interval)"
    return f"clamp_min({now} - ({before} or {now} * 0), 0)"
