"""Artifacts that are too large for a span, kept whole in a store that ``OTELFLOW_ARTIFACT_STORE`` names.

What is stored is what the object was when it was added: it is written as JSON at once, on the caller's thread, within
bounds of bytes and time. (To copy it and write it later costs the caller more: of the same 10 MB ``copy.deepcopy``
takes 2.5 times as long.) Its SHA-256, which takes a fortieth of that and lets other threads run, names the file: so the
event says at once where it will be. All that may wait for a disk or a network is done by one thread.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  # see _at_end
import hashlib
import threading
import time
from collections import OrderedDict, deque
from typing import NamedTuple

from opentelemetry.context import attach, set_value

from otelflow._artifacts.json_writer import OutOfBounds, whole_json
from otelflow._artifacts.storage import Missing, Place, place_of, shown
from otelflow._runtime.drop_counts import ARTIFACT_NOT_STORED, ARTIFACT_STORE_FULL, ARTIFACT_TOO_LARGE, counts
from otelflow._runtime.fork import FreshLock, renew_in_child
from otelflow._runtime.log_once import log_once
from otelflow._values.scrub import scrub_in_parts
from otelflow.config import (
    EXIT_SECONDS,
    OTELFLOW_ARTIFACT_STORE_MAX_BYTES,
    OTELFLOW_ARTIFACT_STORE_MILLIS,
    OTELFLOW_EXIT_SECONDS,
    number_from_environment,
)
from otelflow.context import SUPPRESS_KEY

__all__ = ["Stored", "drain", "keep", "not_stored"]

_LOAD_SECONDS = 10.0
"""How long the end of the process waits for a file system's library to be loaded: s3fs and what it needs take seconds
on a slow machine, of which none depends on a server."""

_KNOWN = 4096
"""How many of the newest are known to be stored, and not stored again."""


class Stored(NamedTuple):
    """What an event says of the whole of an artifact: ``uri`` is None where it is not stored."""

    uri: str | None
    size: int
    sha256: str


class Store:
    """Files named by their content, in one place. ``most_bytes`` is for one; four times that may wait in memory."""

    def __init__(self, url: str, most_bytes: int, seconds: float) -> None:
        self._url, self._shown = url, shown(url)
        self._most, self._seconds = most_bytes, seconds
        self._begin()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        """Start empty; also in a forked child, whose parent stores what was waiting, and whose thread is gone."""
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._waiting = 0
        """Bytes of what waits, and of what is being stored."""
        self._is_busy = False
        self._stored = 0
        self._known: OrderedDict[str, None] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._place: Place | None = None
        self._is_off = self._is_open = False

    # --- the program's side -------------------------------------------------------------------------------------

    def keep(self, data: object) -> Stored | None:
        """Take an artifact. Never raises, and never waits for the store. None where nothing is known of the whole."""
        if self._is_off:
            counts.add(ARTIFACT_NOT_STORED)
            return None
        try:
            body, ending = self._body(data)
        except OutOfBounds:
            counts.add(ARTIFACT_TOO_LARGE)
            return None
        except Exception as error:  # whatever looking at it does
            counts.add(ARTIFACT_NOT_STORED)
            log_once(f"artifact {type(error).__name__}", "An artifact could not be written as JSON.", exc_info=True)
            return None
        digest = hashlib.sha256(body).hexdigest()
        path = f"{digest[:2]}/{digest[2:4]}/{digest}{ending}"
        is_taken = self._put(path, body)
        return Stored(f"{self._shown}/{path}" if is_taken else None, len(body), digest)

    def _body(self, data: object) -> tuple[bytes, str]:
        """The bytes of an artifact, and how its file's name ends: text and bytes as they are, all else as JSON."""
        if isinstance(data, str | bytes | bytearray | memoryview):
            if (data.nbytes if isinstance(data, memoryview) else len(data)) > self._most:
                raise OutOfBounds
            if not isinstance(data, str):
                return bytes(data), ".bin"
            body = self._clean(str.encode(data, "utf-8", "backslashreplace"))
            if len(body) > self._most:
                raise OutOfBounds
            return body, ".txt"
        return self._clean(whole_json(data, self._most, self._seconds)), ".json"

    def _clean(self, body: bytes) -> bytes:
        """A text without secrets. Bytes are stored as they are."""
        end = time.monotonic() + self._seconds
        parts = []
        for part in scrub_in_parts(body.decode()):
            parts.append(part.encode())
            if time.monotonic() > end:
                raise OutOfBounds
        return b"".join(parts)

    def _put(self, path: str, body: bytes) -> bool:
        with self._changed:
            if self._is_off:
                return False
            if path in self._known:
                return True
            if self._waiting + len(body) > 4 * self._most:
                counts.add(ARTIFACT_STORE_FULL)
                return False
            if self._thread is None and not self._start():
                return False
            self._know(path)
            self._waiting += len(body)
            self._queue.append((path, body))
            self._changed.notify()
        return True

    def _start(self) -> bool:
        try:
            self._place = place_of(self._url)
            self._thread = threading.Thread(target=self._work, name="otelflow-artifacts", daemon=True)
            self._thread.start()
        except (Missing, RuntimeError) as error:  # the interpreter is ending, and starts no more threads
            self._switch_off(str(error))
            return False
        return True

    def _know(self, path: str) -> None:
        self._known[path] = None
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def _switch_off(self, why: str) -> None:
        self._is_off = True
        log_once("artifact store", "Artifacts are not stored in %s (%s); their previews stay.", self._shown, why)
        counts.add(ARTIFACT_NOT_STORED, max(1, len(self._queue) + self._is_busy))
        self._queue.clear()
        self._waiting = 0

    # --- the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        attach(set_value(SUPPRESS_KEY, True))  # an instrumented HTTP client must not make spans of this
        self._open_place()
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                path, body = self._queue.popleft()
                self._is_busy = True
            self._store(path, body)
            with self._changed:
                self._is_busy = False
                self._stored += 1
                self._waiting = max(0, self._waiting - len(body))

    def _open_place(self) -> None:
        try:
            self._place.open()  # type: ignore[union-attr]  # set before this thread is started
        except Exception as error:
            with self._changed:
                self._switch_off(str(error))
        self._is_open = True

    def _store(self, path: str, body: bytes) -> None:
        try:
            self._place.put(path, body)  # type: ignore[union-attr]
        except Exception as error:
            with self._changed:
                self._known.pop(path, None)
            counts.add(ARTIFACT_NOT_STORED)
            log_once(
                f"artifact store {type(error).__name__}",
                "An artifact could not be stored in %s: %s. Further failures are counted in otelflow.stats(), not "
                "logged.",
                self._shown,
                error,
            )

    @property
    def waiting(self) -> int:
        """How many wait, and are being stored."""
        return len(self._queue) + self._is_busy

    # --- the end ------------------------------------------------------------------------------------------------

    def drain(self, patience: float, timeout: float | None = None) -> bool:
        """Wait until all is stored; gives up when nothing was for ``patience`` seconds, or after ``timeout``. Returns
        whether all that was taken is out of the way. To load a file system is progress as well, for some seconds."""
        now = time.monotonic()
        end = None if timeout is None else now + timeout
        limit = now + (patience if self._is_open else max(patience, _LOAD_SECONDS))
        done = (self._stored, self._is_open)
        while self._waiting:  # without the lock: this may be a signal handler
            now = time.monotonic()
            if done != (self._stored, self._is_open):
                done, limit = (self._stored, self._is_open), now + patience
            if now >= limit or (end is not None and now >= end) or self._thread is None or not self._thread.is_alive():
                return False
            time.sleep(0.01)
        return True

    def close(self, patience: float) -> None:
        """At the end of the process: drain, and count what is left."""
        if not self.drain(patience):
            with self._changed:
                self._switch_off(f"it did not answer for {patience:g} s")


