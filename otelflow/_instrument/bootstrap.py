"""Set up OpenTelemetry and instrument functions, without any code in the program."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from otelflow._instrument.api import instrument_leniently
from otelflow.providers import configure

__all__ = ["OTELFLOW_PROFILE", "child_environment", "default_service_name", "start", "start_from_environment"]

OTELFLOW_PROFILE = "OTELFLOW_PROFILE"
"""Environment variable: folder for call counts. If set, calls are counted and make no spans.

Set by ``otelflow check --profile``.
"""

_SITE = str(Path(__file__).parent / "_site")
_logger = logging.getLogger("otelflow")


def child_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a command whose Python processes start otelflow."""
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, **variables, "PYTHONPATH": _SITE if not path else f"{_SITE}{os.pathsep}{path}"}


def default_service_name(command: list[str]) -> str | None:
    """Return the default service name for a command; None if OpenTelemetry's variables set one.

    ``uvicorn shop.app:app`` gives ``shop``; ``nightly/clean_up.py`` gives ``clean_up``.
    """
    if os.environ.get("OTEL_SERVICE_NAME") or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return None
    for word in command[1:]:
        application = re.fullmatch(r"([^\W\d]\w*)(\.\w+)*:[^\W\d]\w*(\(.*\))?", word)
        if application is not None:
            return application[1]
    return Path(command[0]).stem


def start(name: str | None, main: tuple[str, ...] = ()) -> None:
    """Set up OpenTelemetry in this process and instrument functions. Never raises.

    ``main`` has the names of the module that runs as the program. Its functions are not defined yet.
    """
    try:
        configure(name)
    except Exception:
        _logger.warning("otelflow could not set up OpenTelemetry; the program runs without it", exc_info=True)
    instrument_leniently(main)


def start_from_environment() -> None:
    """Call :func:`start`, or count calls if ``OTELFLOW_PROFILE`` is set."""
    folder = os.environ.get(OTELFLOW_PROFILE)
    if not folder:
        start(None)
        return
    try:
        from otelflow._instrument.call_profile import start_counting

        start_counting(Path(folder))
    except Exception:
        _logger.warning("otelflow could not start its profile; the program runs without it", exc_info=True)
