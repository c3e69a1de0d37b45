"""The start without code: OpenTelemetry is set up, and the functions of the configuration are instrumented."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from otelflow._instrument.api import instrument_leniently
from otelflow.providers import configure

__all__ = ["OTELFLOW_PROFILE", "environment", "service_name", "start", "start_here"]

OTELFLOW_PROFILE = "OTELFLOW_PROFILE"
"""Environment: a folder to count calls into, instead of making spans. Set by ``otelflow check --profile``."""

_SITE = str(Path(__file__).parent / "_site")
_logger = logging.getLogger("otelflow")


def environment(**more: str) -> dict[str, str]:
    """The environment for a command whose Python processes are to start with otelflow."""
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, **more, "PYTHONPATH": _SITE if not path else f"{_SITE}{os.pathsep}{path}"}


def service_name(words: list[str]) -> str | None:
    """What to call a program that is started as ``words``; None where OpenTelemetry's variables say it. Of
    ``uvicorn shop.app:app`` it is ``shop``, of ``nightly/clean_up.py`` it is ``clean_up``."""
    if os.environ.get("OTEL_SERVICE_NAME") or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        return None
    for word in words[1:]:
        application = re.fullmatch(r"([^\W\d]\w*)(\.\w+)*:[^\W\d]\w*(\(.*\))?", word)
        if application is not None:
            return application[1]
    return Path(words[0]).stem


def start(name: str | None, main: tuple[str, ...] = ()) -> None:
    """Set up OpenTelemetry and instrument, in this process. ``main``: the names of the module that is run as a
    program, whose functions are not there yet. Never raises."""
    try:
        configure(name)
    except Exception:
        _logger.warning("otelflow could not set OpenTelemetry up; the program runs without", exc_info=True)
    instrument_leniently(main)


def start_here() -> None:
    """As :func:`start`, or as a profile, by the environment."""
    folder = os.environ.get(OTELFLOW_PROFILE)
    if not folder:
        start(None)
        return
    try:
        from otelflow._instrument.call_profile import begin

        begin(Path(folder))
    except Exception:
        _logger.warning("otelflow could not begin its profile; the program runs without", exc_info=True)
