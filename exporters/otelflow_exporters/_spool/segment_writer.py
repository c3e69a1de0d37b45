"""The one segment that a process appends to, and the room that there must be for it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from filelock import Timeout

from otelflow_exporters._settings import Sync
from otelflow_exporters._spool.folder import Folder, Segment, forget_lock
from otelflow_exporters._spool.record_format import START, Record, file_head, pack

__all__ = ["NoRoom", "SegmentWriter", "write_all", "writing"]

writing = threading.RLock()
"""Held while a file of a spool is written. One for all of the process, so that a fork can wait for it: no child gets
half a record. A thread can take it twice, for a signal handler may end a span in the midst of a write."""

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)

_SEGMENT_SECONDS = 60.0
"""Age at which a segment is sealed, so that the oldest can go first, and delivered ones leave the disk."""

_SEGMENT_BYTES = 8 << 20
"""The same by size, or a 16th of what the folder may have."""


class NoRoom(Exception):
    """The record is larger than all that the folder may hold."""


class SegmentWriter:
    """Appends records to the folder, in segments of this process. Every method may be called by any thread.

    ``wrote(stem, spans)`` is told what was appended, ``drop(segment, spans)`` what goes to make room and how many spans
    wait in it, ``entered_anew()`` that the folder had been taken away.
    """

    def __init__(
        self,
        folder: Folder,
        keys: Iterable[str],
        most_bytes: int,
        sync: Sync,
        *,
        wrote: Callable[[str, int], None],
        drop: Callable[[Segment, int], None],
        entered_anew: Callable[[], None],
    ) -> None:
        self._folder, self._keys, self._most, self._sync = folder, list(keys), most_bytes, sync
        self._wrote, self._is_to_go, self._entered_anew = wrote, drop, entered_anew
        self._segment_bytes = max(4096, min(_SEGMENT_BYTES, most_bytes // 16)) if most_bytes else _SEGMENT_BYTES
        self.begin()

    def begin(self) -> None:
        """Start empty; also in a forked child, which leaves the parent's segment to the parent."""
        self.identity = f"{os.getpid()}.{os.urandom(8).hex()}"
        self._alive: Any = None
        self._file: int | None = None
        self._size = self._unchecked = 0
        self._created = 0.0
        self._marker, self._path = b"", ""
        self._is_entering = False
        self._is_writing = self._is_unsynced = False
        self._deferred: deque[tuple[bytes, int]] = deque()

    def abandon(self) -> None:
        """Close what a forked child has inherited, and start empty."""
        if self._alive is not None:
            forget_lock(self._alive)
        if self._file is not None:
            os.close(self._file)
        self.begin()

    def enter(self) -> None:
        """Be known to the folder as alive; raises OSError."""
        with writing:
            is_anew = self._alive is not None
            if is_anew and os.path.exists(self._folder.at(f"{self.identity}.alive")):
                return
            if self._is_entering:  # a signal handler, in the midst of this
                raise OSError("the folder is being made")
            self._is_entering = True
            try:
                self._folder.make()
                if is_anew:
                    forget_lock(self._alive)  # on a file that is not there
                self._alive = self._folder.enter(self.identity)
            except Timeout as error:
                raise OSError(f"{error}") from error
            finally:
                self._is_entering = False
            if is_anew:
                self._entered_anew()

    def append(self, payload: bytes, spans: int) -> None:
        """Append a record; raises OSError, and NoRoom where it is larger than the folder may be."""
        with writing:
            if self._is_writing:  # called by a signal handler in the midst of the code below
                self._deferred.append((payload, spans))
                return
            self._is_writing = True
            try:
                self._append(payload, spans)
                while self._deferred:
                    self._append(*self._deferred.popleft())
            finally:
                self._is_writing = False

    def _append(self, payload: bytes, spans: int) -> None:
        length = len(payload) + 32
        if self._most and length + START > self._most:
            raise NoRoom
        self._make_room(length)
        try:
            file = self._write(payload, spans, length)
        except OSError:
            if self._size == START:
                raise
            file = self._write(payload, spans, length)  # a new segment may be had where one may not grow
        self._size += length
        self._unchecked += length
        self._wrote(os.path.basename(self._path).removesuffix(".open"), spans)
        if self._sync == "batch":
            os.fsync(file)
        else:
            self._is_unsynced = True

    def _write(self, payload: bytes, spans: int, length: int) -> int:
        """Write a record, and leave no part of it: what is left all the same is passed over, for its segment ends."""
        file = self._opened(length)
        try:
            write_all(file, pack(self._marker, payload, spans))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size)
            with contextlib.suppress(OSError):
                self._seal()
            raise
        return file

    def _opened(self, more: int) -> int:
        """The segment to append to: the one at hand unless it is full, old, or was taken away."""
        if self._file is not None and (
            self._size + more > max(self._segment_bytes, more + START)
            or time.time() - self._created > _SEGMENT_SECONDS
            or not os.fstat(self._file).st_nlink
        ):
            self._seal()
        if self._file is None:
            self.enter()
            self._marker = os.urandom(8)
            self._path = self._folder.new_segment(self.identity, self._marker)
            file = os.open(self._path, _FLAGS, 0o600)
            try:
                write_all(file, file_head(self._marker))
            except OSError:
                os.close(file)
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
                raise
            self._file, self._size, self._created = file, START, time.time()
            if self._sync == "batch":
                _sync_folder(self._folder.path)
        return self._file

    def seal(self) -> None:
        """End the segment at hand: nothing more is appended to it."""
        with writing:
            if not self._is_writing:
                self._seal()

    def _seal(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if self._sync == "flush" and self._is_unsynced:
                os.fsync(file)
                self._is_unsynced = False
        finally:
            os.close(file)
            with contextlib.suppress(OSError):  # it was taken away
                if self._size > START:
                    os.rename(self._path, self._path.removesuffix(".open") + ".spool")
                else:
                    os.unlink(self._path)

    def seal_old(self) -> None:
        """End the segment at hand if it is old."""
        with writing:
            if not self._is_writing and self._file is not None and time.time() - self._created > _SEGMENT_SECONDS:
                self._seal()

    def sync(self) -> bool:
        """Whether what was appended is on disk, as far as is wanted; what a rename makes is."""
        with writing:
            if self._sync == "flush" and self._is_unsynced and self._file is not None:
                os.fsync(self._file)
                _sync_folder(self._folder.path)
                self._is_unsynced = False
        return True

    def leave(self, keep: bool) -> None:
        """Be alive no more. ``keep``: something is open that whoever comes next has to close."""
        with writing:
            self._seal()
            if self._alive is not None:
                self._alive.release()
                self._alive = None
                if not keep:
                    with contextlib.suppress(OSError):
                        os.unlink(self._folder.at(f"{self.identity}.alive"))

    # --- room ---------------------------------------------------------------------------------------------------

    def _make_room(self, more: int) -> None:
        """Keep the folder below its size: the oldest segments go. Looked at each 64th part of that, not each time."""
        if not self._most or (self._unchecked + more < self._most // 64 and self._file is not None):
            return
        self._unchecked = 0
        segments = self._folder.segments()
        total = sum(segment.size for segment in segments) + more + START
        for segment in segments:
            if total <= self._most:
                break
            if segment.is_open and segment.identity == self.identity:
                self._seal()
                segment = segment._replace(is_open=False, path=self._path.removesuffix(".open") + ".spool")
            if not segment.is_open:
                self._drop(segment)
                total -= segment.size

    def _drop(self, segment: Segment) -> None:
        done = min((self._folder.progress(key).get(segment.stem, START) for key in self._keys), default=START)
        spans = sum(part.spans for part in segment.read(done) if isinstance(part, Record))
        self._is_to_go(segment, spans)  # before it goes: else its owner would not know why
        with contextlib.suppress(OSError):
            os.unlink(segment.path)


def write_all(file: int, data: bytes) -> None:
    """Write all, in one go where the system does its part."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_folder(path: str) -> None:
    """A new file is on disk when its name is. Not every system can sync a folder."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
