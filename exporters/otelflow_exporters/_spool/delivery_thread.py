"""The thread that delivers a folder's records to one endpoint, in order, and retries without a limit."""

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
from otelflow_exporters._settings import suppress_instrumentation
from otelflow_exporters._spool.delivery import deliver, new_sender
from otelflow_exporters._spool.destination import Destination
from otelflow_exporters._spool.folder import Folder, Segment, forget_lock, lock_at
from otelflow_exporters._spool.record_format import START, Damage

__all__ = ["DAMAGED", "EXPIRED", "Callbacks", "DeliveryThread"]

EXPIRED = "spool_expired"
"""Loss reason: the record was older than the maximum age."""

DAMAGED = "spool_damaged"
"""Loss reason: the bytes are not a record any more. Counts the spans in headers that could be read, at least one."""

_IDLE_INTERVAL_SECONDS = 2.0
"""Interval at which an idle thread looks for spans of other processes."""

_BUSY_INTERVAL_SECONDS = 0.1
"""Interval of the next try while another process sends."""

_MIN_WAIT_SECONDS, _MAX_WAIT_SECONDS = 0.05, 15.0
_MAX_SERVER_ERRORS = 4
"""Maximum number of retries after an internal error of the receiver."""

_MAX_BATCH_BYTES, _MAX_BATCH_SPANS = 1 << 20, 4096
"""Maximum size of the records that are sent in one request."""

_logger = logging.getLogger("otelflow")
_random = SystemRandom()  # the program's `random.seed()` must not make all its processes wait equally long


class _Batch(NamedTuple):
    segment: Segment
    end: int
    payload: bytes
    spans: int


class Callbacks(NamedTuple):
    """Functions that a delivery thread calls."""

    on_loss: Callable[[str, str, int], None]
    """Called with a segment's owner, the loss reason and the number of spans."""
    before_round: Callable[[], None]
    """Called before each round of sending."""
    on_change: Callable[[], None]
    """Called when the progress or the state of the thread has changed."""
    on_sent: Callable[[str, str, int, int, int], None]
    """Called after a response with the endpoint's key, a segment's stem, the begin and end of the bytes that were sent,
    and the number of spans in them."""
    remove_delivered: Callable[[], None]
    """Called when segments may be completely delivered."""


