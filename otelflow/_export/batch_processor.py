"""From ended span to exporter: a bounded queue and one thread, with an account of every item.

The SDK's BatchSpanProcessor ignores the time limit of a flush, reports success when all was lost, and drops from its
queue without a number that could be read (opentelemetry-python issues 4568, 4555). A report that tells the truth has
to know of each, so the queue is ours.
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
"""How long an exporter's own shutdown is waited for where nothing else is said."""

_KEPT_PATIENCE = 0.5
"""Seconds without progress at the end of the process for an exporter that keeps what it has not delivered."""

_HURRIED_PAUSE = 0.25
"""Seconds between two tries while somebody waits for a flush."""

_LARGEST_BATCH = 4096
"""Items of one batch where many wait and nobody set another limit: fewer requests for the same spans."""

_logger = logging.getLogger("otelflow")


class ExportStats(NamedTuple):
    """What became of the items that one exporter was given since the start of the process. ``pending`` are on their
    way; with an exporter that keeps them until they are delivered, all that it keeps."""

    produced: int
    delivered: int
    lost: dict[str, int]
    pending: int


class BatchProcessor:
    """Hands items (ended spans, log records) to one exporter, in batches, on one thread that starts with the first.

    ``queue_size`` and ``batch_size`` are numbers of items, ``queue_bytes`` the size of those that are large,
    ``delay`` the seconds that an item waits at most for others. ``batch_size`` None: 512, more where more wait and the
    exporter is ours. ``wait`` seconds are waited for room by who puts something into a full queue, before the oldest
    item goes; it goes to ``overflow``, where that is given, and is lost otherwise.

    An exporter may offer ``requests`` and ``send`` (see :class:`otelflow._export.delivery.Exporter`): then it is asked
    again while its receiver is away. One with ``account`` keeps what it is given, and delivers it later; it may offer
    ``export_encoded(body, number)``, to be given OTLP requests instead of spans.
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
        self._is_sender = hasattr(exporter, "requests") and hasattr(exporter, "send")
        self._keeps = hasattr(exporter, "account")
        self._batch_size = min(batch_size or 512, queue_size)
        is_adaptive = batch_size is None and self._is_sender
        self._largest_batch = min(_LARGEST_BATCH, queue_size) if is_adaptive else self._batch_size
        self._delay, self._wait, self._overflow = delay, wait, overflow
        self._queue = Queue(queue_size, queue_bytes, self._attend)
        self.put = self._queue.put
        self._begin()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        """Start empty; also in a forked child, whose parent sends what was waiting, and whose thread is gone."""
        self._queue.begin()
        self._bell = WakeUp()
        self._delivered = self._passed_on = 0
        self._lost: dict[str, int] = {}
        self._hurrying: set[object] = set()
        """Callers that wait for the queue to be emptied."""
        self._progress = Progress(self._settled)
        self._stopping = self._exporter_is_down = self._is_starting = False
        self._thread: threading.Thread | None = None

    # --- the program's side -------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Called by ``put`` where there is more to do than to append; it may be in a signal handler."""
        queue = self._queue
        if self._stopping:
            self._drop(len(queue), AFTER_SHUTDOWN)
            return
        if self._thread is None:
            self._start_thread()
        if queue.is_over:
            self._make_room()
        elif self._thread is not None:  # else the next item tries again to start it
            self._expect(queue.most + 1)  # the thread sets it anew when it waits again
        self._bell.set()

    def _start_thread(self) -> None:
        with self._queue.lock:
            if self._thread is not None or self._is_starting:  # a signal handler may come while it starts
                return
            thread = threading.Thread(target=self._work, name=f"otelflow-export-{self.name}", daemon=True)
            self._is_starting = True
            try:
                thread.start()
            except RuntimeError:  # no more threads now; at the interpreter's end stop() sends what waits
                return
            finally:
                self._is_starting = False
                if thread.ident is not None:  # also where a KeyboardInterrupt came in between
                    self._thread = thread
                    arm_watchdog()

    def _make_room(self) -> None:
        queue = self._queue
        if self._wait and threading.current_thread() is not self._thread:
            end = time.monotonic() + self._wait
            while queue.is_over and (left := end - time.monotonic()) > 0:
                self._bell.set()
                queue.room.wait(min(left, 0.05))  # a bell wakes one; several may wait
        while queue.is_over and self._overflow is None:
            self._drop(1, QUEUE_FULL)
        while queue.is_over and self._overflow is not None:
            for item in queue.drop(1):
                self._passed_on += 1
                self._overflow.put(item)

    def _drop(self, number: int, reason: str) -> None:
        """Lose the oldest items: one that is gone from the queue is counted before anyone looks."""
        with self._queue.lock:
            dropped = len(self._queue.drop(number))
            self._count_lost(reason, dropped)
        self._say_lost(reason, dropped)

    def _lose(self, reason: str, number: int = 1, what: str = "") -> None:
        with self._queue.lock:
            self._count_lost(reason, number)
        self._say_lost(reason, number, what)

    def _count_lost(self, reason: str, number: int) -> None:
        if number:
            self._lost.setdefault(reason, 0)
            self._lost[reason] += number  # no call in between, after which a signal handler might come

    def _say_lost(self, reason: str, number: int, what: str = "") -> None:
        if number:
            report_lost(self.name, self.exporter, reason, number, what)

    def hurry(self) -> None:
        """Have what is waiting sent now, without waiting for it."""
        self._hurrying.add(None)
        self._bell.set()

    # --- the thread's side --------------------------------------------------------------------------------------

    def _work(self) -> None:
        token = attach(set_value(SUPPRESS_KEY, True))  # spans of the exporter's own requests would never end
        try:
            while batch := self._next_batch():
                self._export(batch)
                del batch  # a thread at rest would hold thousands of spans
        finally:
            detach(token)
        self._shut_exporter_down()

    def _next_batch(self) -> list[Any]:
        """The items to send next, once there are enough, the oldest has waited long enough, or someone hurries; an
        empty list when the pipeline stops and nothing is left."""
        queue, deadline = self._queue, None
        while not self._stopping:
            waiting = len(queue)
            if waiting and (self._hurrying or waiting >= self._batch_size):
                break
            if not waiting:
                self._hurrying.discard(None)
                self._expect(1)
                deadline = None
                if not len(queue):  # one may have come before the threshold was there
                    self._bell.wait()
                continue
            deadline = deadline or time.monotonic() + self._delay
            if (seconds := deadline - time.monotonic()) <= 0:
                break
            self._expect(self._batch_size)
            if len(queue) < self._batch_size:
                self._bell.wait(seconds)
        self._expect(queue.most + 1)
        return queue.take(self._largest_batch)

    def _expect(self, number: int) -> None:
        """Have the program's side call :meth:`_attend` at so many items; at each one when the pipeline stops."""
        self._queue.threshold = number
        if self._stopping:  # looked at after: the thread must not open again what stop() closes meanwhile
            self._queue.threshold = 0

    def _export(self, batch: list[Any]) -> None:
        reason, what = NOT_ENCODED, ""
        try:
            if not (self._deliver(batch) if self._is_sender else self._hand_over(batch)):
                return  # the time is over: what is in hand is on its way for ever
        except BaseException as raised:  # a SystemExit of somebody's must not end the thread
            _logger.warning("Spans could not be sent by %s.", self.name, exc_info=True)
            reason, what = EXPORT_FAILED, error_type(raised)
        if self._queue.in_hand:
            self._settle(self._queue.in_hand, reason, what)

    def _hand_over(self, batch: list[Any]) -> bool:
        for number, export in self._exports(batch):
            began, error = time.perf_counter(), None
            try:
                if export().name != "SUCCESS":  # SpanExportResult, LogRecordExportResult, ...
                    error = EXPORT_FAILED
            except BaseException as raised:  # as above; what comes after it in this batch may be exported
                _logger.warning("The exporter %s raised; %d items are lost.", self.name, number, exc_info=True)
                error = error_type(raised)
            self._answered(time.perf_counter() - began, error)
            is_counted = self._keeps and error == EXPORT_FAILED  # by the exporter, with a reason
            self._settle(number, None if error is None or is_counted else EXPORT_FAILED, error or "")
        return True

    def _exports(self, batch: list[Any]) -> Iterator[tuple[int, Callable[[], Any]]]:
        """The calls that export a batch, each with its number of items."""
        if not hasattr(self.exporter, "export_encoded"):
            yield len(batch), partial(self.exporter.export, batch)
            return
        for body, spans in requests(batch):
            yield len(spans), partial(self.exporter.export_encoded, body, len(spans))

    def _deliver(self, batch: list[Any]) -> bool:
        return Delivery(
            self.exporter,
            pause=self._pause,
            settled=self._settle,
            answered=self._answered,
            waiting=lambda what: report_waiting(self.name, self.exporter, len(self._queue) + self._queue.in_hand, what),
        ).deliver(batch)

    def _settle(self, number: int, reason: str | None, what: str) -> None:
        with self._queue.lock:
            self._queue.in_hand -= number
            if reason is None:
                self._delivered += number
        if reason is not None:
            self._lose(reason, number, what)
        self._progress.advanced()

    def _answered(self, seconds: float, error: str | None) -> None:
        if measures.on:
            measures.exported(self.name, self.kind, seconds, error)

    def _pause(self, seconds: float, firmly: bool) -> bool:
        began = time.monotonic()
        self._hurrying.discard(None)  # it was tried at once; who waits for a flush stays in there
        while not self._stopping:
            limit = seconds if firmly or not self._hurrying else min(seconds, _HURRIED_PAUSE)
            left = began + limit - time.monotonic()
            if left <= 0:
                return True
            self._bell.wait(left)
        return False

    def _shut_exporter_down(self) -> None:
        with self._queue.lock:
            if self._exporter_is_down:
                return
            self._exporter_is_down = True
        self._progress.give_up()
        try:
            self.exporter.shutdown()
        except Exception:
            _logger.warning("The exporter %s raised when it was shut down.", self.name, exc_info=True)

    # --- waiting ------------------------------------------------------------------------------------------------

    def stats(self) -> ExportStats:
        """What became of the items so far."""
        with self._queue.lock:
            delivered, lost, pending = self._delivered, dict(self._lost), self._queue.in_hand + len(self._queue)
            produced = self._settled() + pending
        others = [self.exporter.account()] if self._keeps else []
        if self._keeps:
            delivered = others[0].delivered
        if self._overflow is not None:
            others.append(self._overflow.stats())
            delivered += others[-1].delivered
        for other in others:
            pending += other.pending
            for reason, number in other.lost.items():
                lost[reason] = lost.get(reason, 0) + number
        return ExportStats(produced, delivered, lost, pending)

    def _settled(self) -> int:
        return self._delivered + sum(self._lost.values()) + self._passed_on

    def drain(self, timeout: float | None, patience: float | None = None, since: float | None = None) -> bool:
        """Wait until every item so far is delivered or lost; whether it came to that.

        At most ``timeout`` seconds; with ``patience``, also no longer than that many seconds without any progress,
        counted from ``since`` (of :func:`time.monotonic`) on.
        Takes no lock for longer than it holds it, and may be called by a signal handler.
        """
        if threading.current_thread() is self._thread:
            return False
        end = None if timeout is None else time.monotonic() + timeout
        goal = self._settled() + self._queue.in_hand + len(self._queue)
        caller = object()
        self._hurrying.add(caller)
        if goal > self._settled():
            self._start_thread()  # where there was none to be had when they came
        self._bell.set()
        try:
            with self._queue.left_open():
                done = self._progress.wait_for(goal, end, patience, since) and self._backlog_is_sent(end, patience)
        finally:
            self._hurrying.discard(caller)
        if self._overflow is not None:
            return self._overflow.drain(seconds_left(end), patience, since) and done
        return done

    def _backlog_is_sent(self, end: float | None, patience: float | None) -> bool:
        """Whether an exporter that keeps what it is given has delivered all of it; waited for as in :meth:`drain`."""
        if not self._keeps:
            return True
        while True:
            before = self.exporter.account()
            if self._exporter_is_down:  # it sends nothing any more
                return not before.pending
            limits = [seconds_left(end), None if patience is None else min(patience, _KEPT_PATIENCE)]
            seconds = min((limit for limit in limits if limit is not None), default=30.0)
            if self.exporter.force_flush(int(seconds * 1000)):
                return True
            after = self.exporter.account()
            progressed = (after.delivered, after.pending) != (before.delivered, before.pending)
            if (end is not None and end <= time.monotonic()) or (patience is not None and not progressed):
                return False

    def stop(self, timeout: float | None, patience: float | None = None, since: float | None = None) -> None:
        """Drain within ``timeout`` and ``patience`` (see :meth:`drain`), then take no more. A second call is free."""
        end = None if timeout is None else time.monotonic() + timeout
        if self._stopping:
            return
        if len(self._queue):
            self._start_thread()
            if self._thread is None:  # the interpreter is ending, and starts no more threads
                self._stopping = True
                self._work()
        self.drain(timeout, patience, since)
        self._stopping = True
        self._expect(0)
        self._drop(len(self._queue), AFTER_SHUTDOWN)
        self._bell.set()
        with self._queue.left_open():
            self._end_thread(end, patience, since)
        if self._overflow is not None:
            self._overflow.stop(seconds_left(end), patience, since)

    def patience_left(self, patience: float, since: float) -> float:
        """What is left of ``patience`` seconds without progress, counted from ``since``; a quarter of it at least."""
        return max(patience / 4, seconds_left(self._progress.last(since) + patience) or 0.0)

    def _end_thread(self, end: float | None, patience: float | None, since: float | None) -> None:
        # An idle thread shuts its exporter down by itself. One in the middle of a request has to hear of it from here,
        # and not from the caller's thread: what an exporter does there may take as long as it likes.
        seconds = _SHUTDOWN_SECONDS if end is None else max(0.0, end - time.monotonic())
        if patience is not None:
            seconds = min(seconds, self.patience_left(patience, since or time.monotonic()))
        limit = time.monotonic() + min(seconds, _SHUTDOWN_SECONDS)
        if self._thread is not None:
            self._thread.join(min(0.1, seconds))
        if not self._exporter_is_down:
            run_in_background(self._shut_exporter_down, limit)
        elif self._thread is not None:
            self._thread.join(max(0.0, limit - time.monotonic()))
