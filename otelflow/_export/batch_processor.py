"""Batch processor: a bounded queue and one thread that export ended spans and log records, and count every item.

The SDK's BatchSpanProcessor ignores the time limit of a flush, reports success when all was lost, and drops from its
queue without a readable count (opentelemetry-python issues 4568, 4555). A correct report has to count every item, so
otelflow has a queue of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from opentelemetry.context import attach, detach, set_value

from otelflow._export.delivery import Delivery
from otelflow._export.loss_log import report_lost, report_waiting
from otelflow._export.queue import Queue
from otelflow._metrics.measurements import component_type, measures
from otelflow._otlp.exporter import requests
from otelflow._runtime.drop_counts import AFTER_SHUTDOWN, EXPORT_FAILED, NOT_ENCODED, QUEUE_FULL
from otelflow._runtime.exit_hooks import arm_watchdog
from otelflow._runtime.fork import renew_in_child
from otelflow._runtime.names import error_type
from otelflow._runtime.waiting import Progress, WakeUp, run_in_background, seconds_left
from otelflow.context import SUPPRESS_KEY

__all__ = ["BatchProcessor", "ExportStats"]

_SHUTDOWN_SECONDS = 2.0
"""Time limit of an exporter's own shutdown."""

_STORAGE_PATIENCE = 0.5
"""Seconds without progress at the end of the process, for an exporter that stores undelivered items."""

_FLUSH_PAUSE = 0.25
"""Limit in seconds of a pause between two tries during a flush."""

_ADAPTIVE_BATCH = 4096
"""Items of a batch if many wait and no limit is set: fewer requests for the same spans."""

_logger = logging.getLogger("otelflow")


class ExportStats(NamedTuple):
    """Numbers of one exporter's items since the start of the process, by result. ``pending`` items wait or are in
    flight; an exporter that stores items until they are delivered adds those in its storage."""

    produced: int
    delivered: int
    lost: dict[str, int]
    pending: int


