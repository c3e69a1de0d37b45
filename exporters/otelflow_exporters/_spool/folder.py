"""A spool's folder: the segments, the progress of each endpoint, the living processes and the losses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from otelflow_exporters._spool.record_format import START, Damage, Record, scan

__all__ = ["Folder", "Segment", "forget_lock", "lock_at"]

_SEGMENT_NAME = re.compile(r"(\d{20})-(\d+\.[0-9a-f]{16})-([0-9a-f]{16})\.(open|spool)")
"""Name of a segment: creation time (nanoseconds since the epoch), identity of its process, and marker. The extension is
``open`` while the process appends to it."""

_PROCESS_FILE_NAME = re.compile(r"(\d+\.[0-9a-f]{16})\.(alive|flows)")

_PROGRESS_FILE_NAME = re.compile(r"sent-([0-9a-f]{12})\.json")

_PROGRESS_MAX_AGE_SECONDS = 86_400
"""Age at which the progress of an endpoint that is not in use any more is deleted."""

_MAX_LOSSES_BYTES = 1_000_000
_LOCK_TIMEOUT_SECONDS = 5.0


class Segment(NamedTuple):
    """A file of records."""

    created: int
    identity: str
    marker: bytes
    is_open: bool
    path: str
    size: int

    @property
    def stem(self) -> str:
        """The name without its extension, which is the same whether the segment is open or sealed."""
        return os.path.basename(self.path).partition(".spool")[0].partition(".open")[0]

    def read(self, offset: int = START) -> Iterator[Record | Damage]:
        """Yield its records and damaged parts from ``offset`` on. Yield nothing if it was removed."""
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:
            return iter(())
        return scan(data, self.marker, offset)


def _segment_at(path: str) -> Segment | None:
    name = _SEGMENT_NAME.fullmatch(os.path.basename(path))
    if name is None:
        return None
    created, identity, marker, state = name.groups()
    try:
        size = os.stat(path).st_size  # not the directory entry's size: Windows does not keep that up to date
    except OSError:  # it was delivered and removed a moment ago
        return None
    return Segment(int(created), identity, bytes.fromhex(marker), state == "open", path, size)


def lock_at(path: str) -> FileLock:
    """Return a lock on a file. It belongs to an open file, so it ends with the process that holds it."""
    return FileLock(path, mode=0o600, thread_local=False)


def forget_lock(lock: FileLock) -> None:
    """Close a lock that a forked child has inherited, without releasing it: that would release the parent's lock."""
    state = getattr(lock, "_context", None)
    descriptor = getattr(state, "lock_file_fd", None)
    if state is not None and isinstance(descriptor, int):  # newer releases of filelock have closed it already
        with contextlib.suppress(OSError):
            os.close(descriptor)
        state.lock_file_fd = None


