"""A spool at work: what is appended is delivered, and an account is kept of it."""

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
from otelflow_exporters._settings import Sync, suppressed
from otelflow_exporters._spool.acknowledgements import Acknowledgements
from otelflow_exporters._spool.delivery import deliver, new_sender
from otelflow_exporters._spool.delivery_thread import DAMAGED, DeliveryThread, Reports
from otelflow_exporters._spool.destination import Destination
from otelflow_exporters._spool.folder import Folder, Segment
from otelflow_exporters._spool.open_flows import FlowJournal, closed_flows
from otelflow_exporters._spool.segment_writer import NoRoom, SegmentWriter, writing

__all__ = ["FULL", "REMOVED", "UNWRITABLE", "Settings", "Spool", "SpoolStats"]

FULL = "spool_full"
"""The folder had no room for them any more."""

REMOVED = "spool_removed"
"""The folder was taken away, or a file in it, before they were delivered."""

UNWRITABLE = "spool_unwritable"
"""The folder could not be written, and neither could the spans be sent at that moment."""

_LOOK_SECONDS = 0.02
"""How often is looked whether the folder is empty, by who waits for it: other processes may be the ones that send."""

_BURY_SECONDS = 2.0

_logger = logging.getLogger("otelflow")

_spools: weakref.WeakSet[Spool] = weakref.WeakSet()

_left_to_the_parent: list[Any] = []
"""What a forked child has of its parent's connections, kept from being closed."""


@dataclass(frozen=True)
class Settings:
    """What a spool is asked for."""

    folder: str
    most_bytes: int
    max_age: int
    sync: Sync
    exit_seconds: float


@dataclass
class SpoolStats:
    """What became of the spans that this process gave to the spool."""

    delivered: int = 0
    """Spans that the backend has accepted; with several, all of them."""
    pending: int = 0
    """Spans that wait in the folder, of every process."""
    lost: dict[str, int] = field(default_factory=dict)
    """By reason."""


