"""Store artifacts that are too large for a span, whole, at the place that ``OTELFLOW_ARTIFACT_STORE`` names.

The store keeps the object as it was when it was added. The caller's thread serializes it as JSON at once, within limits
of bytes and time. (To copy it and serialize it later costs the caller more: for the same 10 MB, ``copy.deepcopy`` takes
2.5 times as long.) The SHA-256 of the bytes is the file's name, so the event can contain the URI at once. Computing it
takes a fortieth of that time and lets other threads run. One background thread does all that may wait for a disk or a
network.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  # see _at_exit
import hashlib
import threading
import time
from collections import OrderedDict, deque
from typing import NamedTuple

from opentelemetry.context import attach, set_value

from otelflow._artifacts.json_writer import OutOfBounds, whole_json
from otelflow._artifacts.storage import Storage, StorageUnavailable, public_url, storage_for
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
    whole_number_from_environment,
)
from otelflow.context import SUPPRESS_KEY

__all__ = ["StoredArtifact", "drain", "not_stored", "store_artifact"]

_LOAD_SECONDS = 10.0
"""Seconds that the end of the process waits for a file system's library to load.

s3fs and its dependencies take seconds on a slow machine; no server has a part in that."""

_MAX_PATHS = 4096
"""Number of the newest paths that are remembered; their files are not stored again."""


class StoredArtifact(NamedTuple):
    """What an event records of the whole artifact: URI (None if it is not stored), size in bytes, SHA-256 in hex."""

    uri: str | None
    size: int
    sha256: str


class Store:
    """A store of files named by the digest of their content.

    ``max_bytes`` is the limit for one artifact; four times as many bytes may wait in memory. ``seconds`` is the time
    limit for serializing one.
    """

    def __init__(self, url: str, max_bytes: int, seconds: float) -> None:
        self._url, self._public_url = url, public_url(url)
        self._max_bytes, self._seconds = max_bytes, seconds
        self._reset()
        renew_in_child(self._reset)

    def _reset(self) -> None:
        """Start with an empty queue. Also called in a forked child: the parent stores its own queue, and the child has
        no thread."""
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        """Bytes of the artifacts that wait or are being stored."""
        self._is_busy = False
        self._stored_count = 0
        self._recent_paths: OrderedDict[str, None] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._storage: Storage | None = None
        self._is_off = self._is_open = False

    # --- called by the program's threads ------------------------------------------------------------------------

    def add(self, data: object) -> StoredArtifact | None:
        """Queue an artifact to be stored. Never raises, and never waits for the storage.

        Returns None if its size and digest are unknown.
        """
        if self._is_off:
            counts.add(ARTIFACT_NOT_STORED)
            return None
        try:
            body, suffix = self._serialize(data)
        except OutOfBounds:
            counts.add(ARTIFACT_TOO_LARGE)
            return None
        except Exception as error:  # the user's object may raise anything
            counts.add(ARTIFACT_NOT_STORED)
            log_once(
                f"artifact {type(error).__name__}",
                "An artifact could not be serialized as JSON, and is not stored. Its span keeps a preview.",
                exc_info=True,
            )
            return None
        digest = hashlib.sha256(body).hexdigest()
        path = f"{digest[:2]}/{digest[2:4]}/{digest}{suffix}"
        is_queued = self._enqueue(path, body)
        return StoredArtifact(f"{self._public_url}/{path}" if is_queued else None, len(body), digest)

    def _serialize(self, data: object) -> tuple[bytes, str]:
        """Return the bytes of an artifact and its file's suffix: text and bytes unchanged, everything else as JSON."""
        if isinstance(data, str | bytes | bytearray | memoryview):
            if (data.nbytes if isinstance(data, memoryview) else len(data)) > self._max_bytes:
                raise OutOfBounds
            if not isinstance(data, str):
                return bytes(data), ".bin"
            body = self._scrub(str.encode(data, "utf-8", "backslashreplace"))
            if len(body) > self._max_bytes:
                raise OutOfBounds
            return body, ".txt"
        return self._scrub(whole_json(data, self._max_bytes, self._seconds)), ".json"

    def _scrub(self, body: bytes) -> bytes:
        """Remove secrets from a text. Bytes are stored unchanged."""
        deadline = time.monotonic() + self._seconds
        parts = []
        for part in scrub_in_parts(body.decode()):
            parts.append(part.encode())
            if time.monotonic() > deadline:
                raise OutOfBounds
        return b"".join(parts)

    def _enqueue(self, path: str, body: bytes) -> bool:
        with self._changed:
            if self._is_off:
                return False
            if path in self._recent_paths:
                return True
            if self._waiting_bytes + len(body) > 4 * self._max_bytes:
                counts.add(ARTIFACT_STORE_FULL)
                return False
            if self._thread is None and not self._start_thread():
                return False
            self._remember(path)
            self._waiting_bytes += len(body)
            self._queue.append((path, body))
            self._changed.notify()
        return True

    def _start_thread(self) -> bool:
        try:
            self._storage = storage_for(self._url)
            self._thread = threading.Thread(target=self._run, name="otelflow-artifacts", daemon=True)
            self._thread.start()
        except (StorageUnavailable, RuntimeError) as error:  # RuntimeError: an ending interpreter starts no threads
            self._switch_off(str(error))
            return False
        return True

    def _remember(self, path: str) -> None:
        self._recent_paths[path] = None
        if len(self._recent_paths) > _MAX_PATHS:
            self._recent_paths.popitem(last=False)

    def _switch_off(self, reason: str) -> None:
        self._is_off = True
        log_once(
            "artifact store",
            "Artifacts are not stored in %s: %s. Spans keep their previews.",
            self._public_url,
            reason,
        )
        counts.add(ARTIFACT_NOT_STORED, max(1, len(self._queue) + self._is_busy))
        self._queue.clear()
        self._waiting_bytes = 0

    # --- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        attach(set_value(SUPPRESS_KEY, True))  # an instrumented HTTP client must not create spans for these requests
        self._open_storage()
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                path, body = self._queue.popleft()
                self._is_busy = True
            self._store(path, body)
            with self._changed:
                self._is_busy = False
                self._stored_count += 1
                self._waiting_bytes = max(0, self._waiting_bytes - len(body))

    def _open_storage(self) -> None:
        try:
            self._storage.open()  # type: ignore[union-attr]  # set before this thread starts
        except Exception as error:
            with self._changed:
                self._switch_off(str(error))
        self._is_open = True

    def _store(self, path: str, body: bytes) -> None:
        try:
            self._storage.put(path, body)  # type: ignore[union-attr]
        except Exception as error:
            with self._changed:
                self._recent_paths.pop(path, None)
            counts.add(ARTIFACT_NOT_STORED)
            log_once(
                f"artifact store {type(error).__name__}",
                "An artifact could not be stored in %s: %s. Further failures are counted in otelflow.stats(), not "
                "logged.",
                self._public_url,
                error,
            )

    @property
    def waiting(self) -> int:
        """Number of artifacts that wait or are being stored."""
        return len(self._queue) + self._is_busy

    # --- the end of the process ---------------------------------------------------------------------------------

    def drain(self, patience: float, timeout: float | None = None) -> bool:
        """Wait until all queued artifacts are stored. Return whether none is left.

        Gives up when none was stored for ``patience`` seconds, or after ``timeout`` seconds. While the file system's
        library loads, ``patience`` is at least ``_LOAD_SECONDS``.
        """
        now = time.monotonic()
        deadline = None if timeout is None else now + timeout
        patience_end = now + (patience if self._is_open else max(patience, _LOAD_SECONDS))
        progress = (self._stored_count, self._is_open)
        while self._waiting_bytes:  # without the lock: a signal handler may call this
            now = time.monotonic()
            if progress != (self._stored_count, self._is_open):
                progress, patience_end = (self._stored_count, self._is_open), now + patience
            if (
                now >= patience_end
                or (deadline is not None and now >= deadline)
                or self._thread is None
                or not self._thread.is_alive()
            ):
                return False
            time.sleep(0.01)
        return True

    def close(self, patience: float) -> None:
        """Drain the queue at the end of the process, and count the artifacts that are left."""
        if not self.drain(patience):
            with self._changed:
                self._switch_off(f"no answer for {patience:g} s")


