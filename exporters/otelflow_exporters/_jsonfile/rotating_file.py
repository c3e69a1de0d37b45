"""A file of lines that several processes append to and rotate."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from filelock import FileLock

from otelflow_exporters._settings import Sync

__all__ = ["AppendResult", "LineFile"]

_LOCK_TIMEOUT_SECONDS = 5.0
"""Seconds that a batch waits for the lock. A process holds it no longer than a write takes, unless it is stopped."""

_POLL_SECONDS = 0.005

_OPEN_FLAGS = os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)

_TIME_FORMAT = "%Y-%m-%dT%H-%M-%S.%fZ"
"""Format of the UTC time in the name of a rotated file. Names sort by time, and all systems allow the characters."""

_TIME_PATTERN = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z"

Inode = tuple[int, int]


@dataclass
class AppendResult:
    """The result of an ``append`` that wrote its data: problems on the way, and deleted files."""

    problems: dict[str, str] = field(default_factory=dict)
    """The step that failed (``lock``, ``rotate``), and the reason."""
    deleted: list[str] = field(default_factory=list)
    """Paths of the rotated files that were deleted, because there were more than ``keep``."""


@dataclass
class LineFile:
    """The file at ``path``. Not thread-safe.

    Each batch opens the file anew. So other programs may move, remove and rotate it, no fork shares a descriptor of it,
    and nothing is open between two batches.
    """

    path: str
    max_bytes: int = 0
    """Maximum size in bytes: the file is rotated before a write that would exceed it. 0: never."""
    period: int = 0
    """Length in seconds of the period that one file covers, counted from the epoch. 0: no rotation by time."""
    keep: int = 10
    sync: Sync = "flush"
    mode: int = 0o600

    def __post_init__(self) -> None:
        self._lock_timeout = _LOCK_TIMEOUT_SECONDS
        self._unsynced_inodes: set[Inode] = set()

    def append(self, data: bytes) -> AppendResult:
        """Append complete lines, ``data``, in one write. If that fails, raise OSError and leave no part of them."""
        result = AppendResult()
        self._make_folder()
        if self._is_regular():
            with self._locked(result) as is_locked:
                if is_locked and self._needs_rotation(len(data)):
                    self._rotate(result)
                self._append(data, is_locked)
        else:
            _write_to_device(self.path, data)
        return result

    def flush(self) -> bool:
        """Sync the data appended since the last call. Return whether it is on disk, as far as ``sync`` requires.

        With ``never`` nothing is synced: the operating system has the data.
        """
        inodes, self._unsynced_inodes = self._unsynced_inodes, set()
        for _ in range(2):  # another process may rotate the file after the folder was listed
            if inodes:
                for entry in list(os.scandir(os.path.dirname(self.path))):
                    _sync_if_unsynced(entry.path, inodes)
        return not inodes

    def forget_unsynced(self) -> None:
        """Forget the data that is not synced. Called in a forked child: the data belongs to the parent."""
        self._unsynced_inodes.clear()

    def _make_folder(self) -> None:
        """Create missing folders with the file's mode, and the right to enter for everyone who may read.

        ``os.makedirs`` is no alternative: it sets the mode of the last folder only.
        """
        folder, missing = os.path.dirname(self.path), []
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process created it
                os.mkdir(folder)
                os.chmod(folder, self.mode | (self.mode & 0o444) >> 2)

    def _is_regular(self) -> bool:
        """Return True if the path is a regular file or is missing. Terminals and pipes are not locked or rotated."""
        try:
            return stat.S_ISREG(os.stat(self.path).st_mode)
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def _locked(self, result: AppendResult) -> Iterator[bool]:
        """Hold the lock of all writers in this block. Yield False if it cannot be acquired.

        The write then continues without it, because appending is atomic on local disks anyway. Only rotation needs the
        lock. The lock belongs to an open file, so it ends with the process that holds it. It is a new object each time,
        because an inherited one does not work after a fork.
        """
        lock = FileLock(self.path + ".lock", mode=self.mode)
        try:
            lock.acquire(timeout=self._lock_timeout, poll_interval=_POLL_SECONDS)
        except Exception as error:
            self._lock_timeout = 0  # if another process never releases it, do not delay each batch
            result.problems["lock"] = f"{self.path}.lock: {error}"
            yield False
            return
        self._lock_timeout = _LOCK_TIMEOUT_SECONDS
        try:
            yield True
        finally:
            lock.release()

    def _needs_rotation(self, length: int) -> bool:
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        if not status.st_size:
            return False
        if self.max_bytes and status.st_size + length > self.max_bytes:
            return True
        # There is no portable creation time. The last write to a file is in the same period as the first one.
        return bool(self.period) and int(status.st_mtime) // self.period != int(time.time()) // self.period

    def _rotate(self, result: AppendResult) -> None:
        try:
            if self.sync != "never":
                with _open_file(self.path, os.O_RDWR) as file:
                    os.fsync(file)
                    self._unsynced_inodes.discard(_inode(os.fstat(file)))
            os.rename(self.path, self._new_rotated_path())
            for path in self._rotated_files()[self.keep :]:
                os.unlink(path)
                result.deleted.append(path)
        except OSError as error:
            result.problems["rotate"] = str(error)

    def _new_rotated_path(self) -> str:
        stem, extension = os.path.splitext(self.path)
        rotated_at = datetime.now(timezone.utc)
        while os.path.lexists(path := f"{stem}-{rotated_at.strftime(_TIME_FORMAT)}{extension}"):
            rotated_at += timedelta(microseconds=1)
        return path

    def _rotated_files(self) -> list[str]:
        """Return the paths of the rotated files, the newest first."""
        folder, name = os.path.split(self.path)
        stem, extension = os.path.splitext(name)
        pattern = re.compile(f"{re.escape(stem)}-{_TIME_PATTERN}{re.escape(extension)}")
        return sorted(
            (os.path.join(folder, name) for name in os.listdir(folder) if pattern.fullmatch(name)), reverse=True
        )

    def _append(self, data: bytes, is_locked: bool) -> None:
        file, is_new = self._open()
        try:
            end = os.fstat(file).st_size
            if _has_torn_line(file, end):
                data = b"\n" + data
            _write(file, data, end if is_locked else None)
            if self.sync == "batch":
                os.fsync(file)
            elif self.sync == "flush":
                self._unsynced_inodes.add(_inode(os.fstat(file)))
        finally:
            os.close(file)
        if is_new and self.sync != "never":
            _sync_folder(os.path.dirname(self.path))

    def _open(self) -> tuple[int, bool]:
        """Open the file, or create it. Return the descriptor, and True if the file is new."""
        while True:
            try:
                return os.open(self.path, os.O_RDWR | _OPEN_FLAGS), False
            except FileNotFoundError:
                pass
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_FLAGS, self.mode)
            except FileExistsError:  # another process, which could not acquire the lock, created it
                continue
            if hasattr(os, "fchmod"):
                os.fchmod(file, self.mode)  # regardless of the umask
            return file, True


@contextlib.contextmanager
def _open_file(path: str, flags: int) -> Iterator[int]:
    file = os.open(path, flags | _OPEN_FLAGS)
    try:
        yield file
    finally:
        os.close(file)


def _sync_if_unsynced(path: str, inodes: set[Inode]) -> None:
    """Sync the file at ``path`` if its inode is in ``inodes``, and remove it there. Its path may have changed since."""
    with contextlib.suppress(FileNotFoundError):
        if _inode(os.stat(path)) in inodes:
            with _open_file(path, os.O_RDWR) as file:
                os.fsync(file)
                inodes.discard(_inode(os.fstat(file)))


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


def _has_torn_line(file: int, end: int) -> bool:
    """Return whether the last line is incomplete: its writer was killed, or the disk was full."""
    if not end:
        return False
    os.lseek(file, end - 1, os.SEEK_SET)
    return os.read(file, 1) not in (b"\n", b"")


def _write(file: int, data: bytes, end: int | None = None) -> None:
    """Write all of ``data``, in one call if the system accepts that.

    If it fails, truncate the file to its old ``end``, if that is known.
    """
    remaining, written_bytes = memoryview(data), 0
    try:
        while remaining:
            count = os.write(file, remaining)
            remaining, written_bytes = remaining[count:], written_bytes + count
    except OSError:
        if written_bytes and end is not None and os.fstat(file).st_size == end + written_bytes:
            with contextlib.suppress(OSError):  # if this fails, the next writer ends the line
                os.ftruncate(file, end)
        raise


def _write_to_device(path: str, data: bytes) -> None:
    """Write to a path that is not a regular file. A pipe without a reader is an error: ``open`` would block forever."""
    with _open_file(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)) as file:
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(file, True)
        _write(file, data)


def _sync_folder(path: str) -> None:
    """Sync a folder: a new file is on disk only when its name is. Not every system can do that."""
    try:
        with _open_file(path, os.O_RDONLY) as folder:
            os.fsync(folder)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC):
            raise