class Spool:
    """The spool of a process in one folder. Nothing here raises but the constructor: ImportError, where a library for
    sending is missing."""

    def __init__(self, settings: Settings, where: list[Destination]) -> None:
        self.settings = settings
        self.folder = Folder(settings.folder)
        self.keys = [destination.key for destination in where]
        self._destinations = where
        self._ledger = Acknowledgements(self.folder, self.keys)
        self.journal = FlowJournal(self._journal_path, self._complain)
        self._writer = SegmentWriter(
            self.folder,
            self.keys,
            settings.most_bytes,
            settings.sync,
            wrote=self._ledger.wrote,
            drop=self._drop,
            entered_anew=self.journal.renew,
        )
        reports = Reports(self._lose_spooled, self._look_after, self._notify, self._ledger.sent, self._sweep)
        self._couriers = [DeliveryThread(self.folder, each, settings.max_age, reports) for each in where]
        self._begin()
        _spools.add(self)
        if self.folder.segments() or self.folder.identities():  # what was left by those before us
            self.wake()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._complained: set[str] = set()
        self._counting = threading.RLock()
        self._lost: dict[str, int] = {}
        """Of this process's spans."""
        self._lost_spooled = self._removed = 0
        self._known_losses: tuple[object, dict[str, int]] = (None, {})
        self._sent_directly = 0
        self._direct = [new_sender(destination) for destination in self._destinations]
        self._sending_directly = threading.RLock()
        self._buried = 0.0
        self.losses = 0
        """Spans that this process saw getting lost, whoever's they were."""

    def __repr__(self) -> str:
        return f"<spool {self.settings.folder!r} to {', '.join(each.shown for each in self._destinations)}>"

    # --- in -----------------------------------------------------------------------------------------------------

    def put(self, payload: bytes, spans: int) -> bool:
        """Take a request of so many spans; whether they are safe: in the folder, or at every endpoint."""
        try:
            self._writer.append(payload, spans)
        except NoRoom:
            self._lose(TOO_LARGE, spans)
            return False
        except Exception as error:
            self._complain("write", f"cannot write to {self.settings.folder}, and sends without it: {error!r}")
            return self._send_directly(payload, spans)
        self._recover("write", f"writes to {self.settings.folder} again")
        self.wake()
        return True

    def _send_directly(self, payload: bytes, spans: int) -> bool:
        lost_before = sum(self._lost.values())
        with self._sending_directly, suppressed():
            for sender in self._direct:
                self._send_once(sender, payload, spans)
        lost = sum(self._lost.values()) - lost_before
        self._sent_directly += max(0, spans - lost)
        return not lost

    def _send_once(self, sender: Sender, payload: bytes, spans: int) -> None:
        unsettled = spans

        def send(part: Part) -> Response | None:
            response = sender.send(part.payload)
            return None if response.outcome in (Outcome.RETRY, Outcome.UNSENDABLE) else response

        def settled(number: int, reason: str | None, _: str) -> None:
            nonlocal unsettled
            unsettled -= number
            if reason is not None:
                self._lose(reason, number)

        if not deliver(payload, spans, send, settled):
            self._lose(UNWRITABLE, unsettled)

    def wake(self, hurry: bool = False) -> None:
        """See to it that what waits is sent."""
        for courier in self._couriers:
            courier.wake(hurry)

    def lose(self, reason: str, spans: int, why: str) -> None:
        """Count spans that did not come into the spool."""
        self._lose(reason, spans)
        self._complain(reason, why)

    # --- the account --------------------------------------------------------------------------------------------

    def _lose(self, reason: str, spans: int) -> None:
        with self._counting:
            self._lost[reason] = self._lost.get(reason, 0) + spans
            self.losses += spans

    def _lose_spooled(self, owner: str, reason: str, spans: int, removed: str | None = None) -> None:
        """Count spans that are lost out of the folder, and note it for their owner."""
        mine = self._writer.identity
        self.folder.note_loss(owner, mine, reason, spans, removed)
        if not spans:
            return
        with self._counting:
            self.losses += spans
            if owner == mine:
                self._lost[reason] = self._lost.get(reason, 0) + spans
                self._lost_spooled += spans
        self._complain(f"lost {reason}", f"lost {spans} spans ({reason}); `otelflow spool status` tells more")

    def account(self) -> SpoolStats:
        """What became of this process's spans."""
        under_way = self._look_for_missing()
        waiting = [self.folder.spans_in(*one) for one in self.folder.waiting(self.keys)]
        lost, counted = dict(self._lost), self._lost_spooled
        for reason, spans in self._lost_by_others().items():
            lost[reason] = lost.get(reason, 0) + spans
            counted += spans
        if self._removed:
            lost[REMOVED] = self._removed
        dealt_with, _ = self._ledger.count()
        return SpoolStats(max(0, dealt_with - counted) + self._sent_directly, sum(waiting) + under_way, lost)

    def _look_for_missing(self) -> int:
        """See what others have sent of this process's spans, and what is not in the folder any more. How many of these
        may be delivered yet."""
        is_delivering = any(courier.is_delivering for courier in self._couriers)
        self._lost_by_others()
        self._ledger.look()
        with self._counting:
            gone = self._ledger.count()[1]
            more = gone - self._removed
            if is_delivering:
                return max(0, more)
            self._removed = gone
            self.losses += max(0, more)
        if more > 0:
            self._complain(REMOVED, f"lost {more} spans: somebody took them away out of {self.settings.folder}")
        return 0

    def _drop(self, segment: Segment, spans: int) -> None:
        """A segment is about to go, to make room, and with it spans that nobody has."""
        self._lose_spooled(segment.identity, FULL, spans, segment.stem)
        if segment.identity == self._writer.identity:
            self._ledger.removed(segment.stem)

    def _sweep(self) -> None:
        self.folder.sweep(self.keys, self._writer.identity, self._finish)

    def _finish(self, segment: Segment) -> None:
        unread = self._ledger.finish(segment)
        if unread:
            self._lose_spooled(segment.identity, DAMAGED, unread)

    def _lost_by_others(self) -> dict[str, int]:
        """What other processes have noted of this one's spans; read anew only when something was noted."""
        state = self.folder.state_of_losses()
        if state != self._known_losses[0]:
            mine = self._writer.identity
            lost: dict[str, int] = {}
            for loss in self.folder.losses():
                if loss.get("owner") == mine and loss.get("by") != mine:
                    if loss["spans"]:
                        reason = str(loss.get("reason"))
                        lost[reason] = lost.get(reason, 0) + loss["spans"]
                    if "removed" in loss:
                        self._ledger.removed(str(loss["removed"]))
            self._known_losses = state, lost
        return self._known_losses[1]

    def _complain(self, what: str, message: str) -> None:
        """Log once, until it worked again."""
        if what not in self._complained:
            self._complained.add(what)
            _logger.warning("otelflow_spool %s.", message)

    def _recover(self, what: str, message: str) -> None:
        if what in self._complained:
            self._complained.discard(what)
            _logger.warning("otelflow_spool %s.", message)

    # --- waiting ------------------------------------------------------------------------------------------------

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait until nothing waits in the folder; whether it came to that."""
        end = time.monotonic() + seconds
        try:
            self._writer.sync()
        except OSError as error:
            self._complain("sync", f"cannot say that all is on disk: {error!r}")
        self.bury()
        self.wake(hurry=True)
        while self.folder.waiting(self.keys) or any(courier.is_delivering for courier in self._couriers):
            left = end - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                self._changed.wait(min(left, _LOOK_SECONDS))
        self._look_for_missing()
        return True

    def stop(self) -> None:
        """Seal what is there, go on sending for as long as it gets on and the settings allow, and end. What is in the
        folder is safe."""
        try:
            self._writer.seal()
        except OSError as error:
            self._complain("sync", f"cannot say that all is on disk: {error!r}")
        end = time.monotonic() + self.settings.exit_seconds
        if self.settings.exit_seconds > 0:
            self.wake(hurry=True)
        while time.monotonic() < end and self.folder.waiting(self.keys):
            if all(self._gets_nowhere(courier) for courier in self._couriers):
                break
            with self._changed:
                self._changed.wait(_LOOK_SECONDS)
        for courier in self._couriers:
            courier.stop(0.05 if self._gets_nowhere(courier) else max(0.05, end - time.monotonic()))
        self.journal.close()
        self._ledger.leave()
        self._writer.leave(keep=not self.journal.is_empty)
        self._sweep()

    def _gets_nowhere(self, courier: DeliveryThread) -> bool:
        return courier.is_failing or courier.has_waited(self.settings.exit_seconds)

    # --- those who died -----------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Called before each look for something to send."""
        self._writer.seal_old()
        if time.monotonic() - self._buried > _BURY_SECONDS:
            self._buried = time.monotonic()
            self.bury()
            self._look_for_missing()
            self._sweep()

    def bury(self) -> None:
        """Close what processes left that are gone."""
        try:
            with writing:  # no fork in between: a child would keep the locks
                own = {spool._writer.identity for spool in list(_spools)}
                if self.folder.identities() - own:
                    self._writer.enter()  # not under the folder's lock, which it takes
                    self.folder.bury(self._close_flows, own)
        except Timeout:  # another process is at it
            return
        except OSError as error:
            self._complain("bury", f"cannot look after what other processes left: {error!r}")

    def _close_flows(self, identity: str, path: str) -> bool:
        payload, spans = closed_flows(path, self.folder.last_sign_of(identity))
        if spans:
            self._writer.append(payload, spans)
        return True

    def _journal_path(self) -> str:
        self._writer.enter()
        return self.folder.at(f"{self._writer.identity}.flows")

    # --- forks --------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Start anew: what is in the folder is the parent's, or of whoever finds it."""
        _left_to_the_parent.append((self._direct, [courier.abandon() for courier in self._couriers]))
        self._writer.abandon()
        self._ledger.begin()
        self.journal.abandon()
        self._begin()


def _after_fork_in_child() -> None:
    try:
        for spool in list(_spools):
            spool.after_fork_in_child()
    finally:
        writing.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=writing.acquire, after_in_parent=writing.release, after_in_child=_after_fork_in_child)
