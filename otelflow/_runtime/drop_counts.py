"""Name each reason why something is left out, and count by reason: nothing is lost in silence."""

from __future__ import annotations

import threading

from otelflow._runtime.fork import after_fork_in_child

__all__ = [
    "AFTER_FORK",
    "AFTER_JOB",
    "AFTER_SHUTDOWN",
    "ARTIFACT_NOT_STORED",
    "ARTIFACT_STORE_FULL",
    "ARTIFACT_TOO_LARGE",
    "EVENTS",
    "EXPORT_FAILED",
    "LISTENER_ERRORS",
    "MESSAGES",
    "NOT_ENCODED",
    "NO_LOCAL_SPAN",
    "NO_RELAY_DOOR",
    "QUEUE_FULL",
    "REDACTED_VALUES",
    "REFUSED",
    "REJECTED",
    "RELAY_FULL",
    "SLOW_PATTERNS",
    "TASKS",
    "TOO_LARGE",
    "VALUES",
    "VALUES_NOT_RELAYED",
    "WORKER_LOST",
    "DropCounts",
    "after_end_reason",
    "counts",
]

LISTENER_ERRORS = "listener_errors"
"""A listener raised; the event went on to the next one."""

VALUES = "values_cut"
"""A value on a span was larger than ``OTELFLOW_MAX_VALUE_BYTES``."""

REDACTED_VALUES = "values_redacted"
"""A value had secrets in it, which were replaced."""

SLOW_PATTERNS = "scrub_patterns_off"
"""A pattern of ``OTELFLOW_SCRUB_PATTERNS`` was too slow, or raised: it is not used any more."""

EVENTS = "events_over_span_limit"
"""The SDK's limit of events a span was reached; the oldest went."""

MESSAGES = "messages_not_kept"
"""``FlowRunConfig.max_messages`` was reached; the oldest left the Flow object."""

TASKS = "tasks_not_kept"
"""``FlowRunConfig.max_tasks`` was reached; the oldest left the Flow object."""

AFTER_FORK = "after_fork"
"""A forked child told a run that its parent began something: only the parent could put it on the span."""

RELAY_FULL = "relay_full"
"""A job in a worker did more than its result can carry: ``OTELFLOW_QUEUE_SIZE`` events and as many spans."""

WORKER_LOST = "worker_lost"
"""A job did not come back: its worker died, or its result could not be pickled. What it did is not known; one each."""

NO_RELAY_DOOR = "no_relay_door"
"""A span of a worker came back, and the tracer provider in use is not the SDK's: it takes no ended spans."""

NO_LOCAL_SPAN = "no_local_span"
"""The handle of a flow elsewhere was told something where no span of this process was current to carry it."""

AFTER_JOB = "after_job"
"""A run in a worker went on after its job had returned: there is no way back any more."""

VALUES_NOT_RELAYED = "values_not_relayed"
"""The data of an artifact in a worker could not be pickled, or was over 1 MiB: a preview came back instead."""

REFUSED = "refused"
"""The receiver answered that it does not take the request, and would not if it came again."""

REJECTED = "rejected"
"""The receiver took the request, and left these spans of it out (partial success)."""

TOO_LARGE = "too_large"
"""The receiver does not take a request of this size, though it held one span only."""

QUEUE_FULL = "queue_full"
"""The exporter was slower than the program; the oldest waiting item went."""

EXPORT_FAILED = "export_failed"
"""An exporter that is not ours gave the batch up, or raised."""

NOT_ENCODED = "not_encoded"
"""The span has something that cannot be written as OTLP; it was left out of its batch."""

AFTER_SHUTDOWN = "after_shutdown"
"""The item came after the pipeline was shut down, or still waited when its time was over."""

ARTIFACT_NOT_STORED = "artifact_not_stored"
"""The store refused an artifact, cannot be used, or had not taken it when the process ended: its event may name a file
that is not there."""

ARTIFACT_STORE_FULL = "artifact_store_full"
"""The store was slower than the program: the artifacts that wait for it are at their bound of bytes."""

ARTIFACT_TOO_LARGE = "artifact_too_large"
"""An artifact was larger than ``OTELFLOW_ARTIFACT_STORE_MAX_BYTES``, or took longer to write as JSON than allowed."""

NOT_MEASURED = "metrics_queue_full"
"""Runs ended faster than their durations could be recorded; the oldest notes went."""


def after_end_reason(what: str) -> str:
    """The reason for a ``message``, an ``artifact``, a ``result`` or a ``task`` that came after its run had ended."""
    return f"{what}s_after_end"


class DropCounts:
    """Numbers by reason, exact under threads, and zero again in a forked child (its parent counts its own)."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may count while its thread is in here
        self._numbers: dict[str, int] = {}
        after_fork_in_child(self.clear)

    def add(self, reason: str, number: int = 1) -> None:
        """Count ``number`` more of ``reason``."""
        if not number:
            return
        with self._lock:
            numbers = self._numbers
            numbers.setdefault(reason, 0)
            numbers[reason] += number  # no call in between, after which the handler might come

    def snapshot(self) -> dict[str, int]:
        """All numbers as they stand."""
        with self._lock:
            return dict(self._numbers)

    def take(self) -> dict[str, int]:
        """All numbers as they stand, and begin at zero: they are counted elsewhere from here on."""
        with self._lock:
            taken, self._numbers = self._numbers, {}
            return taken

    def clear(self) -> None:
        """Begin at zero. The lock is new: after a fork the old one may be held by a thread that is not there."""
        self._lock = threading.RLock()
        self._numbers = {}


counts = DropCounts()
