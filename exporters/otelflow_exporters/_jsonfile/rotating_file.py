"""A file that several processes append lines to, and its older parts."""

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

__all__ = ["Appended", "LineFile"]

_PATIENCE_SECONDS = 5.0
"""How long a batch waits for other processes. Nobody holds the lock longer than a write takes, unless it is stopped."""

_POLL_SECONDS = 0.005

_FLAGS = os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)

_WHEN = "%Y-%m-%dT%H-%M-%S.%fZ"
"""When a rotated file was rotated, in its name, UTC: names sort as times do, and no system forbids the characters."""

_WHEN_PATTERN = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z"

Inode = tuple[int, int]


@dataclass
class Appended:
    """What there is to tell of one ``append`` that worked."""

    problems: dict[str, str] = field(default_factory=dict)
    """By what could not be done (``lock``, ``rotate``), why."""
    deleted: list[str] = field(default_factory=list)
    """Rotated files that were one too many."""


@dataclass
class LineFile:
    """The file at ``path``. It is opened anew for each batch: so it may be moved, removed and rotated by whoever likes,
    no fork shares a descriptor of it, and nothing is open between two batches.

    Not for several threads at once.
    """

    path: str
    most_bytes: int = 0
    """Size beyond which a write would take it: it is rotated before. 0: never."""
    period: int = 0
    """Seconds: what is written in one period, counted from the epoch, shares a file with no other. 0: never rotated."""
    keep: int = 10
    sync: Sync = "flush"
    mode: int = 0o600

    def __post_init__(self) -> None:
        self._patience = _PATIENCE_SECONDS
        self._unsynced: set[Inode] = set()

    def append(self, data: bytes) -> Appended:
        """Append ``data``, which is whole lines, in one write. Raises OSError where that fails, and leaves no part."""
        done = Appended()
        self._make_folder()
        if self._is_regular():
            with self._locked(done) as is_locked:
                if is_locked and self._is_due(len(data)):
                    self._rotate(done)
                self._append(data, is_locked)
        else:
            _write_out(self.path, data)
        return done

    def flush(self) -> bool:
        """Whether all that was appended since the last call is on disk, as far as ``sync`` promises; with ``never`` the
        system has it, and that is all."""
        waiting, self._unsynced = self._unsynced, set()
        for _ in range(2):  # between a look at the folder and one at a file, somebody may rotate
            if waiting:
                for entry in list(os.scandir(os.path.dirname(self.path))):
                    _sync_if_among(entry.path, waiting)
        return not waiting

    def forget(self) -> None:
        """Forget what is not synced: it is the parent's, in a child that was forked."""
        self._unsynced.clear()

    def _make_folder(self) -> None:
        """Make the folders that are missing, each with the file's mode and the right to enter for who may read.

        ``os.makedirs`` gives the last one its mode only.
        """
        folder, missing = os.path.dirname(self.path), []
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process is as far
                os.mkdir(folder)
                os.chmod(folder, self.mode | (self.mode & 0o444) >> 2)

    def _is_regular(self) -> bool:
        """Whether a file is there, or none is; a terminal, a pipe and the like are neither locked nor rotated."""
        try:
            return stat.S_ISREG(os.stat(self.path).st_mode)
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def _locked(self, done: Appended) -> Iterator[bool]:
        """Hold the lock of all writers; False where it cannot be had, and then the write goes on without.

        Appending is atomic on local disks anyway: what cannot be done without the lock is to rotate. The lock belongs
        to an open file, so it ends with the process that holds it. It is a new object each time, for an inherited one
        is of no use after a fork.
        """
        lock = FileLock(self.path + ".lock", mode=self.mode)
        try:
            lock.acquire(timeout=self._patience, poll_interval=_POLL_SECONDS)
        except Exception as error:
            self._patience = 0  # one that stays locked must not hold up each batch
            done.problems["lock"] = f"{self.path}.lock: {error}"
            yield False
            return
        self._patience = _PATIENCE_SECONDS
        try:
            yield True
        finally:
            lock.release()

    def _is_due(self, more: int) -> bool:
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        if not now.st_size:
            return False
        if self.most_bytes and now.st_size + more > self.most_bytes:
            return True
        # No file system tells when a file was begun, but the last write to it is in the period of the first one.
        return bool(self.period) and int(now.st_mtime) // self.period != int(time.time()) // self.period

    def _rotate(self, done: Appended) -> None:
        try:
            if self.sync != "never":
                with _opened(self.path, os.O_RDWR) as file:
                    os.fsync(file)
                    self._unsynced.discard(_inode(os.fstat(file)))
            os.rename(self.path, self._free_name())
            for path in self._rotated()[self.keep :]:
                os.unlink(path)
                done.deleted.append(path)
        except OSError as error:
            done.problems["rotate"] = str(error)

    def _free_name(self) -> str:
        stem, extension = os.path.splitext(self.path)
        when = datetime.now(timezone.utc)
        while os.path.lexists(path := f"{stem}-{when.strftime(_WHEN)}{extension}"):
            when += timedelta(microseconds=1)
        return path

    def _rotated(self) -> list[str]:
        """The rotated files, the newest first."""
        folder, name = os.path.split(self.path)
        stem, extension = os.path.splitext(name)
        ours = re.compile(f"{re.escape(stem)}-{_WHEN_PATTERN}{re.escape(extension)}")
        return sorted((os.path.join(folder, name) for name in os.listdir(folder) if ours.fullmatch(name)), reverse=True)

    def _append(self, data: bytes, is_locked: bool) -> None:
        file, is_new = self._open()
        try:
            end = os.fstat(file).st_size
            if _is_torn(file, end):
                data = b"\n" + data
            _write(file, data, end if is_locked else None)
            if self.sync == "batch":
                os.fsync(file)
            elif self.sync == "flush":
                self._unsynced.add(_inode(os.fstat(file)))
        finally:
            os.close(file)
        if is_new and self.sync != "never":
            _sync_folder(os.path.dirname(self.path))

    def _open(self) -> tuple[int, bool]:
        """A descriptor of the file, and whether it was made just now."""
        while True:
            try:
                return os.open(self.path, os.O_RDWR | _FLAGS), False
            except FileNotFoundError:
                pass
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, self.mode)
            except FileExistsError:  # another process made it, and could not have the lock
                continue
            if hasattr(os, "fchmod"):
                os.fchmod(file, self.mode)  # whatever the umask
            return file, True


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    file = os.open(path, flags | _FLAGS)
    try:
        yield file
    finally:
        os.close(file)