class DeliveryThread:
    """Delivers to ``destination``. The folder has a lock for each endpoint: one process at a time sends to it."""

    def __init__(self, folder: Folder, destination: Destination, max_age: int, callbacks: Callbacks) -> None:
        self.destination = destination
        self._folder, self._max_age, self._callbacks = folder, max_age, callbacks
        self._sender: Sender = new_sender(destination)
        self._is_endpoint_down = False
        self._reset()

    def _reset(self) -> None:
        self._lock = lock_at(self._folder.path_of(f"sender-{self.destination.key}.lock"))
        self._wake_up, self._retry_now = WakeUp(), WakeUp()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        """Held while the thread is started: a signal handler that interrupts this must not start a second one."""
        self.is_failing = False
        """The last request failed and will be retried."""
        self.is_delivering = False
        """A batch is in flight; its outcome is not reported yet."""
        self._failures = self._server_errors = 0
        self._request_started: float | None = None
        self._retry_at = 0.0
        self._has_retry_after = False

    def reset_after_fork(self) -> Any:
        """Reset the state in a forked child. Return the inherited objects.

        The caller must keep a reference to them: closing them would disturb the parent.
        """
        forget_lock(self._lock)
        inherited = self._sender, self._lock, self._thread
        self._sender = new_sender(self.destination)
        self._reset()
        return inherited

    def wake(self, now: bool = False) -> None:
        """Notify the thread that there are spans to send.

        With ``now`` somebody waits for them: retry at once, unless the endpoint has asked for more time.
        """
        if self._thread is None and not self._stopping and self._start_lock.acquire(blocking=False):
            try:
                self._start()
            finally:
                self._start_lock.release()
        if now:
            self._retry_now.set()
        self._wake_up.set()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="otelflow-spool", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is shutting down: the folder keeps the spans
                self._thread = None

    def stop(self, seconds: float) -> None:
        """Stop the thread. Wait at most ``seconds``; a thread that hangs in a request is abandoned."""
        self._stopping = True
        self.wake(now=True)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
            if not thread.is_alive():
                self._sender.close()

    # --- runs in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress_instrumentation():
            while not self._stopping:
                try:
                    is_lock_free = self._deliver_all()
                except Exception as error:  # the folder was removed, the disk is full, or there is a bug here
                    is_lock_free = True
                    self._on_failure(Response(Outcome.RETRY, repr(error)))
                self._callbacks.on_change()
                if self._stopping:
                    return
                if self._retry_at > time.monotonic():
                    self._back_off()
                elif not is_lock_free:
                    time.sleep(_BUSY_INTERVAL_SECONDS)
                else:
                    self._wake_up.wait(_IDLE_INTERVAL_SECONDS)

    def _back_off(self) -> None:
        while not self._stopping and (seconds := self._retry_at - time.monotonic()) > 0:
            is_woken = self._retry_now.wait(seconds)
            if is_woken and not self._has_retry_after:
                return

    def _deliver_all(self) -> bool:
        """Send all pending records. Return False if another process is sending them."""
        self._callbacks.before_round()
        if not self._folder.pending_segments([self.destination.key]):
            self._failures, self.is_failing = 0, False
            self._callbacks.remove_delivered()
            return True
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._failures, self.is_failing = 0, False  # the other process retries now
            return False
        try:
            progress = self._folder.progress(self.destination.key)
            for segment in self._folder.segments():
                for batch in self._batches(segment, progress.get(segment.stem, START)):
                    if not self._deliver_and_save(batch, progress):
                        return True
            self._callbacks.remove_delivered()
        finally:
            self._lock.release()
        return True

    def _deliver_and_save(self, batch: _Batch, progress: dict[str, int]) -> bool:
        """Deliver a batch and save the progress. Return whether to continue with the next one."""
        if self._stopping:
            return False
        stem, key = batch.segment.stem, self.destination.key
        self.is_delivering = True
        try:
            if not self._deliver(batch):
                return False
            self._callbacks.on_sent(key, stem, progress.get(stem, START), batch.end, batch.spans)
        finally:
            self.is_delivering = False
        progress[stem] = batch.end
        self._folder.save_progress(key, self.destination.display_url, progress)
        self._callbacks.on_change()
        return True

    def _batches(self, segment: Segment, offset: int) -> Iterator[_Batch]:
        """Yield the batches of a segment from ``offset`` on, each as large as the limits allow."""
        if segment.size <= offset:
            return
        oldest = time.time_ns() - self._max_age * 10**9 if self._max_age else 0
        payloads: list[bytes] = []
        end, spans, size = offset, 0, 0
        for part in segment.read(offset):
            if isinstance(part, Damage) and part.at_end and segment.is_open:
                break  # its process is still writing it
            reason = DAMAGED if isinstance(part, Damage) else EXPIRED if part.time < oldest else None
            length = 0 if isinstance(part, Damage) else len(part.payload)
            if payloads and (reason or size + length > _MAX_BATCH_BYTES or spans + part.spans > _MAX_BATCH_SPANS):
                yield _Batch(segment, end, b"".join(payloads), spans)
                payloads, spans, size = [], 0, 0
            end = part.end
            if reason is not None:  # the records before it are delivered first, so each loss is counted once
                self._callbacks.on_loss(segment.identity, reason, part.spans)
                yield _Batch(segment, end, b"", part.spans)
            elif not isinstance(part, Damage):
                payloads.append(part.payload)  # concatenated requests are one request, because its fields are repeated
                spans, size = spans + part.spans, size + length
        if payloads:
            yield _Batch(segment, end, b"".join(payloads), spans)

    def _deliver(self, batch: _Batch) -> bool:
        """Deliver a batch. Return whether it is settled: delivered, or counted as lost."""
        if not batch.payload:
            return True
        owner = batch.segment.identity

        def on_settled(number: int, reason: str | None, _: str) -> None:
            if reason is not None:
                self._callbacks.on_loss(owner, reason, number)

        return deliver(batch.payload, batch.spans, self._send, on_settled)

    def _send(self, part: Part) -> Response | None:
        """Send a part, and retry until it is settled. The whole batch is tried once: the next round reads it again."""
        while True:
            response = self._send_request(part.payload)
            if response.outcome not in (Outcome.RETRY, Outcome.UNSENDABLE):
                self._on_success()
                return response
            self._on_failure(response)
            # Retry a part here: otherwise a receiver that accepts one request at a time gets the first half forever.
            if part.is_whole or self._stopping:
                return None
            self._back_off()

    def _send_request(self, payload: bytes) -> Response:
        """Send one request and return the response.

        An internal error of the endpoint is retried a few times. After that it counts as a refusal.
        """
        self._request_started = time.monotonic()
        try:
            response = self._sender.send(payload)
        finally:
            self._request_started = None
        if response.outcome is not Outcome.SERVER_ERROR:
            return response
        self._server_errors += 1
        return response._replace(
            outcome=Outcome.RETRY if self._server_errors <= _MAX_SERVER_ERRORS else Outcome.REFUSED
        )

    def has_waited_for_response(self, seconds: float) -> bool:
        """Return whether the thread has waited for a response for at least so many seconds."""
        since = self._request_started
        return since is not None and time.monotonic() - since >= seconds

    def _on_failure(self, response: Response) -> None:
        self._failures += 1
        backoff = min(_MAX_WAIT_SECONDS, 0.25 * 2 ** min(self._failures, 10)) * _random.uniform(0.8, 1.2)
        self._has_retry_after = response.retry_after is not None
        self._retry_at = time.monotonic() + (
            backoff if response.retry_after is None else max(_MIN_WAIT_SECONDS, response.retry_after)
        )
        self.is_failing = True
        self._callbacks.on_change()
        if not self._is_endpoint_down:
            self._is_endpoint_down = True
            _logger.warning(
                "otelflow_spool cannot send to %s (%s). The spans stay in %s until it can.",
                self.destination.display_url,
                response.detail,
                self._folder.path,
            )

    def _on_success(self) -> None:
        self._failures, self.is_failing, self._retry_at = 0, False, 0.0
        self._server_errors = 0
        if self._is_endpoint_down:
            self._is_endpoint_down = False
            _logger.warning("otelflow_spool sends to %s again.", self.destination.display_url)
