"""What is running at this moment: the open spans of a process as trees, with counts of what has ended below them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

__all__ = ["PROGRESS_DONE", "PROGRESS_TOTAL", "OpenSpans", "OpenTrace"]

PROGRESS_DONE, PROGRESS_TOTAL = "otelflow.progress.done", "otelflow.progress.total"
"""Attributes by which a span says how far it is: two numbers of the same unit."""

_MOST_OPEN = 20_000
_MOST_NAMES = 50
_OTHERS = "others"


class OpenTrace:
    """A span that has not ended: those below it that have not either, and by name how many below it did and failed."""

    __slots__ = ("above", "below", "ended", "failed_in_all", "name", "span", "start", "total")

    def __init__(self, span: ReadableSpan, above: OpenTrace | None) -> None:
        self.span, self.above = span, above
        self.name, self.start = span.name, span.start_time or 0
        self.below: dict[int, OpenTrace] = {}
        self.ended: dict[str, list[int]] = {}
        """By name: how many ended, and how many of them failed."""
        self.total = self.failed_in_all = 0
        """The same of everything below, at any depth."""

    def count(self, name: str, failed: bool) -> None:
        """A child of this name has ended."""
        numbers = self.ended.setdefault(
            name if name in self.ended or len(self.ended) < _MOST_NAMES else _OTHERS, [0, 0]
        )
        numbers[0] += 1
        numbers[1] += failed

    @property
    def progress(self) -> tuple[float, float] | None:
        """How much of how much is done, where the span says so."""
        known = self.span.attributes or {}
        done, total = known.get(PROGRESS_DONE), known.get(PROGRESS_TOTAL)
        if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
            return done, total
        return None


class OpenSpans:
    """The open spans. Told of starts and ends by the threads of the program, and read by the one that draws."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[int, OpenTrace] = {}
        self.tops: dict[int, OpenTrace] = {}
        self.not_held = 0
        """Starts beyond the largest number that is held, so far."""

    def started(self, span: Any) -> None:
        """A span begins."""
        with self.lock:
            if len(self._open) >= _MOST_OPEN:
                self.not_held += 1
                return
            above = None if span.parent is None else self._open.get(span.parent.span_id)
            made = OpenTrace(span, above)
            identity = span.context.span_id
            self._open[identity] = made
            (self.tops if above is None else above.below)[identity] = made

    def ended(self, span: ReadableSpan) -> None:
        """A span ends. What it leaves running moves up."""
        identity = span.context.span_id if span.context else 0
        failed = span.status.status_code is StatusCode.ERROR
        with self.lock:
            gone = self._open.pop(identity, None)
            if gone is None:
                return
            above = gone.above
            (self.tops if above is None else above.below).pop(identity, None)
            for left, one in gone.below.items():
                one.above = above
                (self.tops if above is None else above.below)[left] = one
            if above is not None:
                above.count(gone.name, failed)
            while above is not None:
                above.total += 1
                above.failed_in_all += failed
                above = above.above

    def __bool__(self) -> bool:
        return bool(self._open)

    def older_than(self, time: int) -> Iterator[OpenTrace]:
        """The open spans at the top that began before ``time``, nanoseconds since the epoch. Under the lock."""
        return (one for one in self.tops.values() if one.start < time)
