"""Log lost and waiting items: at most one line a minute, with the numbers since the last line and what to do."""

from __future__ import annotations

import logging
import time
from typing import Any

from otelflow._runtime.fork import after_fork_in_child

__all__ = ["report_lost", "report_waiting", "reset"]

_INTERVAL = 60.0
"""Seconds between two lines: a receiver that is down must not fill the user's log."""

_ADVICE = {
    "queue_full": "The receiver is down, or slower than the program. Raise OTELFLOW_QUEUE_SIZE, set "
    "OTELFLOW_WHEN_FULL to spool or wait, or sample fewer spans (OTEL_TRACES_SAMPLER).",
    "refused": "Check the endpoint's path, the protocol and the headers.",
    "rejected": "The receiver accepted the rest of the request. Its log has the reason.",
    "too_large": "Raise the limit of the receiver, or lower OTELFLOW_MAX_SPAN_BYTES.",
    "after_shutdown": "They ended after shutdown(), or waited when the process ended. Raise OTELFLOW_EXIT_SECONDS.",
}
_DOCTOR = "Run `otelflow doctor` to find the cause."

_logger = logging.getLogger("otelflow")
_unreported: dict[tuple[str, str], int] = {}
_next_time = 0.0


def report_lost(name: str, exporter: Any, reason: str, number: int, detail: str) -> None:
    """Report that ``number`` items of the exporter called ``name`` are lost.

    ``reason`` is one of ``stats().dropped``; ``detail`` is the receiver's response in a word, or empty.
    """
    key = (name, reason)
    _unreported.setdefault(key, 0)
    _unreported[key] += number
    if not _is_due():
        return
    losses = tuple(_unreported.items())  # one step, as other threads report losses at the same time
    _unreported.clear()
    summary = ", ".join(f"{count} {why} ({exporter_name})" for (exporter_name, why), count in losses)
    response = f" The last response was: {detail}." if detail else ""
    _logger.warning("Lost: %s.%s %s %s%s", summary, response, _ADVICE.get(reason, ""), _DOCTOR, _endpoint(exporter))


def report_waiting(name: str, exporter: Any, number: int, detail: str) -> None:
    """Report that ``number`` items wait for a receiver that is down or busy."""
    if _is_due():
        _logger.warning(
            "%d spans wait: %s does not accept them now (%s). They are sent as soon as it does. %s%s",
            *(number, name, detail, _DOCTOR, _endpoint(exporter)),
        )


def _is_due() -> bool:
    """Return whether a line may be logged now; if so, the next one may follow after the interval."""
    global _next_time
    now = time.monotonic()
    if now < _next_time:
        return False
    _next_time = now + _INTERVAL
    return True


def _endpoint(exporter: Any) -> str:
    endpoint = getattr(exporter, "endpoint", None)
    return f" Endpoint: {endpoint}" if isinstance(endpoint, str) else ""


def reset() -> None:
    """Forget all reports. Also called in a forked child, which reports only its own losses."""
    global _next_time
    _unreported.clear()
    _next_time = 0.0


after_fork_in_child(reset)