def _sync_if_among(path: str, waiting: set[Inode]) -> None:
    """Sync the file there if it is one of ``waiting``. It may have been rotated since, by whoever likes."""
    with contextlib.suppress(FileNotFoundError):
        if _inode(os.stat(path)) in waiting:
            with _opened(path, os.O_RDWR) as file:
                os.fsync(file)
                waiting.discard(_inode(os.fstat(file)))


def _inode(of: os.stat_result) -> Inode:
    return of.st_dev, of.st_ino


def _is_torn(file: int, end: int) -> bool:
    """Whether the last line has no end: whoever wrote it was killed, or the disk was full."""
    if not end:
        return False
    os.lseek(file, end - 1, os.SEEK_SET)
    return os.read(file, 1) not in (b"\n", b"")


def _write(file: int, data: bytes, end: int | None = None) -> None:
    """Write all of ``data``, in one go where the system does its part. Where it cannot, take back what was written, if
    the file's old ``end`` is known."""
    rest, written = memoryview(data), 0
    try:
        while rest:
            count = os.write(file, rest)
            rest, written = rest[count:], written + count
    except OSError:
        if written and end is not None and os.fstat(file).st_size == end + written:
            with contextlib.suppress(OSError):  # else the next writer ends the line
                os.ftruncate(file, end)
        raise


def _write_out(path: str, data: bytes) -> None:
    """Write to what is no file. A pipe that nobody reads would keep ``open`` waiting for ever: that is an error."""
    with _opened(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)) as file:
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(file, True)
        _write(file, data)


def _sync_folder(path: str) -> None:
    """A new file is on disk when its name is. Not every system can sync a folder."""
    try:
        with _opened(path, os.O_RDONLY) as folder:
            os.fsync(folder)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC):
            raise
