"""What a counter of Prometheus came to within a time, its first value included.

``increase()`` knows differences between samples, so what a series has when it first appears is never in it: the first
failure of a flow (``error.type`` makes it a series of its own), the first spans that are dropped, and everything of a
process that runs one flow and ends. Flows are often just that. The start times in OTLP do not help: Prometheus 3.16
makes no zero of them, with ``created-timestamp-zero-ingestion`` either.
"""

from __future__ import annotations

__all__ = ["counted", "each"]

BEFORE = "1h"
"""A series that had no value for so long before a time is new in it. Longer than an outage should be: what was counted
before one would be counted again."""


def counted(series: str, window: str = "$__range", ago: str = "") -> str:
    """What it came to within a window that ends now, or ``ago``; for each series."""
    then = f" offset {ago}" if ago else ""
    new = f"last_over_time({series}[{window}]{then}) unless last_over_time({series}[{BEFORE}] offset {ago}{window})"
    return f"(({new}) or increase({series}[{window}]{then}))"


def each(series: str, ago: str = "") -> str:
    """What it came to in each interval of a graph. The intervals add up: ``increase(…[$__interval])`` misses what is
    between the last sample of one and the first of the next."""
    then = f" offset {ago}" if ago else ""
    now = f"last_over_time({series}[$__interval]{then})"
    before = f"last_over_time({series}[{BEFORE}] offset {ago}$__interval)"
    return f"clamp_min({now} - ({before} or {now} * 0), 0)"
