"""Limit what goes on one span: how many events, and how many bytes of them."""

from __future__ import annotations

import sys
from typing import Any

from otelflow._values.text import truncate
from otelflow.config import OTELFLOW_MAX_SPAN_BYTES, OTELFLOW_OVERFLOW, choice_from_environment, number_from_environment

__all__ = [
    "CARRIES",
    "DIRECT_BYTES",
    "END_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_SPAN_BYTES",
    "direct_events",
    "estimated_size",
    "event_limit",
    "truncate_attributes",
]

MAX_SPAN_BYTES = int(number_from_environment(OTELFLOW_MAX_SPAN_BYTES, 65_536, least=4096))
"""How many bytes of attributes and events we put on one span."""

DIRECT_BYTES = MAX_SPAN_BYTES // 2
"""How many bytes of events go on a span as they come."""

MAX_EVENT_BYTES = MAX_SPAN_BYTES // 4
"""How many bytes one event may have."""

CARRIES = choice_from_environment(OTELFLOW_OVERFLOW, ("count", "spans")) == "spans"
"""Whether what a span has no room for goes on in child spans."""

_PREVIEW_BYTES = 256
"""What is left of a large text where there is no room for it."""
_SDK_EVENTS = 128
_EVENT_BYTES, _ATTRIBUTE_BYTES, END_BYTES = 32, 12, 1024
"""What OTLP adds: to an event (time, name, lengths), to an attribute (tags and lengths); and what is set when a span
ends, with its own fields."""


def event_limit(span: Any) -> int:
    """How many events ``span`` keeps. A private name of the SDK's; where it is missing, the specification's default."""
    limits = getattr(span, "_limits", None)
    most: Any = getattr(limits, "max_events", _SDK_EVENTS)
    return sys.maxsize if most is None else int(most)


def direct_events(span: Any) -> int:
    """How many events go on ``span`` as they come."""
    global _known
    limits = getattr(span, "_limits", None)
    known = _known
    if known[0] is not limits:  # spans of one tracer have the same
        most = event_limit(span)
        number = most if most == sys.maxsize else most - most // 4 if CARRIES else most // 2
        known = _known = (limits, number)
    return known[1]


_known: tuple[Any, int] = (object(), 0)


def estimated_size(attributes: Any) -> int:
    """About how many bytes attributes are on the wire."""
    size = _EVENT_BYTES
    for key, value in attributes.items():
        size += _ATTRIBUTE_BYTES + len(key)
        if type(value) is str:  # on the path of every artifact: no call for what is most of it
            size += len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
        else:
            size += sum(estimated_size({"": one}) for one in value) if isinstance(value, tuple) else 8
    return size


def truncate_attributes(given: dict[str, Any], most: int) -> tuple[dict[str, Any], int, int]:
    """``given`` with a preview of each large text, and no more of it than ``most`` bytes; their number; and how many
    values are shorter, or not there."""
    made: dict[str, Any] = {}
    size, number = estimated_size(made), 0
    for key, value in given.items():
        shorter = truncate(value, _PREVIEW_BYTES)[0] if isinstance(value, str) else value
        weight = estimated_size({key: shorter}) - estimated_size({})
        if size + weight > most:
            return made, size, number + len(given) - len(made)
        made[key] = shorter
        size += weight
        number += shorter != value
    return made, size, number
