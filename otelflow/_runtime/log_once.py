"""Log a failure of our own once: a broken telemetry path must not fill the user's log."""

from __future__ import annotations

import logging

__all__ = ["log_end_error", "log_once", "log_span_error", "log_start_error"]

_logger = logging.getLogger("otelflow")

_said: set[str] = set()


def log_once(key: str, message: str, *arguments: object, exc_info: bool = False) -> None:
    """Log a failure of ours at WARNING the first time that ``key`` comes, never again: a broken telemetry path must
    not fill the user's log."""
    if key in _said or len(_said) > 1000:
        return
    _said.add(key)
    _logger.warning(message, *arguments, exc_info=exc_info)


def log_span_error(where: str, error: Exception) -> None:
    """Say once that a method of the span in use raised."""
    log_once(
        f"span {where} {type(error).__name__}",
        "The span in use raised %s in %s(); the run goes on without it.",
        type(error).__name__,
        where,
        exc_info=True,
    )


def log_start_error(error: Exception) -> None:
    """Say once that OpenTelemetry, or what the user put into it, raised where a span was to start."""
    log_once(
        f"start_span {type(error).__name__}",
        "OpenTelemetry raised %s when a span was started; the run goes on without one.",
        type(error).__name__,
        exc_info=True,
    )


def log_end_error(error: Exception) -> None:
    """Say once that OpenTelemetry, or what the user put into it, raised where a span was to end."""
    log_once(
        f"end {type(error).__name__}",
        "OpenTelemetry raised %s when a span ended.",
        type(error).__name__,
        exc_info=True,
    )
