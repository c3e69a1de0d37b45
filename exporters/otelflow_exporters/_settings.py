"""What exporters read from the environment, and what they do without being traced themselves."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from opentelemetry import context

__all__ = ["Sync", "number", "setting", "suppressed", "sync_policy"]

Sync = Literal["never", "flush", "batch"]

_logger = logging.getLogger("otelflow")

_T = TypeVar("_T")


def setting(name: str, parse: Callable[[str], _T], default: _T) -> _T:
    """What the variable ``name`` says; ``default`` where it is not set, and, with a warning, where ``parse`` raises
    ValueError."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        _logger.warning("%s=%r is ignored: %s.", name, text, error)
        return default


def number(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a whole number is wanted, 0 or more")
    return int(text)


def sync_policy(text: str) -> Sync:
    """When a file has to be on the disk itself."""
    for known in ("never", "flush", "batch"):
        if text.lower() == known:
            return known
    raise ValueError("never, flush or batch is wanted")


@contextmanager
def suppressed() -> Iterator[None]:
    """No span is made of what the exporter itself does, whatever is instrumented."""
    token = context.attach(context.set_value(_suppress_key(), True))
    try:
        yield
    finally:
        context.detach(token)


def _suppress_key() -> str:
    # A private name: without it, nothing is suppressed.
    return getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
