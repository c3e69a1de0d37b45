"""From ended span to exporter: a bounded queue and one thread, with an account of every item.

The SDK's BatchSpanProcessor ignores the time limit of a flush, reports success when all was lost, and drops from its
queue without a number that could be read (opentelemetry-python issues 4568, 4555). A report that tells the truth has
to know of each, so the queue is ours.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from opentelemetry.context import attach, detach, set_value

from otelflow._fork import after_fork_in_child
from otelflow._measures import measures
from otelflow._naming import error_type
from otelflow.context import SUPPRESS_KEY

__all__ = ["AFTER_SHUTDOWN", "EXPORT_FAILED", "QUEUE_FULL", "Account", "Pipeline", "run_beside"]

QUEUE_FULL = "queue_full"
"""The exporter was slower than the program; the oldest waiting item went."""

EXPORT_FAILED = "export_failed"
"""The exporter gave the batch up: refused, unreachable for too long, or it raised."""

AFTER_SHUTDOWN = "after_shutdown"
"""The item came after the pipeline was shut down, or still waited when its time was over."""

_SHUTDOWN_SECONDS = 2.0
"""How long an exporter's own shutdown is waited for where nothing else is said."""

_logger = logging.getLogger("otelflow")


_KINDS = {"http": "otlp_http_span_exporter", "grpc": "otlp_grpc_span_exporter"}


def _kind(exporter: Any) -> str:
    """``otel.component.type``: OpenTelemetry's word where it has one, else the class."""
    cls = type(exporter)
    known = [_KINDS.get(part) for part in cls.__module__.split(".")] if cls.__name__ == "OTLPSpanExporter" else []
    return next(filter(None, known), f"{cls.__module__}.{cls.__qualname__}")


class Account(NamedTuple):
    """What became of the items that one exporter was given since the start of the process."""

    produced: int
    delivered: int
    lost: dict[str, int]

    @property
    def pending(self) -> int:
        return self.produced - self.delivered - sum(self.lost.values())


