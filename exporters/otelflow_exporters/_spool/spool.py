"""The spool of a process: append spans to the folder, deliver them, and count what becomes of them."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

from filelock import Timeout

from otelflow._otlp.partition import Part
from otelflow._otlp.response import Outcome, Response, Sender
from otelflow._runtime.drop_counts import TOO_LARGE
from otelflow_exporters._settings import Sync, suppress_instrumentation
from otelflow_exporters._spool.acknowledgements import Acknowledgements
from otelflow_exporters._spool.delivery import deliver, new_sender
from otelflow_exporters._spool.delivery_thread import DAMAGED, Callbacks, DeliveryThread
from otelflow_exporters._spool.destination import Destination
from otelflow_exporters._spool.folder import Folder, Segment
from otelflow_exporters._spool.open_flows import FlowJournal, encode_closed_flows
from otelflow_exporters._spool.segment_writer import RecordTooLarge, SegmentWriter, write_lock

__all__ = ["FULL", "REMOVED", "UNWRITABLE", "Settings", "Spool", "SpoolStats"]

FULL = "spool_full"
"""Loss reason: the folder had no room for the spans any more."""

REMOVED = "spool_removed"
"""Loss reason: somebody removed the folder or a file in it before the spans were delivered."""

UNWRITABLE = "spool_unwritable"
"""Loss reason: the folder could not be written, and the spans could not be sent directly either."""

_POLL_SECONDS = 0.02
"""Interval at which a flush checks whether the folder is empty: other processes may be sending its spans."""

_RECOVERY_INTERVAL_SECONDS = 2.0

_logger = logging.getLogger("otelflow")

_spools: weakref.WeakSet[Spool] = weakref.WeakSet()

_inherited_connections: list[Any] = []
"""References to the parent's connections in a forked child, so that they are not closed."""


@dataclass(frozen=True)
class Settings:
    """The settings of a spool: sizes in bytes, times in seconds."""

    folder: str
    max_bytes: int
    max_age: int
    sync: Sync
    exit_seconds: float


@dataclass
class SpoolStats:
    """Counts of the spans that this process exported, and of the spans in the folder."""

    delivered: int = 0
    """Spans that the backend has accepted; with several backends, those that all have accepted."""
    pending: int = 0
    """Spans of all processes that wait in the folder."""
    lost: dict[str, int] = field(default_factory=dict)
    """Lost spans by reason."""


