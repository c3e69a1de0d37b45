"""Limit the events of one span, in number and in bytes."""

from __future__ import annotations

import sys
from typing import Any

from otelflow._values.text import truncate
from otelflow.config import (
    OTELFLOW_MAX_SPAN_BYTES,
    OTELFLOW_OVERFLOW,
    choice_from_environment,
    whole_number_from_environment,
)

__all__ = [
    "DIRECT_BYTES",
    "END_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_SPAN_BYTES",
    "USES_CHILD_SPANS",
    "direct_events",
    "estimated_size",
    "event_limit",
    "truncate_attributes",
]

MAX_SPAN_BYTES = whole_number_from_environment(OTELFLOW_MAX_SPAN_BYTES, 65_536, least=4096)
"""Largest size of a span's attributes and events, in bytes."""

DIRECT_BYTES = MAX_SPAN_BYTES // 2
"""Largest size of the events that go on a span immediately, in bytes. Later events go to the overflow."""

MAX_EVENT_BYTES = MAX_SPAN_BYTES // 4
"""Largest size of one event, in bytes."""

USES_CHILD_SPANS = choice_from_environment(OTELFLOW_OVERFLOW, ("count", "spans")) == "spans"
"""True if events that a span has no room for go to child spans."""

_PREVIEW_BYTES = 256
"""Size of the preview that replaces a large text, in bytes."""
_SDK_EVENTS = 128
_EVENT_BYTES, _ATTRIBUTE_BYTES, END_BYTES = 32, 12, 1024
"""Bytes that OTLP adds to an event (time, name, lengths) and to an attribute (tags, lengths).

``END_BYTES`` is for the span's own fields and the attributes set when it ends."""


def event_limit(span: Any) -> int:
    """Return how many events ``span`` keeps.

    Reads a private name of the SDK. Without it, returns the specification's default.
    """
    limits = getattr(span, "_limits", None)
    limit: Any = getattr(limits, "max_events", _SDK_EVENTS)
    return sys.maxsize if limit is None else int(limit)


def direct_events(span: Any) -> int:
    """Return how many events go on ``span`` immediately. Later events go to the overflow."""
    global _cache
    limits = getattr(span, "_limits", None)
    cached = _cache
    if cached[0] is not limits:  # all spans of one tracer have the same limits
        limit = event_limit(span)
        number = limit if limit == sys.maxsize else limit - limit // 4 if USES_CHILD_SPANS else limit // 2
        cached = _cache = (limits, number)
    return cached[1]


_cache: tuple[Any, int] = (object(), 0)
"""The limits of the last span, and the number for them."""


def estimated_size(attributes: Any) -> int:
    """Return the approximate size of ``attributes`` on the wire, in bytes."""
    size = _EVENT_BYTES
    for key, value in attributes.items():
        size += _ATTRIBUTE_BYTES + len(key)
        if type(value) is str:  # every artifact comes here, and most of it is text: no call for that
            size += len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
        else:
            size += sum(estimated_size({"": item}) for item in value) if isinstance(value, tuple) else 8
    return size


def truncate_attributes(attributes: dict[str, Any], limit: int) -> tuple[dict[str, Any], int, int]:
    """Truncate ``attributes`` to at most ``limit`` bytes, with a preview in place of each large text.

    Returns the attributes, their size in bytes, and the number of values that are shortened or missing.
    """
    truncated: dict[str, Any] = {}
    size, number = estimated_size(truncated), 0
    for key, value in attributes.items():
        preview = truncate(value, _PREVIEW_BYTES)[0] if isinstance(value, str) else value
        weight = estimated_size({key: preview}) - estimated_size({})
        if size + weight > limit:
            return truncated, size, number + len(attributes) - len(truncated)
        truncated[key] = preview
        size += weight
        number += preview != value
    return truncated, size, number
