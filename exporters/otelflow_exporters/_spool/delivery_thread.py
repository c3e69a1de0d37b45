"""The thread that brings a folder's records to one endpoint, in order, for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from random import SystemRandom
from typing import Any, NamedTuple

from filelock import Timeout

from otelflow._otlp.partition import Part
from otelflow._otlp.response import Outcome, Response, Sender
from otelflow._runtime.waiting import WakeUp
from otelflow_exporters._settings import suppressed
from otelflow_exporters._spool.delivery import deliver, new_sender
from otelflow_exporters._spool.destination import Destination
from otelflow_exporters._spool.folder import Folder, Segment, forget_lock, lock_at
from otelflow_exporters._spool.record_format import START, Damage

__all__ = ["DAMAGED", "EXPIRED", "DeliveryThread", "Reports"]

EXPIRED = "spool_expired"
"""The record was older than it may get."""

DAMAGED = "spool_damaged"
"""The bytes were no record any more; at least so many spans as could be read of it, or one."""

_IDLE_SECONDS = 2.0
"""How often a thread looks for what other processes have left, when its own has nothing new."""

_BUSY_SECONDS = 0.1
"""The same where another process sends at this moment."""

_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 15.0
_MOST_DOUBTS = 4
"""How often a request is sent again after an error within the receiver."""

_MOST_BYTES, _MOST_SPANS = 1 << 20, 4096
"""Of the records that are sent in one request."""

_logger = logging.getLogger("otelflow")
_random = SystemRandom()  # `random.seed()` of the program must not make all its processes wait alike


class _Batch(NamedTuple):
    segment: Segment
    end: int
    payload: bytes
    spans: int


class Reports(NamedTuple):
    """Whom a courier tells what."""

    lose: Callable[[str, str, int], None]
    """Owner, reason, spans."""
    before: Callable[[], None]
    """Before each look for something to send."""
    changed: Callable[[], None]
    sent: Callable[[str, str, int, int, int], None]
    """The endpoint's key, a segment's stem, from where to where the endpoint has answered for it, and the spans that
    are there."""
    sweep: Callable[[], None]
    """Something may be done with."""


class DeliveryThread:
    """Delivers to ``destination``. One process at a time does, which holds a lock of the folder for that endpoint."""

    def __init__(self, folder: Folder, destination: Destination, max_age: int, reports: Reports) -> None:
        self.destination = destination
        self._folder, self._max_age, self._tell = folder, max_age, reports
        self._sender: Sender = new_sender(destination)
        self._is_down = False
        self._begin()

    def _begin(self) -> None:
        self._lock = lock_at(self._folder.at(f"sender-{self.destination.key}.lock"))
        self._news, self._hurry = WakeUp(), WakeUp()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        """Held while the thread is made: a signal handler that comes in between must not make a second."""
        self.is_failing = False
        """The last request failed, and is to be repeated."""
        self.is_delivering = False
        """A batch is under way: what becomes of it will be told."""
        self._failures = self._doubts = 0
        self._asking_since: float | None = None
        self._not_before = 0.0
        self._is_asked_to_wait = False

    def abandon(self) -> Any:
        """Start anew in a forked child. What is returned must be kept: closing it would disturb the parent."""
        forget_lock(self._lock)
        left = self._sender, self._lock, self._thread
        self._sender = new_sender(self.destination)
        self._begin()
        return left

    def wake(self, hurry: bool = False) -> None:
        """There is something to send. ``hurry``: somebody waits for it, so try at once, unless the endpoint has asked
        for more time."""
        if self._thread is None and not self._stopping and self._starting.acquire(blocking=False):
            try:
                self._start()
            finally:
                self._starting.release()
        if hurry:
            self._hurry.set()
        self._news.set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="otelflow-spool", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending: the folder keeps it
                self._thread = None

    def stop(self, seconds: float) -> None:
        """End the thread; it is waited for so long, and if it hangs in a request, left."""
        self._stopping = True
        self.wake(hurry=True)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
            if not thread.is_alive():
                self._sender.close()

    # --- the thread's side --------------------------------------------------------------------------------------

    def _work(self) -> None:
        with suppressed():
            while not self._stopping:
                try:
                    is_free = self._round()
                except Exception as error:  # the folder was taken away, the disk is full, a bug of ours
                    is_free = True
                    self._failed(Response(Outcome.RETRY, repr(error)))
                self._tell.changed()
                if self._stopping:
                    return
                if self._not_before > time.monotonic():
                    self._back_off()
                elif not is_free:
                    time.sleep(_BUSY_SECONDS)
                else:
                    self._news.wait(_IDLE_SECONDS)

    def _back_off(self) -> None:
        while not self._stopping and (left := self._not_before - time.monotonic()) > 0:
            is_hurried = self._hurry.wait(left)
            if is_hurried and not self._is_asked_to_wait:
                return

    def _round(self) -> bool:
        """Send all that waits; False if another process is at it."""
        self._tell.before()
        if not self._folder.waiting([self.destination.key]):
            self._failures, self.is_failing = 0, False
            self._tell.sweep()
            return True
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._failures, self.is_failing = 0, False  # now it is another's to try
            return False
        try:
            progress = self._folder.progress(self.destination.key)
            for segment in self._folder.segments():
                for batch in self._batches(segment, progress.get(segment.stem, START)):
                    if not self._bring(batch, progress):
                        return True
            self._tell.sweep()
        finally:
            self._lock.release()
        return True

    def _bring(self, batch: _Batch, progress: dict[str, int]) -> bool:
        """Deliver it and note that; whether to go on."""
        if self._stopping:
            return False
        stem, key = batch.segment.stem, self.destination.key
        self.is_delivering = True
        try:
            if not self._deliver(batch):
                return False
            self._tell.sent(key, stem, progress.get(stem, START), batch.end, batch.spans)
        finally:
            self.is_delivering = False
        progress[stem] = batch.end
        self._folder.save_progress(key, self.destination.shown, progress)
        self._tell.changed()
        return True

    def _batches(self, segment: Segment, offset: int) -> Iterator[_Batch]:
        """What to send of it, as much at once as fits."""
        if segment.size <= offset:
            return
        oldest = time.time_ns() - self._max_age * 10**9 if self._max_age else 0
        payloads: list[bytes] = []
        end, spans, size = offset, 0, 0
        for part in segment.read(offset):
            if isinstance(part, Damage) and part.at_end and segment.is_open:
                break  # somebody is writing it
            reason = DAMAGED if isinstance(part, Damage) else EXPIRED if part.time < oldest else None
            more = 0 if isinstance(part, Damage) else len(part.payload)
            if payloads and (reason or size + more > _MOST_BYTES or spans + part.spans > _MOST_SPANS):
                yield _Batch(segment, end, b"".join(payloads), spans)
                payloads, spans, size = [], 0, 0
            end = part.end
            if reason is not None:  # all before it is delivered: so each loss is counted once
                self._tell.lose(segment.identity, reason, part.spans)
                yield _Batch(segment, end, b"", part.spans)
            elif not isinstance(part, Damage):
                payloads.append(part.payload)  # requests one after the other are one request: it has repeated fields
                spans, size = spans + part.spans, size + more
        if payloads:
            yield _Batch(segment, end, b"".join(payloads), spans)

    def _deliver(self, batch: _Batch) -> bool:
        """Whether it is dealt with: delivered, or lost and counted."""
        if not batch.payload:
            return True
        owner = batch.segment.identity

        def settled(number: int, reason: str | None, _: str) -> None:
            if reason is not None:
                self._tell.lose(owner, reason, number)

        return deliver(batch.payload, batch.spans, self._send, settled)

    def _send(self, part: Part) -> Response | None:
        """Send a part, again until it is settled; the whole batch once: it is read from the folder again."""
        while True:
            response = self._ask(part.payload)
            if response.outcome not in (Outcome.RETRY, Outcome.UNSENDABLE):
                self._worked()
                return response
            self._failed(response)
            # A receiver that takes one request at a time would be sent the first half for ever.
            if part.is_whole or self._stopping:
                return None
            self._back_off()

    def _ask(self, payload: bytes) -> Response:
        """What the endpoint says. An error of its own is to be retried a few times, and then a refusal."""
        self._asking_since = time.monotonic()
        try:
            response = self._sender.send(payload)
        finally:
            self._asking_since = None
        if response.outcome is not Outcome.SERVER_ERROR:
            return response
        self._doubts += 1
        return response._replace(outcome=Outcome.RETRY if self._doubts <= _MOST_DOUBTS else Outcome.REFUSED)

    def has_waited(self, seconds: float) -> bool:
        """Whether it has waited so long for an answer."""
        since = self._asking_since
        return since is not None and time.monotonic() - since >= seconds

    def _failed(self, response: Response) -> None:
        self._failures += 1
        backoff = min(_LONGEST_WAIT, 0.25 * 2 ** min(self._failures, 10)) * _random.uniform(0.8, 1.2)
        self._is_asked_to_wait = response.retry_after is not None
        self._not_before = time.monotonic() + (
            backoff if response.retry_after is None else max(_SHORTEST_WAIT, response.retry_after)
        )
        self.is_failing = True
        self._tell.changed()
        if not self._is_down:
            self._is_down = True
            _logger.warning(
                "otelflow_spool cannot send to %s (%s); spans are kept in %s until it can.",
                self.destination.shown,
                response.detail,
                self._folder.path,
            )

    def _worked(self) -> None:
        self._failures, self.is_failing, self._not_before = 0, False, 0.0
        self._doubts = 0
        if self._is_down:
            self._is_down = False
            _logger.warning("otelflow_spool sends to %s again.", self.destination.shown)
