"""How many of the spans that a process has written to a folder each endpoint has acknowledged.

What is not in the folder any more need not have been delivered: somebody may have taken the folder away. So a segment
of a living process is removed by that process only, which looks before how far the endpoints have come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from otelflow_exporters._spool.folder import Folder, Segment
from otelflow_exporters._spool.record_format import START

__all__ = ["Acknowledgements"]

_MOST_MISSING = 100
"""Segments that were taken away, for which an answer may still come; of older ones none does."""


class _Own:
    """A segment of this process."""

    __slots__ = ("_sent", "written")

    def __init__(self, keys: Iterable[str]) -> None:
        self.written = 0
        """Spans so far."""
        self._sent: dict[str, tuple[int, int]] = dict.fromkeys(keys, (START, 0))
        """By endpoint, up to where in the file it has it, and how many spans are before."""

    @property
    def acknowledged(self) -> int:
        """Spans that every endpoint has."""
        return min((spans for _, spans in self._sent.values()), default=self.written)

    def sent(self, key: str, begin: int, end: int, spans: int | None, segment: Segment | None) -> None:
        """An endpoint has what is from ``begin`` to ``end``. ``spans`` None: they are counted in the file."""
        known, before = self._sent[key]
        if end <= known:
            return
        if spans is None or begin != known:  # another process has sent some, or it was sent again
            if segment is None:
                return
            spans = sum(part.spans for part in segment.read(known) if part.end <= end)
        self._sent[key] = end, before + spans


class Acknowledgements:
    """The account of one process's segments. Any thread may call anything here."""

    def __init__(self, folder: Folder, keys: list[str]) -> None:
        self._folder, self._keys = folder, keys
        self.begin()

    def begin(self) -> None:
        """Start empty; also in a forked child."""
        self._lock = threading.RLock()
        self._segments: dict[str, _Own] = {}
        self._missing: dict[str, _Own] = {}
        self._settled = self._gone = 0
        self._is_left = False

    def wrote(self, stem: str, spans: int) -> None:
        """So many spans more are in the segment."""
        with self._lock:
            own = self._segments.get(stem)
            if own is None:
                own = self._segments[stem] = _Own(self._keys)
            own.written += spans

    def sent(self, key: str, stem: str, begin: int, end: int, spans: int) -> None:
        """An endpoint has answered for what is from ``begin`` to ``end`` in the segment."""
        with self._lock:
            own = self._segments.get(stem) or self._missing.get(stem)
            if own is not None:
                own.sent(key, begin, end, spans, self._folder.segment(stem))

    def look(self) -> None:
        """Take in what other processes have sent, and which segments are not there any more."""
        with self._lock:
            if not self._segments:
                return
            progress = {key: self._folder.progress(key) for key in self._keys}
            for stem, own in list(self._segments.items()):
                segment = self._folder.segment(stem)
                if segment is None:
                    self._miss(stem)
                    continue
                for key, sent in progress.items():
                    own.sent(key, START, sent.get(stem, START), None, segment)

    def _miss(self, stem: str) -> None:
        own = self._segments.pop(stem)
        if self._is_left and set(self._keys) <= set(self._folder.keys()):  # whoever came next has sent and removed it
            self._settled += own.written
            return
        self._missing[stem] = own
        if len(self._missing) > _MOST_MISSING:
            oldest = self._missing.pop(next(iter(self._missing)))
            self._settled += oldest.acknowledged
            self._gone += oldest.written - oldest.acknowledged

    def removed(self, stem: str) -> None:
        """Whoever removed the segment has counted what was lost with it: all of it is dealt with."""
        with self._lock:
            own = self._segments.pop(stem, None) or self._missing.pop(stem, None)
            if own is not None:
                self._settled += own.written

    def finish(self, segment: Segment) -> int:
        """Every endpoint has the whole segment, which is about to be removed. How many of its spans nobody has counted:
        they are in bytes that could not be read."""
        with self._lock:
            own = self._segments.pop(segment.stem, None)
            if own is None:
                return 0
            for key in self._keys:
                own.sent(key, START, segment.size, None, segment)
            unread = max(0, own.written - own.acknowledged)
            self._settled += own.acknowledged + unread
            return unread

    def leave(self) -> None:
        """This process removes its segments no more: others do."""
        with self._lock:
            self._is_left = True

    def count(self) -> tuple[int, int]:
        """How many spans are dealt with, delivered or counted as lost; and how many were in segments that somebody took
        away before that."""
        with self._lock:
            missing = tuple(self._missing.values())  # a signal handler may come in between, and write
            acknowledged = sum(own.acknowledged for own in (*self._segments.values(), *missing))
            gone = sum(max(0, own.written - own.acknowledged) for own in missing)
            return self._settled + acknowledged, self._gone + gone
