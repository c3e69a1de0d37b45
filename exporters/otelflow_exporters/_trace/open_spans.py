"""The open spans of a process as trees, with counts of the children that have ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

__all__ = ["PROGRESS_DONE", "PROGRESS_TOTAL", "OpenSpans", "OpenTrace"]

PROGRESS_DONE, PROGRESS_TOTAL = "otelflow.progress.done", "otelflow.progress.total"
"""Attributes for the progress of a span: two numbers of the same unit."""

_MAX_OPEN = 20_000
_MAX_NAMES = 50
_OTHERS = "others"


class OpenTrace:
    """A span that has not ended, with its open children and, by name, the numbers of its ended and failed children."""

    __slots__ = ("children", "ended_counts", "failed_total", "name", "parent", "span", "start", "total")

    def __init__(self, span: ReadableSpan, parent: OpenTrace | None) -> None:
        self.span, self.parent = span, parent
        self.name, self.start = span.name, span.start_time or 0
        self.children: dict[int, OpenTrace] = {}
        self.ended_counts: dict[str, list[int]] = {}
        """By name: how many children have ended, and how many of these failed."""
        self.total = self.failed_total = 0
        """The same numbers for all descendants."""

    def count(self, name: str, failed: bool) -> None:
        """Count a child of this name that has ended."""
        numbers = self.ended_counts.setdefault(
            name if name in self.ended_counts or len(self.ended_counts) < _MAX_NAMES else _OTHERS, [0, 0]
        )
        numbers[0] += 1
        numbers[1] += failed

    @property
    def progress(self) -> tuple[float, float] | None:
        """The work done and the total work, if the span's attributes contain both."""
        attributes = self.span.attributes or {}
        done, total = attributes.get(PROGRESS_DONE), attributes.get(PROGRESS_TOTAL)
        if isinstance(done, (int, float)) and isinstance(total, (int, float)) and total > 0:
            return done, total
        return None


class OpenSpans:
    """The open spans of a process. The program's threads add and remove spans; the drawing thread reads them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[int, OpenTrace] = {}
        self.roots: dict[int, OpenTrace] = {}
        self.dropped = 0
        """Number of spans that were not added, because too many were open."""

    def add(self, span: Any) -> None:
        """Add a span that has started."""
        with self.lock:
            if len(self._open) >= _MAX_OPEN:
                self.dropped += 1
                return
            parent = None if span.parent is None else self._open.get(span.parent.span_id)
            open_span = OpenTrace(span, parent)
            span_id = span.context.span_id
            self._open[span_id] = open_span
            (self.roots if parent is None else parent.children)[span_id] = open_span

    def remove(self, span: ReadableSpan) -> None:
        """Remove a span that has ended. Its open children move to its parent."""
        span_id = span.context.span_id if span.context else 0
        failed = span.status.status_code is StatusCode.ERROR
        with self.lock:
            ended_span = self._open.pop(span_id, None)
            if ended_span is None:
                return
            parent = ended_span.parent
            (self.roots if parent is None else parent.children).pop(span_id, None)
            for child_id, child in ended_span.children.items():
                child.parent = parent
                (self.roots if parent is None else parent.children)[child_id] = child
            if parent is not None:
                parent.count(ended_span.name, failed)
            while parent is not None:
                parent.total += 1
                parent.failed_total += failed
                parent = parent.parent

    def __bool__(self) -> bool:
        return bool(self._open)

    def older_than(self, time: int) -> Iterator[OpenTrace]:
        """Return the open root spans that started before ``time``, in nanoseconds since the epoch.

        The caller holds the lock.
        """
        return (root for root in self.roots.values() if root.start < time)
