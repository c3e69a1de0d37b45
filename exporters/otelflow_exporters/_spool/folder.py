"""A spool's folder: whose segments are in it, how far each endpoint has come, who is alive, what was lost."""

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

_NAME = re.compile(r"(\d{20})-(\d+\.[0-9a-f]{16})-([0-9a-f]{16})\.(open|spool)")
"""When it was begun (nanoseconds since the epoch), by whom, its marker; ``open`` while its process appends to it."""

_IDENTITY = re.compile(r"(\d+\.[0-9a-f]{16})\.(alive|flows)")

_PROGRESS = re.compile(r"sent-([0-9a-f]{12})\.json")

_FORGOTTEN_SECONDS = 86_400

_MOST_LOSSES_BYTES = 1_000_000
_PATIENCE_SECONDS = 5.0


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
        """Its name whether it is open or not."""
        return os.path.basename(self.path).partition(".spool")[0].partition(".open")[0]

    def read(self, offset: int = START) -> Iterator[Record | Damage]:
        """Its records from there on. Nothing where it is gone."""
        try:
            with open(self.path, "rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:
            return iter(())
        return scan(data, self.marker, offset)


def _segment_at(path: str) -> Segment | None:
    name = _NAME.fullmatch(os.path.basename(path))
    if name is None:
        return None
    created, identity, marker, state = name.groups()
    try:
        size = os.stat(path).st_size  # not a directory entry's: Windows does not keep that up to date
    except OSError:  # delivered a moment ago
        return None
    return Segment(int(created), identity, bytes.fromhex(marker), state == "open", path, size)


def lock_at(path: str) -> FileLock:
    """A lock on a file. It belongs to an open file, so it ends with the process that holds it."""
    return FileLock(path, mode=0o600, thread_local=False)


def forget_lock(lock: FileLock) -> None:
    """Let go, in a forked child, of a lock that the parent holds: releasing it would release the parent's."""
    state = getattr(lock, "_context", None)
    descriptor = getattr(state, "lock_file_fd", None)
    if state is not None and isinstance(descriptor, int):  # newer releases have closed it by themselves
        with contextlib.suppress(OSError):
            os.close(descriptor)
        state.lock_file_fd = None


@dataclass
class Folder:
    """The folder at ``path``. Safe for several processes; for several threads where it says so."""

    path: str

    def __post_init__(self) -> None:
        self._counted: dict[str, tuple[int, int, int]] = {}
        self._unsaved: dict[str, dict[str, int]] = {}

    def at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def make(self) -> None:
        """Make what is missing of it, for its owner only. Raises OSError."""
        folder, missing = self.path, []
        while not os.path.isdir(folder) and folder != os.path.dirname(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process is as far
                os.mkdir(folder, 0o700)

    @contextlib.contextmanager
    def kept(self, seconds: float) -> Iterator[None]:
        """Hold the lock under which processes come into the folder and are found dead. Raises Timeout and OSError."""
        with lock_at(self.at("folder.lock")).acquire(timeout=seconds, poll_interval=0.01):
            yield

    # --- segments -----------------------------------------------------------------------------------------------

    def segments(self) -> list[Segment]:
        """All segments, the oldest first."""
        found = []
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                segment = _segment_at(entry.path)
                if segment is not None:
                    found.append(segment)
        return sorted(found)

    def segment(self, stem: str) -> Segment | None:
        """That segment; None where it is gone."""
        for state in ("spool", "open", "spool"):  # looked for twice, for it may be renamed in between
            segment = _segment_at(self.at(f"{stem}.{state}"))
            if segment is not None:
                return segment
        return None

    def new_segment(self, identity: str, marker: bytes) -> str:
        """The path for a segment that begins now."""
        return self.at(f"{time.time_ns():020d}-{identity}-{marker.hex()}.open")

    def waiting(self, keys: Iterable[str]) -> list[tuple[Segment, int]]:
        """The segments that are not at every endpoint, each with the offset from which on it is not."""
        progress = [self.progress(key) for key in keys]
        waiting = []
        for segment in self.segments():
            offset = min((one.get(segment.stem, START) for one in progress), default=START)
            if segment.size > offset:
                waiting.append((segment, offset))
        return waiting

    def spans_in(self, segment: Segment, offset: int) -> int:
        """How many spans wait in it. Counted again only when it changes."""
        counted = self._counted.get(segment.stem)
        if counted is None or counted[:2] != (segment.size, offset):
            if len(self._counted) > 10_000:
                self._counted.clear()
            spans = sum(part.spans for part in segment.read(offset) if isinstance(part, Record))
            counted = self._counted[segment.stem] = segment.size, offset, spans
        return counted[2]

    def sweep(self, keys: Collection[str], own: str = "", finish: Callable[[Segment], None] | None = None) -> None:
        """Remove the segments that nobody appends to and that all endpoints have, and what is noted of endpoints that
        nobody has sent to for long.

        Those of other processes that are alive are left to them, which look before how far the endpoints have come; a
        segment of the process ``own`` is given to ``finish`` before it goes.
        """
        ended = [segment for segment in self.segments() if not segment.is_open]
        progress = [self.progress(key) for key in keys] if ended else []
        for segment in ended:
            is_own = segment.identity == own
            if not is_own and os.path.exists(self.at(f"{segment.identity}.alive")):
                continue
            if all(one.get(segment.stem, START) >= segment.size for one in progress):
                if is_own and finish is not None:
                    finish(segment)
                with contextlib.suppress(OSError):
                    os.unlink(segment.path)
        for key in set(self.keys()) - set(keys):
            with contextlib.suppress(OSError):
                if time.time() - os.stat(self.at(f"sent-{key}.json")).st_mtime > _FORGOTTEN_SECONDS:
                    os.unlink(self.at(f"sent-{key}.json"))

    # --- progress -----------------------------------------------------------------------------------------------

    def keys(self) -> list[str]:
        """The endpoints that something was sent to."""
        with contextlib.suppress(OSError):
            names = (_PROGRESS.fullmatch(name) for name in os.listdir(self.path))
            return sorted(name[1] for name in names if name)
        return []

    def endpoint_of(self, key: str) -> str:
        """What the endpoint is called."""
        return str(self._read_progress(key).get("endpoint", key))

    def _read_progress(self, key: str) -> dict[str, Any]:
        try:
            with open(self.at(f"sent-{key}.json"), encoding="utf-8") as file:
                read = json.load(file)
        except (OSError, ValueError):  # none yet, or damaged: it is all sent again
            return {}
        return read if isinstance(read, dict) else {}

    def progress(self, key: str) -> dict[str, int]:
        """By segment, up to where the endpoint has it."""
        sent = self._read_progress(key).get("sent")
        read = {stem: at for stem, at in sent.items() if isinstance(at, int)} if isinstance(sent, dict) else {}
        for stem, offset in self._unsaved.get(key, {}).items():
            read[stem] = max(offset, read.get(stem, 0))
        return read

    def save_progress(self, key: str, endpoint: str, progress: dict[str, int]) -> None:
        """Keep it, without the segments that are gone. Where the disk is full it is kept in memory: what is delivered
        makes room, and after a crash, it is sent again."""
        for stem in list(progress):
            if self.segment(stem) is None:
                del progress[stem]
        path = self.at(f"sent-{key}.json")
        written = f"{path}.{os.getpid()}"
        try:
            with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump({"endpoint": endpoint, "sent": progress}, file)
            os.replace(written, path)
            self._unsaved.pop(key, None)
        except OSError:
            self._unsaved[key] = dict(progress)
            with contextlib.suppress(OSError):
                os.unlink(written)

    # --- the living and the dead --------------------------------------------------------------------------------

    def identities(self) -> set[str]:
        """The processes that have left something in the folder that ends with them."""
        found = {segment.identity for segment in self.segments() if segment.is_open}
        with contextlib.suppress(OSError):
            names = (_IDENTITY.fullmatch(name) for name in os.listdir(self.path))
            found |= {name[1] for name in names if name}
        return found

    def enter(self, identity: str) -> FileLock:
        """Be alive: the lock to hold for as long as the process appends. Raises OSError and Timeout."""
        with self.kept(_PATIENCE_SECONDS):
            lock = lock_at(self.at(f"{identity}.alive"))
            lock.acquire(timeout=0)
        return lock

    def is_alive(self, identity: str) -> bool:
        lock = lock_at(self.at(f"{identity}.alive"))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            return True
        lock.release()
        return False

    def bury(self, close_flows: Callable[[str, str], bool], own: Iterable[str]) -> int:
        """Seal the segments of processes that are gone, and have their open flows closed; how many processes.

        ``close_flows`` gets identity and path of a journal, and says whether that may go. Raises OSError and Timeout.
        """
        suspects = self.identities() - set(own)
        buried = 0
        if suspects:
            with self.kept(0.1):
                for identity in suspects:
                    buried += self._bury_one(identity, close_flows)
        return buried

    def _bury_one(self, identity: str, close_flows: Callable[[str, str], bool]) -> bool:
        path, journal = self.at(f"{identity}.alive"), self.at(f"{identity}.flows")
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
                    os.rename(segment.path, self.at(f"{segment.stem}.spool"))
        finally:
            lock.release()
        with contextlib.suppress(OSError):
            os.unlink(path)
        return True

    def last_sign_of(self, identity: str) -> int:
        """When the process wrote something last, nanoseconds since the epoch."""
        paths = [segment.path for segment in self.segments() if segment.identity == identity]
        times = [0]
        for path in (*paths, self.at(f"{identity}.flows")):
            with contextlib.suppress(OSError):
                times.append(os.stat(path).st_mtime_ns)
        return max(times)

    # --- losses -------------------------------------------------------------------------------------------------

    def note_loss(self, owner: str, by: str, reason: str, spans: int, removed: str | None = None) -> None:
        """Write down a loss, for the owner's account and for whoever looks. ``removed``: the segment that goes with it;
        then also where it has no spans that wait. What cannot be written is not noted."""
        path = self.at("losses.jsonl")
        facts = {"time": time.time(), "owner": owner, "by": by, "reason": reason, "spans": spans}
        line = json.dumps(facts if removed is None else {**facts, "removed": removed})
        with contextlib.suppress(OSError):
            if os.path.exists(path) and os.stat(path).st_size > _MOST_LOSSES_BYTES:
                os.replace(path, f"{path}.1")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def state_of_losses(self) -> tuple[int, int] | None:
        """Something that is another one when a loss was noted."""
        try:
            found = os.stat(self.at("losses.jsonl"))
        except OSError:
            return None
        return found.st_ino, found.st_size

    def losses(self) -> Iterator[dict[str, Any]]:
        """What was noted, the oldest first."""
        for path in (self.at("losses.jsonl.1"), self.at("losses.jsonl")):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    lines = file.readlines()
            except OSError:
                continue
            for line in lines:
                with contextlib.suppress(ValueError):
                    read = json.loads(line)
                    if isinstance(read, dict) and isinstance(read.get("spans"), int):
                        yield read
