"""Name each reason for a loss, and count the losses by reason, so that none goes unnoticed."""

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
    "NO_SDK_PROVIDER",
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
"""A listener raised; the next listener still got the event."""

VALUES = "values_cut"
"""A value on a span was larger than ``OTELFLOW_MAX_VALUE_BYTES`` and was cut."""

REDACTED_VALUES = "values_redacted"
"""A value contained secrets, which were redacted."""

SLOW_PATTERNS = "scrub_patterns_off"
"""A pattern of ``OTELFLOW_SCRUB_PATTERNS`` was too slow or raised, and was disabled."""

EVENTS = "events_over_span_limit"
"""The SDK's limit of events per span was reached; the oldest event was dropped."""

MESSAGES = "messages_not_kept"
"""``FlowRunConfig.max_messages`` was reached; the Flow object dropped its oldest message."""

TASKS = "tasks_not_kept"
"""``FlowRunConfig.max_tasks`` was reached; the Flow object dropped its oldest task."""

AFTER_FORK = "after_fork"
"""A forked child recorded something on a run of its parent: only the parent can put it on the span."""

RELAY_FULL = "relay_full"
"""A job in a worker recorded more than its result can carry: ``OTELFLOW_QUEUE_SIZE`` events and as many spans."""

WORKER_LOST = "worker_lost"
"""A job did not return: its worker died, or its result could not be pickled. Its records are lost; one per job."""

NO_SDK_PROVIDER = "no_relay_door"
"""A worker's span came back, but the tracer provider in use is not the SDK's: it accepts no ended spans."""

NO_LOCAL_SPAN = "no_local_span"
"""The handle of a remote flow recorded something while this process had no current span to carry it."""

AFTER_JOB = "after_job"
"""A run in a worker continued after its job had returned: there is no way back any more."""

VALUES_NOT_RELAYED = "values_not_relayed"
"""The data of a worker's artifact could not be pickled, or was over 1 MiB: only a preview came back."""

REFUSED = "refused"
"""The receiver refused the request, and would refuse it again."""

REJECTED = "rejected"
"""The receiver accepted the request, but rejected these of its spans (partial success)."""

TOO_LARGE = "too_large"
"""The receiver refuses a request of this size, although it held only one span."""

QUEUE_FULL = "queue_full"
"""The exporter was slower than the program; the oldest queued item was dropped."""

EXPORT_FAILED = "export_failed"
"""An exporter of another project raised, or gave up the batch."""

NOT_ENCODED = "not_encoded"
"""The span has a value that cannot be encoded as OTLP; it was left out of its batch."""

AFTER_SHUTDOWN = "after_shutdown"
"""The item came after the pipeline's shutdown, or was still queued when the time for it was over."""

ARTIFACT_NOT_STORED = "artifact_not_stored"
"""The store refused an artifact, is unusable, or had not stored it when the process ended.

The artifact's event may name a file that does not exist.
"""

ARTIFACT_STORE_FULL = "artifact_store_full"
"""The store was slower than the program: the queued artifacts reached their limit of bytes."""

ARTIFACT_TOO_LARGE = "artifact_too_large"
"""An artifact was larger than ``OTELFLOW_ARTIFACT_STORE_MAX_BYTES``, or encoding it as JSON took too long."""

NOT_MEASURED = "metrics_queue_full"
"""Runs ended faster than their durations could be recorded; the oldest measurements were dropped."""


def after_end_reason(kind: str) -> str:
    """Return the reason for a ``message``, ``artifact``, ``result`` or ``task`` that came after the end of its run."""
    return f"{kind}s_after_end"


class DropCounts:
    """Counts by reason: exact with threads, and reset in a forked child, as its parent counts its own losses."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may count while its thread holds the lock
        self._numbers: dict[str, int] = {}
        after_fork_in_child(self.clear)

    def add(self, reason: str, number: int = 1) -> None:
        """Add ``number`` to the count of ``reason``."""
        if not number:
            return
        with self._lock:
            numbers = self._numbers
            numbers.setdefault(reason, 0)
            numbers[reason] += number  # no call within: a signal handler could run after it

    def snapshot(self) -> dict[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._numbers)

    def take(self) -> dict[str, int]:
        """Return all counts and reset them: from now on the caller counts these."""
        with self._lock:
            numbers, self._numbers = self._numbers, {}
            return numbers

    def clear(self) -> None:
        """Reset all counts. The lock is new: after a fork, a thread that no longer exists may hold the old one."""
        self._lock = threading.RLock()
        self._numbers = {}


counts = DropCounts()