class Pipeline:
    """Hands items (ended spans, log records) to one exporter, in batches, on one thread that starts with the first.

    ``queue_size`` and ``batch_size`` are numbers of items, ``delay`` the seconds that an item waits at most for others.
    """

    def __init__(
        self, exporter: Any, name: str, *, queue_size: int = 50_000, batch_size: int = 512, delay: float = 5.0
    ) -> None:
        self.name = name
        self.kind = _kind(exporter)
        self.exporter = exporter
        self._queue_size, self._batch_size, self._delay = queue_size, min(batch_size, queue_size), delay
        self._begin()
        alive = weakref.WeakMethod(self._begin)
        after_fork_in_child(lambda: (begin := alive()) and begin())

    def _begin(self) -> None:
        """Start empty; also in a forked child, whose parent sends what was waiting, and whose thread is gone."""
        self._changed = threading.Condition()
        self._queue: deque[Any] = deque()
        self._produced = self._delivered = 0
        self._lost: dict[str, int] = {}
        self._hurry = 0
        """Number of callers that wait for the queue to be emptied."""
        self._stopping = self._exporter_is_down = False
        self._thread: threading.Thread | None = None

    # --- the program's side -------------------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Take one item; returns at once."""
        with self._changed:
            self._produced += 1
            if self._stopping:
                self._lose(AFTER_SHUTDOWN)
                return
            queue = self._queue
            if len(queue) >= self._queue_size:
                queue.popleft()
                self._lose(QUEUE_FULL)
            queue.append(item)
            if self._thread is None:
                self._start_thread()
            elif len(queue) == self._batch_size:
                self._changed.notify_all()

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._work, name=f"otelflow-export-{self.name}", daemon=True)
        self._thread.start()

    def _lose(self, reason: str, number: int = 1) -> None:
        if number:
            self._lost[reason] = self._lost.get(reason, 0) + number

    # --- the thread's side --------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if not batch:
                break
            delivered = self._export(batch)
            with self._changed:
                if delivered:
                    self._delivered += len(batch)
                else:
                    self._lose(EXPORT_FAILED, len(batch))
                self._changed.notify_all()
        self._shut_exporter_down()

    def _next_batch(self) -> list[Any]:
        """The items to send next, once there are enough, the oldest has waited long enough, or someone hurries; an
        empty list when the pipeline stops and nothing is left."""
        queue = self._queue
        with self._changed:
            deadline = time.monotonic() + self._delay
            while not self._stopping:
                left = deadline - time.monotonic()
                if queue and (self._hurry or len(queue) >= self._batch_size or left <= 0):
                    break
                if not queue:
                    deadline, left = time.monotonic() + self._delay, None  # type: ignore[assignment]
                self._changed.wait(left if queue else self._delay)
            return [queue.popleft() for _ in range(min(len(queue), self._batch_size))]

    def _export(self, batch: list[Any]) -> bool:
        token = attach(set_value(SUPPRESS_KEY, True))  # spans of the exporter's own requests would never end
        began, error = time.perf_counter(), None
        try:
            if self.exporter.export(batch).name != "SUCCESS":  # SpanExportResult, LogRecordExportResult, ...
                error = EXPORT_FAILED
        except BaseException as raised:  # a SystemExit of the exporter's must not end the thread
            _logger.warning("The exporter %s raised; %d items are lost.", self.name, len(batch), exc_info=True)
            error = error_type(raised)
        finally:
            detach(token)
        if measures.on:
            measures.exported(self.name, self.kind, time.perf_counter() - began, error)
        return error is None

    def _shut_exporter_down(self) -> None:
        with self._changed:
            if self._exporter_is_down:
                return
            self._exporter_is_down = True
            self._changed.notify_all()
        try:
            self.exporter.shutdown()
        except Exception:
            _logger.warning("The exporter %s raised when it was shut down.", self.name, exc_info=True)

    # --- waiting ------------------------------------------------------------------------------------------------

    def account(self) -> Account:
        """What became of the items so far."""
        with self._changed:
            return Account(self._produced, self._delivered, dict(self._lost))

    def _settled(self) -> int:
        return self._delivered + sum(self._lost.values())

    def drain(self, timeout: float | None, patience: float | None = None) -> bool:
        """Wait until every item so far is delivered or lost; whether it came to that.

        At most ``timeout`` seconds; with ``patience``, also no longer than that many seconds without any progress.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            goal = self._produced
            self._hurry += 1
            self._changed.notify_all()
            try:
                while self._settled() < goal and not self._exporter_is_down:
                    before = self._settled()
                    limits = [patience, None if end is None else end - time.monotonic()]
                    wait = min((limit for limit in limits if limit is not None), default=None)
                    if wait is not None and wait <= 0:
                        break
                    self._changed.wait(wait)
                    if patience is not None and self._settled() == before:
                        break
                return self._settled() >= goal
            finally:
                self._hurry -= 1

    def stop(self, timeout: float | None, patience: float | None = None) -> None:
        """Drain within ``timeout`` and ``patience`` (see :meth:`drain`), then take no more. A second call is free."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            if self._stopping:
                return
        self.drain(timeout, patience)
        with self._changed:
            self._stopping = True
            self._lose(AFTER_SHUTDOWN, len(self._queue))
            self._queue.clear()
            self._changed.notify_all()
        # An idle thread shuts its exporter down by itself. One in the middle of its retries has to hear of it from
        # here, and not from the caller's thread: what an exporter does there may take as long as it likes.
        left = _SHUTDOWN_SECONDS if end is None else max(0.0, end - time.monotonic())
        limit = time.monotonic() + min(left, _SHUTDOWN_SECONDS if patience is None else patience)
        if self._thread is not None:
            self._thread.join(min(0.1, left))
        if not self._exporter_is_down:
            run_beside(self._shut_exporter_down, limit)
        elif self._thread is not None:
            self._thread.join(max(0.0, limit - time.monotonic()))


def run_beside(call: Callable[[], Any], limit: float) -> None:
    """Make a call on a thread beside, and wait for it until ``limit``, in seconds of :func:`time.monotonic`."""
    beside = threading.Thread(target=call, daemon=True)
    try:
        beside.start()
    except RuntimeError:  # the interpreter is ending and starts no more threads
        call()
        return
    beside.join(max(0.0, limit - time.monotonic()))