_store: Store | None = None
_lock = FreshLock()


def _open(url: str) -> Store:
    global _store
    with _lock:
        if _store is None:
            max_bytes = whole_number_from_environment(OTELFLOW_ARTIFACT_STORE_MAX_BYTES, 16 << 20, least=1)
            millis = number_from_environment(OTELFLOW_ARTIFACT_STORE_MILLIS, 1000, least=1)
            _store = Store(url, int(max_bytes), millis / 1000)
            # The store must close before the standard library's thread pools, which a file system may need to resolve
            # its host. Functions that are registered later are called earlier. _register_atexit is a private name:
            # without it the store registers with atexit.
            try:
                getattr(threading, "_register_atexit", atexit.register)(_at_exit)
            except RuntimeError:  # the interpreter is ending already
                atexit.register(_at_exit)
        return _store


def _at_exit() -> None:
    if _store is not None:
        _store.close(number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS))


def store_artifact(url: str, data: object) -> StoredArtifact | None:
    """Queue an artifact for the store at ``url``; see :meth:`Store.add`."""
    return (_store or _open(url)).add(data)


def not_stored() -> int:
    """Return the number of artifacts that are not stored: failed so far, or still waiting."""
    failed = counts.snapshot().get(ARTIFACT_NOT_STORED, 0)
    return failed if _store is None else failed + _store.waiting


def drain(timeout: float) -> bool:
    """Wait at most ``timeout`` seconds for the queued artifacts. Return whether none is left."""
    return _store is None or _store.drain(timeout, timeout)
