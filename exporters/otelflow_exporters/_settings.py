"""Read the exporters' settings from the environment, and suppress instrumentation while an exporter works."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from opentelemetry import context

__all__ = ["Sync", "parse_sync_policy", "parse_whole_number", "read_setting", "suppress_instrumentation"]

Sync = Literal["never", "flush", "batch"]

_logger = logging.getLogger("otelflow")

_T = TypeVar("_T")


def read_setting(name: str, parse: Callable[[str], _T], default: _T) -> _T:
    """Return the parsed value of the environment variable ``name``, or ``default`` if it is unset or invalid.

    ``parse`` raises ValueError for an invalid value. Its text completes the sentence "NAME …" in the warning.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        _logger.warning("%s %s; got %r. Using the default.", name, error, text)
        return default


def parse_whole_number(text: str) -> int:
    """Parse a whole number, at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("must be a whole number, at least 0")
    return int(text)


def parse_sync_policy(text: str) -> Sync:
    """Parse the policy that decides when a file is synced to the disk."""
    for policy in ("never", "flush", "batch"):
        if text.lower() == policy:
            return policy
    raise ValueError("must be never, flush or batch")


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Keep instrumentation libraries from making spans of the exporter's own work in this block."""
    token = context.attach(context.set_value(_suppress_key(), True))
    try:
        yield
    finally:
        context.detach(token)


def _suppress_key() -> str:
    # A private name of OpenTelemetry: if it is gone, nothing is suppressed.
    return getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