@dataclass
class Folder:
    """The folder at ``path``. Several processes may use it at the same time."""

    path: str

    def __post_init__(self) -> None:
        self._span_counts: dict[str, tuple[int, int, int]] = {}
        self._unsaved_progress: dict[str, dict[str, int]] = {}

    def path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def create(self) -> None:
        """Create the folder and missing parents, for their owner only. Raises OSError."""
        folder, missing = self.path, []
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process created it
                os.mkdir(folder, 0o700)

    @contextlib.contextmanager
    def locked(self, seconds: float) -> Iterator[None]:
        """Hold the lock under which processes register and dead ones are detected. Raises Timeout and OSError."""
        with lock_at(self.path_of("folder.lock")).acquire(timeout=seconds, poll_interval=0.01):
            yield

    # --- segments -----------------------------------------------------------------------------------------------

    def segments(self) -> list[Segment]:
        """Return all segments, the oldest first."""
        segments = []
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                segment = _segment_at(entry.path)
                if segment is not None:
                    segments.append(segment)
        return sorted(segments)

    def segment(self, stem: str) -> Segment | None:
        """Return the segment with that stem. None if it was removed."""
        for state in ("spool", "open", "spool"):  # twice, because it may be renamed meanwhile
            segment = _segment_at(self.path_of(f"{stem}.{state}"))
            if segment is not None:
                return segment
        return None

    def new_segment(self, identity: str, marker: bytes) -> str:
        """Return the path for a segment that begins now."""
        return self.path_of(f"{time.time_ns():020d}-{identity}-{marker.hex()}.open")

    def pending_segments(self, keys: Iterable[str]) -> list[tuple[Segment, int]]:
        """Return the segments that some endpoint does not have, with the offset of the first undelivered byte."""
        progress = [self.progress(key) for key in keys]
        pending = []
        for segment in self.segments():
            offset = min((offsets.get(segment.stem, START) for offsets in progress), default=START)
            if segment.size > offset:
                pending.append((segment, offset))
        return pending

    def count_spans(self, segment: Segment, offset: int) -> int:
        """Count the spans of a segment from ``offset`` on. Cached until the segment changes."""
        entry = self._span_counts.get(segment.stem)
        if entry is None or entry[:2] != (segment.size, offset):
            if len(self._span_counts) > 10_000:
                self._span_counts.clear()
            spans = sum(part.spans for part in segment.read(offset) if isinstance(part, Record))
            entry = self._span_counts[segment.stem] = segment.size, offset, spans
        return entry[2]

    def remove_delivered(
        self, keys: Collection[str], own_identity: str = "", on_delivered: Callable[[Segment], None] | None = None
    ) -> None:
        """Remove the sealed segments that all endpoints have, and the progress of other endpoints not used for a day.

        Living processes remove their own segments, because they read the endpoints' progress before. A segment of the
        process ``own_identity`` is passed to ``on_delivered`` before it is removed.
        """
        sealed = [segment for segment in self.segments() if not segment.is_open]
        progress = [self.progress(key) for key in keys] if sealed else []
        for segment in sealed:
            is_own = segment.identity == own_identity
            if not is_own and os.path.exists(self.path_of(f"{segment.identity}.alive")):
                continue
            if all(offsets.get(segment.stem, START) >= segment.size for offsets in progress):
                if is_own and on_delivered is not None:
                    on_delivered(segment)
                with contextlib.suppress(OSError):
                    os.unlink(segment.path)
        for key in set(self.endpoint_keys()) - set(keys):
            with contextlib.suppress(OSError):
                if time.time() - os.stat(self.path_of(f"sent-{key}.json")).st_mtime > _PROGRESS_MAX_AGE_SECONDS:
                    os.unlink(self.path_of(f"sent-{key}.json"))

    # --- progress -----------------------------------------------------------------------------------------------

    def endpoint_keys(self) -> list[str]:
        """Return the keys of the endpoints that something was sent to."""
        with contextlib.suppress(OSError):
            names = (_PROGRESS_FILE_NAME.fullmatch(name) for name in os.listdir(self.path))
            return sorted(name[1] for name in names if name)
        return []

    def endpoint_url(self, key: str) -> str:
        """Return the URL of an endpoint, or its key if the URL is unknown."""
        return str(self._read_progress(key).get("endpoint", key))

    def _read_progress(self, key: str) -> dict[str, Any]:
        try:
            with open(self.path_of(f"sent-{key}.json"), encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError):  # missing or damaged: everything is sent again
            return {}
        return content if isinstance(content, dict) else {}

    def progress(self, key: str) -> dict[str, int]:
        """Return, by the stem of the segment, the offset up to which the endpoint has it."""
        sent = self._read_progress(key).get("sent")
        offsets = {stem: at for stem, at in sent.items() if isinstance(at, int)} if isinstance(sent, dict) else {}
        for stem, offset in self._unsaved_progress.get(key, {}).items():
            offsets[stem] = max(offset, offsets.get(stem, 0))
        return offsets

    def save_progress(self, key: str, endpoint: str, progress: dict[str, int]) -> None:
        """Save the progress of an endpoint, without removed segments.

        If the disk is full, keep it in memory: removing delivered segments makes room. After a crash in this state
        their records are sent again.
        """
        for stem in list(progress):
            if self.segment(stem) is None:
                del progress[stem]
        path = self.path_of(f"sent-{key}.json")
        temporary = f"{path}.{os.getpid()}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump({"endpoint": endpoint, "sent": progress}, file)
            os.replace(temporary, path)
            self._unsaved_progress.pop(key, None)
        except OSError:
            self._unsaved_progress[key] = dict(progress)
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    # --- living and dead processes ------------------------------------------------------------------------------

    def identities(self) -> set[str]:
        """Return the identities of the processes that have an open segment, a lock or a journal in the folder."""
        identities = {segment.identity for segment in self.segments() if segment.is_open}
        with contextlib.suppress(OSError):
            names = (_PROCESS_FILE_NAME.fullmatch(name) for name in os.listdir(self.path))
            identities |= {name[1] for name in names if name}
        return identities

    def register(self, identity: str) -> FileLock:
        """Register a process as alive. Return the lock that it holds while it appends. Raises OSError and Timeout."""
        with self.locked(_LOCK_TIMEOUT_SECONDS):
            lock = lock_at(self.path_of(f"{identity}.alive"))
            lock.acquire(timeout=0)
        return lock

    def is_alive(self, identity: str) -> bool:
        lock = lock_at(self.path_of(f"{identity}.alive"))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        lock.release()
        return False

    def recover_dead_processes(self, close_flows: Callable[[str, str], bool], own_identities: Iterable[str]) -> int:
        """Seal the segments of dead processes and close their open flows. Return the number of these processes.

        ``close_flows`` is called with the identity of a process and the path of its journal. If it returns True, the
        journal is deleted. Raises OSError and Timeout.
        """
        candidates = self.identities() - set(own_identities)
        count = 0
        if candidates:
            with self.locked(0.1):
                for identity in candidates:
                    count += self._recover_process(identity, close_flows)
        return count

    def _recover_process(self, identity: str, close_flows: Callable[[str, str], bool]) -> bool:
        path, journal = self.path_of(f"{identity}.alive"), self.path_of(f"{identity}.flows")
        lock = lock_at(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            if os.path.exists(journal) and close_flows(identity, journal):
                os.unlink(journal)
            for segment in self.segments():
                if segment.is_open and segment.identity == identity:
                    os.rename(segment.path, self.path_of(f"{segment.stem}.spool"))
        finally:
            lock.release()
        with contextlib.suppress(OSError):
            os.unlink(path)
        return True

    def last_write_time(self, identity: str) -> int:
        """Return the time of the last write of a process, in nanoseconds since the epoch."""
        paths = [segment.path for segment in self.segments() if segment.identity == identity]
        times = [0]
        for path in (*paths, self.path_of(f"{identity}.flows")):
            with contextlib.suppress(OSError):
                times.append(os.stat(path).st_mtime_ns)
        return max(times)

    # --- losses -------------------------------------------------------------------------------------------------

    def note_loss(self, owner: str, by: str, reason: str, spans: int, removed: str | None = None) -> None:
        """Append a loss to the folder's log, for the owner's account and ``otelflow spool status``.

        ``owner`` is the process that wrote the spans, and ``by`` the one that notes the loss. ``removed`` is the stem
        of a segment that is deleted with the loss; it is logged even if no spans are lost. If the log cannot be
        written, the loss is not noted.
        """
        path = self.path_of("losses.jsonl")
        fields = {"time": time.time(), "owner": owner, "by": by, "reason": reason, "spans": spans}
        line = json.dumps(fields if removed is None else {**fields, "removed": removed})
        with contextlib.suppress(OSError):
            if os.path.exists(path) and os.stat(path).st_size > _MAX_LOSSES_BYTES:
                os.replace(path, f"{path}.1")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def losses_version(self) -> tuple[int, int] | None:
        """Return a value that changes when a loss is noted."""
        try:
            status = os.stat(self.path_of("losses.jsonl"))
        except OSError:
            return None
        return status.st_ino, status.st_size

    def losses(self) -> Iterator[dict[str, Any]]:
        """Yield the noted losses, the oldest first."""
        for path in (self.path_of("losses.jsonl.1"), self.path_of("losses.jsonl")):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    lines = file.readlines()
            except OSError:
                continue
            for line in lines:
                with contextlib.suppress(ValueError):
                    loss = json.loads(line)
                    if isinstance(loss, dict) and isinstance(loss.get("spans"), int):
                        yield loss
