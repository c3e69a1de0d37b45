"""Append records to the segment of this process, and delete the oldest segments if the folder becomes too large."""

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
from otelflow_exporters._spool.record_format import START, Record, file_header, pack

__all__ = ["RecordTooLarge", "SegmentWriter", "write_all", "write_lock"]

write_lock = threading.RLock()
"""Lock held while a spool's file is written. The whole process shares it, so that a fork can wait for it and no child
inherits half a record. It is reentrant: a signal handler may end a span during a write."""

_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)

_SEGMENT_SECONDS = 60.0
"""Age at which a segment is sealed. So the oldest spans can be dropped first, and delivered segments be removed."""

_SEGMENT_BYTES = 8 << 20
"""Size at which a segment is sealed: this, or a 16th of the folder's maximum size if that is smaller."""


class RecordTooLarge(Exception):
    """The record is larger than the folder's maximum size."""


class SegmentWriter:
    """Appends records to segments of this process. Thread-safe.

    Args:
        on_append: Called with a segment's stem and the number of spans appended to it.
        on_drop: Called before a segment is deleted to make room, with the number of its spans that are not delivered.
        on_reregister: Called after the folder had been removed and this process has registered again.
    """

    def __init__(
        self,
        folder: Folder,
        keys: Iterable[str],
        max_bytes: int,
        sync: Sync,
        *,
        on_append: Callable[[str, int], None],
        on_drop: Callable[[Segment, int], None],
        on_reregister: Callable[[], None],
    ) -> None:
        self._folder, self._keys, self._max_bytes, self._sync = folder, list(keys), max_bytes, sync
        self._on_append, self._on_drop, self._on_reregister = on_append, on_drop, on_reregister
        self._segment_bytes = max(4096, min(_SEGMENT_BYTES, max_bytes // 16)) if max_bytes else _SEGMENT_BYTES
        self.reset()

    def reset(self) -> None:
        """Start without a segment. Also called in a forked child: the old segment belongs to the parent."""
        self.identity = f"{os.getpid()}.{os.urandom(8).hex()}"
        self._process_lock: Any = None
        self._file: int | None = None
        self._size = self._bytes_since_check = 0
        self._created = 0.0
        self._file_id, self._path = b"", ""
        self._is_registering = False
        self._is_writing = self._is_unsynced = False
        self._deferred_records: deque[tuple[bytes, int]] = deque()

    def reset_after_fork(self) -> None:
        """Close the files that a forked child has inherited, and start without a segment."""
        if self._process_lock is not None:
            forget_lock(self._process_lock)
        if self._file is not None:
            os.close(self._file)
        self.reset()

    def register(self) -> None:
        """Register this process in the folder as alive. Raises OSError."""
        with write_lock:
            was_registered = self._process_lock is not None
            if was_registered and os.path.exists(self._folder.path_of(f"{self.identity}.alive")):
                return
            if self._is_registering:  # a signal handler interrupted this
                raise OSError("the folder is being created")
            self._is_registering = True
            try:
                self._folder.create()
                if was_registered:
                    forget_lock(self._process_lock)  # its file was removed
                self._process_lock = self._folder.register(self.identity)
            except Timeout as error:
                raise OSError(f"{error}") from error
            finally:
                self._is_registering = False
            if was_registered:
                self._on_reregister()

    def append(self, payload: bytes, spans: int) -> None:
        """Append a record. Raises OSError, and RecordTooLarge if it is larger than the folder's maximum size."""
        with write_lock:
            if self._is_writing:  # a signal handler interrupted the code below
                self._deferred_records.append((payload, spans))
                return
            self._is_writing = True
            try:
                self._append(payload, spans)
                while self._deferred_records:
                    self._append(*self._deferred_records.popleft())
            finally:
                self._is_writing = False

    def _append(self, payload: bytes, spans: int) -> None:
        length = len(payload) + 32
        if self._max_bytes and length + START > self._max_bytes:
            raise RecordTooLarge
        self._make_room(length)
        try:
            file = self._write(payload, spans, length)
        except OSError:
            if self._size == START:
                raise
            file = self._write(payload, spans, length)  # a new segment may work if this one must not grow
        self._size += length
        self._bytes_since_check += length
        self._on_append(os.path.basename(self._path).removesuffix(".open"), spans)
        if self._sync == "batch":
            os.fsync(file)
        else:
            self._is_unsynced = True

    def _write(self, payload: bytes, spans: int, length: int) -> int:
        """Write a record. If that fails, remove the written part and seal the segment.

        If a part remains nevertheless, readers skip it, because it is at the end of its segment.
        """
        file = self._open_segment(length)
        try:
            write_all(file, pack(self._file_id, payload, spans))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._size)
            with contextlib.suppress(OSError):
                self._seal()
            raise
        return file

    def _open_segment(self, length: int) -> int:
        """Return the descriptor of the segment to append to. Begin a new one if it is full, old, or was removed."""
        if self._file is not None and (
            self._size + length > max(self._segment_bytes, length + START)
            or time.time() - self._created > _SEGMENT_SECONDS
            or not os.fstat(self._file).st_nlink
        ):
            self._seal()
        if self._file is None:
            self.register()
            self._file_id = os.urandom(8)
            self._path = self._folder.new_segment(self.identity, self._file_id)
            file = os.open(self._path, _OPEN_FLAGS, 0o600)
            try:
                write_all(file, file_header(self._file_id))
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
        """End the current segment: nothing more is appended to it."""
        with write_lock:
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
            with contextlib.suppress(OSError):  # it was removed
                if self._size > START:
                    os.rename(self._path, self._path.removesuffix(".open") + ".spool")
                else:
                    os.unlink(self._path)

    def seal_old(self) -> None:
        """Seal the current segment if it is old."""
        with write_lock:
            if not self._is_writing and self._file is not None and time.time() - self._created > _SEGMENT_SECONDS:
                self._seal()

    def sync(self) -> bool:
        """Sync the appended records to the disk, if the policy requires it. Sealed segments are already synced."""
        with write_lock:
            if self._sync == "flush" and self._is_unsynced and self._file is not None:
                os.fsync(self._file)
                _sync_folder(self._folder.path)
                self._is_unsynced = False
        return True

    def unregister(self, keep_file: bool) -> None:
        """Remove the registration of this process.

        With ``keep_file`` the file stays: the next process must close the flows that are still open.
        """
        with write_lock:
            self._seal()
            if self._process_lock is not None:
                self._process_lock.release()
                self._process_lock = None
                if not keep_file:
                    with contextlib.suppress(OSError):
                        os.unlink(self._folder.path_of(f"{self.identity}.alive"))

    # --- room ---------------------------------------------------------------------------------------------------

    def _make_room(self, length: int) -> None:
        """Delete the oldest segments if the folder would exceed its maximum size.

        The size is checked after each 64th part of the maximum, not for each record.
        """
        if not self._max_bytes or (self._bytes_since_check + length < self._max_bytes // 64 and self._file is not None):
            return
        self._bytes_since_check = 0
        segments = self._folder.segments()
        total = sum(segment.size for segment in segments) + length + START
        for segment in segments:
            if total <= self._max_bytes:
                break
            if segment.is_open and segment.identity == self.identity:
                self._seal()
                segment = segment._replace(is_open=False, path=self._path.removesuffix(".open") + ".spool")
            if not segment.is_open:
                self._drop_segment(segment)
                total -= segment.size

    def _drop_segment(self, segment: Segment) -> None:
        delivered_to = min((self._folder.progress(key).get(segment.stem, START) for key in self._keys), default=START)
        spans = sum(part.spans for part in segment.read(delivered_to) if isinstance(part, Record))
        self._on_drop(segment, spans)  # before the deletion: otherwise the segment's owner would not know the reason
        with contextlib.suppress(OSError):
            os.unlink(segment.path)


def write_all(file: int, data: bytes) -> None:
    """Write all of ``data``, in one call if the system accepts that."""
    remaining = memoryview(data)
    while remaining:
        remaining = remaining[os.write(file, remaining) :]


def _sync_folder(path: str) -> None:
    """Sync a folder: a new file is on disk only when its name is. Not every system can do that."""
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
