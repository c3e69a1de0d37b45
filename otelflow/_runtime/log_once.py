"""Log an internal failure once: a broken telemetry path must not fill the user's log."""

from __future__ import annotations

import logging

__all__ = ["log_end_error", "log_once", "log_span_error", "log_start_error"]

_logger = logging.getLogger("otelflow")

_logged_keys: set[str] = set()


def log_once(key: str, message: str, *arguments: object, exc_info: bool = False) -> None:
    """Log an internal failure at WARNING the first time that ``key`` occurs.

    A broken telemetry path must not fill the user's log.
    """
    if key in _logged_keys or len(_logged_keys) > 1000:
        return
    _logged_keys.add(key)
    _logger.warning(message, *arguments, exc_info=exc_info)


def log_span_error(method: str, error: Exception) -> None:
    """Log once that a method of the span in use raised."""
    log_once(
        f"span {method} {type(error).__name__}",
        "The span in use raised %s in %s(). The run continues without it.",
        type(error).__name__,
        method,
        exc_info=True,
    )


def log_start_error(error: Exception) -> None:
    """Log once that OpenTelemetry, or a user's extension of it, raised at the start of a span."""
    log_once(
        f"start_span {type(error).__name__}",
        "OpenTelemetry raised %s when it started a span. The run continues without a span.",
        type(error).__name__,
        exc_info=True,
    )


def log_end_error(error: Exception) -> None:
    """Log once that OpenTelemetry, or a user's extension of it, raised at the end of a span."""
    log_once(
        f"end {type(error).__name__}",
        "OpenTelemetry raised %s when it ended a span.",
        type(error).__name__,
        exc_info=True,
    )
