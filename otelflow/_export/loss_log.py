"""Saying that something is lost, or waits: a line a minute at most, with the numbers since the last and what to do."""

from __future__ import annotations

import logging
import time
from typing import Any

from otelflow._runtime.fork import after_fork_in_child

__all__ = ["begin", "report_lost", "report_waiting"]

_SECONDS = 60.0
"""Between two lines: a receiver that is away must not fill the user's log."""

_ADVICE = {
    "queue_full": "The receiver is slower than the program, or away: a larger OTELFLOW_QUEUE_SIZE, "
    "OTELFLOW_WHEN_FULL=spool or =wait, or fewer spans (OTEL_TRACES_SAMPLER).",
    "refused": "Look at path, protocol and headers.",
    "rejected": "The receiver took the rest of the request; its log says why not these.",
    "too_large": "Raise the limit of the receiver, or lower OTELFLOW_MAX_SPAN_BYTES.",
    "after_shutdown": "They ended after shutdown(), or waited when the process ended: OTELFLOW_EXIT_SECONDS.",
}
_DOCTOR = "`otelflow doctor` looks for the cause."

_logger = logging.getLogger("otelflow")
_unsaid: dict[tuple[str, str], int] = {}
_next = 0.0


def report_lost(name: str, exporter: Any, reason: str, number: int, what: str) -> None:
    """``number`` items of the exporter called ``name`` are lost, for a ``reason`` of ``stats().dropped``. ``what`` is
    the receiver's answer in a word."""
    key = (name, reason)
    _unsaid.setdefault(key, 0)
    _unsaid[key] += number
    if not _may_speak():
        return
    unsaid = tuple(_unsaid.items())  # in one step: other threads lose something, too
    _unsaid.clear()
    told = ", ".join(f"{count} {why} ({who})" for (who, why), count in unsaid)
    answer = f" The last answer was: {what}." if what else ""
    _logger.warning("Lost: %s.%s %s %s%s", told, answer, _ADVICE.get(reason, ""), _DOCTOR, _where(exporter))


def report_waiting(name: str, exporter: Any, number: int, what: str) -> None:
    """``number`` items wait for a receiver that is away, or busy."""
    if _may_speak():
        _logger.warning(
            "%d spans wait for %s, which does not take them now (%s); they are sent when it does. %s%s",
            *(number, name, what, _DOCTOR, _where(exporter)),
        )


def _may_speak() -> bool:
    global _next
    now = time.monotonic()
    if now < _next:
        return False
    _next = now + _SECONDS
    return True


def _where(exporter: Any) -> str:
    endpoint = getattr(exporter, "endpoint", None)
    return f" Endpoint: {endpoint}" if isinstance(endpoint, str) else ""


def begin() -> None:
    """Forget what was said; also in a forked child, whose losses are its own."""
    global _next
    _unsaid.clear()
    _next = 0.0


after_fork_in_child(begin)