_store: Store | None = None
_lock = FreshLock()


def _open(url: str) -> Store:
    global _store
    with _lock:
        if _store is None:
            most = number_from_environment(OTELFLOW_ARTIFACT_STORE_MAX_BYTES, 16 << 20, least=1)
            millis = number_from_environment(OTELFLOW_ARTIFACT_STORE_MILLIS, 1000, least=1)
            _store = Store(url, int(most), millis / 1000)
            # Before the standard library's pools are closed, which a file system may need to find its host: what is
            # registered later is called earlier. A private name; else as all else at exit.
            try:
                getattr(threading, "_register_atexit", atexit.register)(_at_end)
            except RuntimeError:  # too late for it
                atexit.register(_at_end)
        return _store


def _at_end() -> None:
    if _store is not None:
        _store.close(number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS))


def keep(url: str, data: object) -> Stored | None:
    """Take an artifact for the store at ``url``."""
    return (_store or _open(url)).keep(data)


def not_stored() -> int:
    """Artifacts so far that the store has refused, or has not taken yet."""
    refused = counts.snapshot().get(ARTIFACT_NOT_STORED, 0)
    return refused if _store is None else refused + _store.waiting


def drain(timeout: float) -> bool:
    """Wait at most ``timeout`` seconds for what was taken. True where nothing waits any more."""
    return _store is None or _store.drain(timeout, timeout)