class BatchProcessor:
    """Exports items (ended spans, log records) with one exporter, in batches, on a thread that starts with the first.

    ``queue_size`` and ``batch_size`` are numbers of items, ``queue_bytes`` the bytes of the large ones, ``delay`` the
    seconds an item may wait for others. ``batch_size`` None means 512; an exporter with ``send`` gets up to 4,096 if so
    many wait. ``put`` waits up to ``wait`` seconds for room. Then the oldest item moves to ``overflow``,
    or is lost if that is None.

    An exporter with ``requests`` and ``send`` (see :class:`otelflow._export.delivery.Exporter`) gets retries while its
    receiver is down. An exporter with ``account`` stores items and delivers them later; if it has
    ``export_encoded(body, number)``, it gets OTLP requests instead of spans.
    """

    def __init__(
        self,
        exporter: Any,
        name: str,
        *,
        queue_size: int = 50_000,
        queue_bytes: int = 256_000_000,
        batch_size: int | None = None,
        delay: float = 5.0,
        wait: float = 0.0,
        overflow: BatchProcessor | None = None,
    ) -> None:
        self.name = name
        self.kind = component_type(exporter)
        self.exporter = exporter
        self._exporter_sends = hasattr(exporter, "requests") and hasattr(exporter, "send")
        self._exporter_stores = hasattr(exporter, "account")
        self._batch_size = min(batch_size or 512, queue_size)
        is_adaptive = batch_size is None and self._exporter_sends
        self._max_batch_size = min(_ADAPTIVE_BATCH, queue_size) if is_adaptive else self._batch_size
        self._delay, self._wait, self._overflow = delay, wait, overflow
        self._queue = Queue(queue_size, queue_bytes, self._on_threshold)
        self.put = self._queue.put
        self._reset()
        renew_in_child(self._reset)

    def _reset(self) -> None:
        """Start empty. Also called in a forked child: the parent sends its waiting items, and the thread is gone."""
        self._queue.reset()
        self._wake_up = WakeUp()
        self._delivered = self._overflowed = 0
        self._lost: dict[str, int] = {}
        self._flush_callers: set[object] = set()
        """Callers that wait for an empty queue. None stands for start_flush(), which does not wait."""
        self._progress = Progress(self._finished_count)
        self._stopping = self._exporter_is_shut_down = self._is_starting = False
        self._thread: threading.Thread | None = None

    # --- calls on the program's threads -------------------------------------------------------------------------

    def _on_threshold(self) -> None:
        """Start or wake the thread, or make room. ``put`` calls this, maybe in a signal handler."""
        queue = self._queue
        if self._stopping:
            self._drop(len(queue), AFTER_SHUTDOWN)
            return
        if self._thread is None:
            self._start_thread()
        if queue.is_over_limit:
            self._make_room()
        elif self._thread is not None:  # otherwise the next item tries again to start it
            self._set_threshold(queue.max_items + 1)  # the thread lowers it when it waits again
        self._wake_up.set()

    def _start_thread(self) -> None:
        with self._queue.lock:
            if self._thread is not None or self._is_starting:  # a signal handler may run while it starts
                return
            thread = threading.Thread(target=self._run, name=f"otelflow-export-{self.name}", daemon=True)
            self._is_starting = True
            try:
                thread.start()
            except RuntimeError:  # too many threads; at the interpreter's end, stop() sends the items
                return
            finally:
                self._is_starting = False
                if thread.ident is not None:  # also after a KeyboardInterrupt in start()
                    self._thread = thread
                    arm_watchdog()

    def _make_room(self) -> None:
        queue = self._queue
        if self._wait and threading.current_thread() is not self._thread:
            end = time.monotonic() + self._wait
            while queue.is_over_limit and (seconds := end - time.monotonic()) > 0:
                self._wake_up.set()
                queue.room.wait(min(seconds, 0.05))  # room.set() wakes one of several: look again
        while queue.is_over_limit and self._overflow is None:
            self._drop(1, QUEUE_FULL)
        while queue.is_over_limit and self._overflow is not None:
            for item in queue.pop_oldest(1):
                self._overflowed += 1
                self._overflow.put(item)

    def _drop(self, number: int, reason: str) -> None:
        """Drop the oldest items. The lock makes every report count them either as waiting or as lost."""
        with self._queue.lock:
            dropped = len(self._queue.pop_oldest(number))
            self._count_loss(reason, dropped)
        self._log_loss(reason, dropped)

    def _record_loss(self, reason: str, number: int = 1, detail: str = "") -> None:
        with self._queue.lock:
            self._count_loss(reason, number)
        self._log_loss(reason, number, detail)

    def _count_loss(self, reason: str, number: int) -> None:
        if number:
            self._lost.setdefault(reason, 0)
            self._lost[reason] += number  # no call between read and write: a signal handler could run there

    def _log_loss(self, reason: str, number: int, detail: str = "") -> None:
        if number:
            report_lost(self.name, self.exporter, reason, number, detail)

    def start_flush(self) -> None:
        """Start sending the waiting items now; return without waiting."""
        self._flush_callers.add(None)
        self._wake_up.set()

    # --- the export thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        token = attach(set_value(SUPPRESS_KEY, True))  # spans of the exporter's requests would cause further requests
        try:
            while batch := self._next_batch():
                self._export(batch)
                del batch  # an idle thread would hold thousands of spans
        finally:
            detach(token)
        self._shut_exporter_down()

    def _next_batch(self) -> list[Any]:
        """Wait for the next batch: until there are enough items, the oldest has waited long enough, or a flush starts.
        Return an empty list when this processor stops and no items are left."""
        queue, deadline = self._queue, None
        while not self._stopping:
            number = len(queue)
            if number and (self._flush_callers or number >= self._batch_size):
                break
            if not number:
                self._flush_callers.discard(None)
                self._set_threshold(1)
                deadline = None
                if not len(queue):  # an item may have come before the threshold was set
                    self._wake_up.wait()
                continue
            deadline = deadline or time.monotonic() + self._delay
            if (seconds := deadline - time.monotonic()) <= 0:
                break
            self._set_threshold(self._batch_size)
            if len(queue) < self._batch_size:
                self._wake_up.wait(seconds)
        self._set_threshold(queue.max_items + 1)
        return queue.take(self._max_batch_size)

    def _set_threshold(self, number: int) -> None:
        """Set the queue length at which ``put`` calls :meth:`_on_threshold`. While stopping, every put does."""
        self._queue.threshold = number
        if self._stopping:  # checked last: stop() may have set 0 just before the line above
            self._queue.threshold = 0

    def _export(self, batch: list[Any]) -> None:
        reason, detail = NOT_ENCODED, ""
        try:
            if not (self._send_batch(batch) if self._exporter_sends else self._export_batch(batch)):
                return  # this processor stops: the items in flight stay pending
        except BaseException as raised:  # a SystemExit of an exporter must not end the thread
            _logger.warning("The exporter %s could not send a batch.", self.name, exc_info=True)
            reason, detail = EXPORT_FAILED, error_type(raised)
        if self._queue.in_flight:
            self._record_result(self._queue.in_flight, reason, detail)

    def _export_batch(self, batch: list[Any]) -> bool:
        for number, export in self._export_calls(batch):
            start, error = time.perf_counter(), None
            try:
                if export().name != "SUCCESS":  # SpanExportResult, LogRecordExportResult, ...
                    error = EXPORT_FAILED
            except BaseException as raised:  # as in _export(); the rest of the batch is still exported
                _logger.warning("The exporter %s raised; %d items are lost.", self.name, number, exc_info=True)
                error = error_type(raised)
            self._measure_request(time.perf_counter() - start, error)
            is_counted = self._exporter_stores and error == EXPORT_FAILED  # the exporter counts it, with a reason
            self._record_result(number, None if error is None or is_counted else EXPORT_FAILED, error or "")
        return True

    def _export_calls(self, batch: list[Any]) -> Iterator[tuple[int, Callable[[], Any]]]:
        """Yield the calls that export a batch, each with its number of items."""
        if not hasattr(self.exporter, "export_encoded"):
            yield len(batch), partial(self.exporter.export, batch)
            return
        for body, spans in requests(batch):
            yield len(spans), partial(self.exporter.export_encoded, body, len(spans))

    def _send_batch(self, batch: list[Any]) -> bool:
        return Delivery(
            self.exporter,
            pause=self._pause,
            on_result=self._record_result,
            on_response=self._measure_request,
            on_wait=lambda why: report_waiting(self.name, self.exporter, len(self._queue) + self._queue.in_flight, why),
        ).deliver(batch)

    def _record_result(self, number: int, reason: str | None, detail: str) -> None:
        with self._queue.lock:
            self._queue.in_flight -= number
            if reason is None:
                self._delivered += number
        if reason is not None:
            self._record_loss(reason, number, detail)
        self._progress.notify()

    def _measure_request(self, seconds: float, error: str | None) -> None:
        if measures.on:
            measures.note_export(self.name, self.kind, seconds, error)

    def _pause(self, seconds: float, is_minimum: bool) -> bool:
        start = time.monotonic()
        self._flush_callers.discard(None)  # start_flush() asked for one try only; the callers that wait stay
        while not self._stopping:
            limit = seconds if is_minimum or not self._flush_callers else min(seconds, _FLUSH_PAUSE)
            rest = start + limit - time.monotonic()
            if rest <= 0:
                return True
            self._wake_up.wait(rest)
        return False

    def _shut_exporter_down(self) -> None:
        with self._queue.lock:
            if self._exporter_is_shut_down:
                return
            self._exporter_is_shut_down = True
        self._progress.give_up()
        try:
            self.exporter.shutdown()
        except Exception:
            _logger.warning("The exporter %s raised when it was shut down.", self.name, exc_info=True)

    # --- waiting ------------------------------------------------------------------------------------------------

    def stats(self) -> ExportStats:
        """Return the numbers of items so far, by result."""
        with self._queue.lock:
            delivered, lost, pending = self._delivered, dict(self._lost), self._queue.in_flight + len(self._queue)
            produced = self._finished_count() + pending
        others = [self.exporter.account()] if self._exporter_stores else []
        if self._exporter_stores:
            delivered = others[0].delivered
        if self._overflow is not None:
            others.append(self._overflow.stats())
            delivered += others[-1].delivered
        for other in others:
            pending += other.pending
            for reason, number in other.lost.items():
                lost[reason] = lost.get(reason, 0) + number
        return ExportStats(produced, delivered, lost, pending)

    def _finished_count(self) -> int:
        return self._delivered + sum(self._lost.values()) + self._overflowed

    def drain(self, timeout: float | None, patience: float | None = None, since: float | None = None) -> bool:
        """Wait until every item so far is delivered or lost. Return whether that is so.

        Waits up to ``timeout`` seconds; with ``patience``, also only that many seconds without progress, counted from
        ``since`` (of :func:`time.monotonic`). A signal handler may call this: it never waits for a lock that its own
        thread holds.
        """
        if threading.current_thread() is self._thread:
            return False
        end = None if timeout is None else time.monotonic() + timeout
        goal = self._finished_count() + self._queue.in_flight + len(self._queue)
        caller = object()
        self._flush_callers.add(caller)
        if goal > self._finished_count():
            self._start_thread()  # starting it may have failed when the items came
        self._wake_up.set()
        try:
            with self._queue.lock_released():
                is_drained = self._progress.wait_for(goal, end, patience, since) and self._flush_storage(end, patience)
        finally:
            self._flush_callers.discard(caller)
        if self._overflow is not None:
            return self._overflow.drain(seconds_left(end), patience, since) and is_drained
        return is_drained

    def _flush_storage(self, end: float | None, patience: float | None) -> bool:
        """Wait until a storing exporter has delivered all items. Return whether that is so; limits as in drain()."""
        if not self._exporter_stores:
            return True
        while True:
            before = self.exporter.account()
            if self._exporter_is_shut_down:  # it was shut down and sends nothing
                return not before.pending
            limits = [seconds_left(end), None if patience is None else min(patience, _STORAGE_PATIENCE)]
            seconds = min((limit for limit in limits if limit is not None), default=30.0)
            if self.exporter.force_flush(int(seconds * 1000)):
                return True
            after = self.exporter.account()
            progressed = (after.delivered, after.pending) != (before.delivered, before.pending)
            if (end is not None and end <= time.monotonic()) or (patience is not None and not progressed):
                return False

    def stop(self, timeout: float | None, patience: float | None = None, since: float | None = None) -> None:
        """Drain within ``timeout`` and ``patience`` (see drain()), then refuse items. A second call does nothing."""
        end = None if timeout is None else time.monotonic() + timeout
        if self._stopping:
            return
        if len(self._queue):
            self._start_thread()
            if self._thread is None:  # the interpreter is ending and starts no more threads
                self._stopping = True
                self._run()
        self.drain(timeout, patience, since)
        self._stopping = True
        self._set_threshold(0)
        self._drop(len(self._queue), AFTER_SHUTDOWN)
        self._wake_up.set()
        with self._queue.lock_released():
            self._join_thread(end, patience, since)
        if self._overflow is not None:
            self._overflow.stop(seconds_left(end), patience, since)

    def patience_left(self, patience: float, since: float) -> float:
        """Return what is left of ``patience`` seconds since the last progress or ``since``; at least a quarter."""
        return max(patience / 4, seconds_left(self._progress.last_advance(since) + patience) or 0.0)

    def _join_thread(self, end: float | None, patience: float | None, since: float | None) -> None:
        # An idle thread shuts its exporter down by itself. During a request, the shutdown has to come from here, on a
        # background thread: it may take any time, and must not block the caller.
        seconds = _SHUTDOWN_SECONDS if end is None else max(0.0, end - time.monotonic())
        if patience is not None:
            seconds = min(seconds, self.patience_left(patience, since or time.monotonic()))
        limit = time.monotonic() + min(seconds, _SHUTDOWN_SECONDS)
        if self._thread is not None:
            self._thread.join(min(0.1, seconds))
        if not self._exporter_is_shut_down:
            run_in_background(self._shut_exporter_down, limit)
        elif self._thread is not None:
            self._thread.join(max(0.0, limit - time.monotonic()))
