"""Incoming baggage as attributes of a flow's span: the keys that the operator allows by name, and no others."""

from __future__ import annotations

from typing import Any

from otelflow._values.attribute import to_attribute
from otelflow.config import OTELFLOW_BAGGAGE_ATTRIBUTES, names_from_environment

__all__ = ["attributes_from_baggage"]

_KEYS = names_from_environment(OTELFLOW_BAGGAGE_ATTRIBUTES)


def attributes_from_baggage() -> tuple[dict[str, Any], ...]:
    """What the current baggage has under the allowed keys, as a part of a span's attributes; no part where none is
    allowed. Who sent the request wrote it: it is cut, and cleaned."""
    if not _KEYS:
        return ()
    from opentelemetry import baggage  # 2 ms that a program without flows does not need

    found = {key: baggage.get_baggage(key) for key in _KEYS}
    return ({key: to_attribute(key, value)[0] for key, value in found.items() if value is not None},)
