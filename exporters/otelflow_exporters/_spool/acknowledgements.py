"""Count how many spans of this process's segments each endpoint has acknowledged.

A segment that is gone from the folder need not have been delivered: somebody may have removed the folder. So only the
process that wrote a segment removes it while it is alive, and before that it reads the endpoints' progress.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from otelflow_exporters._spool.folder import Folder, Segment
from otelflow_exporters._spool.record_format import START

__all__ = ["Acknowledgements"]

_MAX_MISSING = 100
"""Number of missing segments to keep counts of. For these a response may still arrive; for older ones it does not."""


class _OwnSegment:
    """The counts of one segment of this process."""

    __slots__ = ("_progress", "written_spans")

    def __init__(self, keys: Iterable[str]) -> None:
        self.written_spans = 0
        """Spans written to it so far."""
        self._progress: dict[str, tuple[int, int]] = dict.fromkeys(keys, (START, 0))
        """By endpoint: the offset up to which it has the file, and the number of spans before that."""

    @property
    def acknowledged_spans(self) -> int:
        """Number of spans that every endpoint has."""
        return min((spans for _, spans in self._progress.values()), default=self.written_spans)

    def acknowledge(self, key: str, begin: int, end: int, spans: int | None, segment: Segment | None) -> None:
        """Record that an endpoint has the bytes from ``begin`` to ``end``. If ``spans`` is None, count them in the
        file."""
        acknowledged_to, spans_before = self._progress[key]
        if end <= acknowledged_to:
            return
        if spans is None or begin != acknowledged_to:  # another process sent some, or they were sent again
            if segment is None:
                return
            spans = sum(part.spans for part in segment.read(acknowledged_to) if part.end <= end)
        self._progress[key] = end, spans_before + spans


class Acknowledgements:
    """The acknowledged spans of one process's segments. Thread-safe."""

    def __init__(self, folder: Folder, keys: list[str]) -> None:
        self._folder, self._keys = folder, keys
        self.reset()

    def reset(self) -> None:
        """Start with no segments. Also called in a forked child."""
        self._lock = threading.RLock()
        self._segments: dict[str, _OwnSegment] = {}
        self._missing: dict[str, _OwnSegment] = {}
        self._settled_spans = self._removed_spans = 0
        self._is_shut_down = False

    def add(self, stem: str, spans: int) -> None:
        """Add the number of spans written to a segment."""
        with self._lock:
            own = self._segments.get(stem)
            if own is None:
                own = self._segments[stem] = _OwnSegment(self._keys)
            own.written_spans += spans

    def acknowledge(self, key: str, stem: str, begin: int, end: int, spans: int) -> None:
        """Record that an endpoint has responded to the bytes from ``begin`` to ``end`` of a segment."""
        with self._lock:
            own = self._segments.get(stem) or self._missing.get(stem)
            if own is not None:
                own.acknowledge(key, begin, end, spans, self._folder.segment(stem))

    def refresh(self) -> None:
        """Read from the folder what other processes have sent, and which segments are missing."""
        with self._lock:
            if not self._segments:
                return
            progress = {key: self._folder.progress(key) for key in self._keys}
            for stem, own in list(self._segments.items()):
                segment = self._folder.segment(stem)
                if segment is None:
                    self._mark_missing(stem)
                    continue
                for key, offsets in progress.items():
                    own.acknowledge(key, START, offsets.get(stem, START), None, segment)

    def _mark_missing(self, stem: str) -> None:
        own = self._segments.pop(stem)
        # After the shutdown, another process may send the segment and remove it.
        if self._is_shut_down and set(self._keys) <= set(self._folder.endpoint_keys()):
            self._settled_spans += own.written_spans
            return
        self._missing[stem] = own
        if len(self._missing) > _MAX_MISSING:
            oldest = self._missing.pop(next(iter(self._missing)))
            self._settled_spans += oldest.acknowledged_spans
            self._removed_spans += oldest.written_spans - oldest.acknowledged_spans

    def mark_removed(self, stem: str) -> None:
        """Settle all spans of a segment: the process that removed it has counted those that were lost."""
        with self._lock:
            own = self._segments.pop(stem, None) or self._missing.pop(stem, None)
            if own is not None:
                self._settled_spans += own.written_spans

    def finish_segment(self, segment: Segment) -> int:
        """Settle a segment that every endpoint has, before it is removed. Return the number of its spans that nobody
        has counted: they are in bytes that could not be read."""
        with self._lock:
            own = self._segments.pop(segment.stem, None)
            if own is None:
                return 0
            for key in self._keys:
                own.acknowledge(key, START, segment.size, None, segment)
            unread = max(0, own.written_spans - own.acknowledged_spans)
            self._settled_spans += own.acknowledged_spans + unread
            return unread

    def mark_shut_down(self) -> None:
        """Leave the removal of this process's segments to other processes from now on."""
        with self._lock:
            self._is_shut_down = True

    def count_spans(self) -> tuple[int, int]:
        """Return the number of settled spans (delivered, or counted as lost), and of spans in segments that somebody
        removed before that."""
        with self._lock:
            missing = tuple(self._missing.values())  # a copy: a signal handler may change it meanwhile
            acknowledged = sum(own.acknowledged_spans for own in (*self._segments.values(), *missing))
            removed_spans = sum(max(0, own.written_spans - own.acknowledged_spans) for own in missing)
            return self._settled_spans + acknowledged, self._removed_spans + removed_spans