class Spool:
    """The spool of a process in one folder.

    Only the constructor raises an error: ImportError if a library for sending is missing.
    """

    def __init__(self, settings: Settings, destinations: list[Destination]) -> None:
        self.settings = settings
        self.folder = Folder(settings.folder)
        self.keys = [destination.key for destination in destinations]
        self._destinations = destinations
        self._acknowledgements = Acknowledgements(self.folder, self.keys)
        self.journal = FlowJournal(self._journal_path, self._warn_once)
        self._writer = SegmentWriter(
            self.folder,
            self.keys,
            settings.max_bytes,
            settings.sync,
            on_append=self._acknowledgements.add,
            on_drop=self._on_drop,
            on_reregister=self.journal.rewrite,
        )
        callbacks = Callbacks(
            self._count_loss_in_folder,
            self._before_round,
            self._notify,
            self._acknowledgements.acknowledge,
            self._remove_delivered,
        )
        self._delivery_threads = [
            DeliveryThread(self.folder, destination, settings.max_age, callbacks) for destination in destinations
        ]
        self._reset()
        _spools.add(self)
        if self.folder.segments() or self.folder.identities():  # earlier processes left something
            self.wake()

    def _reset(self) -> None:
        self._state_changed = threading.Condition()
        self._logged_problems: set[str] = set()
        self._count_lock = threading.RLock()
        self._lost: dict[str, int] = {}
        """Lost spans of this process, by reason."""
        self._lost_in_folder = self._removed_spans = 0
        self._cached_losses: tuple[object, dict[str, int]] = (None, {})
        self._directly_sent_spans = 0
        self._direct_senders = [new_sender(destination) for destination in self._destinations]
        self._direct_lock = threading.RLock()
        self._last_recovery = 0.0
        self.losses = self._reported_losses = 0
        """Number of lost spans of any process that this process has noticed."""

    def __repr__(self) -> str:
        return f"<spool {self.settings.folder!r} to {', '.join(target.display_url for target in self._destinations)}>"

    # --- append -------------------------------------------------------------------------------------------------

    def put(self, payload: bytes, spans: int) -> bool:
        """Append a request with that number of spans. Return whether they are in the folder, or at every endpoint."""
        try:
            self._writer.append(payload, spans)
        except RecordTooLarge:
            self._count_loss(TOO_LARGE, spans)
            return False
        except Exception as error:
            self._warn_once("write", f"cannot write to {self.settings.folder} and sends directly: {error!r}")
            return self._send_directly(payload, spans)
        self._report_recovery("write", f"writes to {self.settings.folder} again")
        self.wake()
        return True

    def _send_directly(self, payload: bytes, spans: int) -> bool:
        lost_before = sum(self._lost.values())
        with self._direct_lock, suppress_instrumentation():
            for sender in self._direct_senders:
                self._send_directly_to(sender, payload, spans)
        lost = sum(self._lost.values()) - lost_before
        self._directly_sent_spans += max(0, spans - lost)
        return not lost

    def _send_directly_to(self, sender: Sender, payload: bytes, spans: int) -> None:
        remaining = spans

        def send(part: Part) -> Response | None:
            response = sender.send(part.payload)
            return None if response.outcome in (Outcome.RETRY, Outcome.UNSENDABLE) else response

        def on_settled(number: int, reason: str | None, _: str) -> None:
            nonlocal remaining
            remaining -= number
            if reason is not None:
                self._count_loss(reason, number)

        if not deliver(payload, spans, send, on_settled):
            self._count_loss(UNWRITABLE, remaining)

    def wake(self, now: bool = False) -> None:
        """Notify the delivery threads that spans wait. See :meth:`DeliveryThread.wake` for ``now``."""
        for thread in self._delivery_threads:
            thread.wake(now)

    def report_loss(self, reason: str, spans: int, message: str) -> None:
        """Count spans that could not be appended, and log the message once."""
        self._count_loss(reason, spans)
        self._warn_once(reason, message)

    # --- counts -------------------------------------------------------------------------------------------------

    def _count_loss(self, reason: str, spans: int) -> None:
        with self._count_lock:
            self._lost[reason] = self._lost.get(reason, 0) + spans
            self.losses += spans

    def _count_loss_in_folder(self, owner: str, reason: str, spans: int, removed: str | None = None) -> None:
        """Count spans that are lost from the folder, and note the loss for their owner."""
        own_identity = self._writer.identity
        self.folder.note_loss(owner, own_identity, reason, spans, removed)
        if not spans:
            return
        with self._count_lock:
            self.losses += spans
            if owner == own_identity:
                self._lost[reason] = self._lost.get(reason, 0) + spans
                self._lost_in_folder += spans
        self._warn_once(f"lost {reason}", f"lost {spans} spans ({reason}); run `otelflow spool status` for details")

    def take_new_losses(self) -> int:
        """Return how many lost spans this process noticed since the last call. A forked child starts at 0."""
        with self._count_lock:
            new_losses, self._reported_losses = self.losses - self._reported_losses, self.losses
        return new_losses

    def account(self) -> SpoolStats:
        """Count the spans of this process, and the spans in the folder."""
        in_flight = self._count_missing()
        pending = [
            self.folder.count_spans(segment, offset) for segment, offset in self.folder.pending_segments(self.keys)
        ]
        lost, lost_in_folder = dict(self._lost), self._lost_in_folder
        for reason, spans in self._losses_noted_by_others().items():
            lost[reason] = lost.get(reason, 0) + spans
            lost_in_folder += spans
        if self._removed_spans:
            lost[REMOVED] = self._removed_spans
        settled_spans, _ = self._acknowledgements.count_spans()
        return SpoolStats(
            max(0, settled_spans - lost_in_folder) + self._directly_sent_spans, sum(pending) + in_flight, lost
        )

    def _count_missing(self) -> int:
        """Read what other processes have sent, and count spans that were removed from the folder.

        Return the number of removed spans that may still be delivered.
        """
        is_delivering = any(thread.is_delivering for thread in self._delivery_threads)
        self._losses_noted_by_others()
        self._acknowledgements.refresh()
        with self._count_lock:
            removed_spans = self._acknowledgements.count_spans()[1]
            new_spans = removed_spans - self._removed_spans
            if is_delivering:
                return max(0, new_spans)
            self._removed_spans = removed_spans
            self.losses += max(0, new_spans)
        if new_spans > 0:
            self._warn_once(REMOVED, f"lost {new_spans} spans: somebody removed them from {self.settings.folder}")
        return 0

    def _on_drop(self, segment: Segment, spans: int) -> None:
        """Count the undelivered spans of a segment that is about to be deleted to make room."""
        self._count_loss_in_folder(segment.identity, FULL, spans, segment.stem)
        if segment.identity == self._writer.identity:
            self._acknowledgements.mark_removed(segment.stem)

    def _remove_delivered(self) -> None:
        self.folder.remove_delivered(self.keys, self._writer.identity, self._on_delivered)

    def _on_delivered(self, segment: Segment) -> None:
        unread = self._acknowledgements.finish_segment(segment)
        if unread:
            self._count_loss_in_folder(segment.identity, DAMAGED, unread)

    def _losses_noted_by_others(self) -> dict[str, int]:
        """Return the losses of this process's spans that other processes noted. Cached until another loss is noted."""
        version = self.folder.losses_version()
        if version != self._cached_losses[0]:
            own_identity = self._writer.identity
            lost: dict[str, int] = {}
            for loss in self.folder.losses():
                if loss.get("owner") == own_identity and loss.get("by") != own_identity:
                    if loss["spans"]:
                        reason = str(loss.get("reason"))
                        lost[reason] = lost.get(reason, 0) + loss["spans"]
                    if "removed" in loss:
                        self._acknowledgements.mark_removed(str(loss["removed"]))
            self._cached_losses = version, lost
        return self._cached_losses[1]

    def _warn_once(self, problem: str, message: str) -> None:
        """Log a problem once, and again only after a recovery."""
        if problem not in self._logged_problems:
            self._logged_problems.add(problem)
            _logger.warning("otelflow_spool %s.", message)

    def _report_recovery(self, problem: str, message: str) -> None:
        if problem in self._logged_problems:
            self._logged_problems.discard(problem)
            _logger.warning("otelflow_spool %s.", message)

    # --- waiting ------------------------------------------------------------------------------------------------

    def _notify(self) -> None:
        with self._state_changed:
            self._state_changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until the folder has no pending spans. Return False at a timeout."""
        deadline = time.monotonic() + seconds
        try:
            self._writer.sync()
        except OSError as error:
            self._warn_once("sync", f"cannot confirm that all spans are on disk: {error!r}")
        self.recover_dead_processes()
        self.wake(now=True)
        while self.folder.pending_segments(self.keys) or any(thread.is_delivering for thread in self._delivery_threads):
            seconds_left = deadline - time.monotonic()
            if seconds_left <= 0:
                return False
            with self._state_changed:
                self._state_changed.wait(min(seconds_left, _POLL_SECONDS))
        self._count_missing()
        return True

    def stop(self) -> None:
        """Seal the segment, continue to send while it succeeds and the settings allow it, and stop.

        The folder keeps the spans that are not sent.
        """
        try:
            self._writer.seal()
        except OSError as error:
            self._warn_once("sync", f"cannot confirm that all spans are on disk: {error!r}")
        deadline = time.monotonic() + self.settings.exit_seconds
        if self.settings.exit_seconds > 0:
            self.wake(now=True)
        while time.monotonic() < deadline and self.folder.pending_segments(self.keys):
            if all(self._is_stuck(thread) for thread in self._delivery_threads):
                break
            with self._state_changed:
                self._state_changed.wait(_POLL_SECONDS)
        for thread in self._delivery_threads:
            thread.stop(0.05 if self._is_stuck(thread) else max(0.05, deadline - time.monotonic()))
        self.journal.close()
        self._acknowledgements.mark_shut_down()
        self._writer.unregister(keep_file=not self.journal.is_empty)
        self._remove_delivered()

    def _is_stuck(self, thread: DeliveryThread) -> bool:
        return thread.is_failing or thread.has_waited_for_response(self.settings.exit_seconds)

    # --- dead processes -----------------------------------------------------------------------------------------

    def _before_round(self) -> None:
        """Seal an old segment and, at intervals, recover dead processes and remove delivered segments."""
        self._writer.seal_old()
        if time.monotonic() - self._last_recovery > _RECOVERY_INTERVAL_SECONDS:
            self._last_recovery = time.monotonic()
            self.recover_dead_processes()
            self._count_missing()
            self._remove_delivered()

    def recover_dead_processes(self) -> None:
        """Seal the segments of dead processes, and close their open flows."""
        try:
            with write_lock:  # prevents a fork meanwhile: a child would keep the locks
                own_identities = {spool._writer.identity for spool in list(_spools)}
                if self.folder.identities() - own_identities:
                    self._writer.register()  # before the folder's lock is held: this acquires it too
                    self.folder.recover_dead_processes(self._close_flows, own_identities)
        except Timeout:  # another process is doing the same
            return
        except OSError as error:
            self._warn_once("bury", f"cannot recover the spans of dead processes: {error!r}")

    def _close_flows(self, identity: str, path: str) -> bool:
        payload, spans = encode_closed_flows(path, self.folder.last_write_time(identity))
        if spans:
            self._writer.append(payload, spans)
        return True

    def _journal_path(self) -> str:
        self._writer.register()
        return self.folder.path_of(f"{self._writer.identity}.flows")

    # --- forks --------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Reset the state: the spans in the folder belong to the parent, or to the process that recovers them."""
        _inherited_connections.append(
            (self._direct_senders, [thread.reset_after_fork() for thread in self._delivery_threads])
        )
        self._writer.reset_after_fork()
        self._acknowledgements.reset()
        self.journal.reset_after_fork()
        self._reset()


def _after_fork_in_child() -> None:
    try:
        for spool in list(_spools):
            spool.after_fork_in_child()
    finally:
        write_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=write_lock.acquire, after_in_parent=write_lock.release, after_in_child=_after_fork_in_child
    )
