"""Turn incoming baggage into attributes of a flow's span: only the keys that the operator allows by name."""

from __future__ import annotations

from typing import Any

from otelflow._values.attribute import to_attribute
from otelflow.config import OTELFLOW_BAGGAGE_ATTRIBUTES, names_from_environment

__all__ = ["attributes_from_baggage"]

_KEYS = names_from_environment(OTELFLOW_BAGGAGE_ATTRIBUTES)


def attributes_from_baggage() -> tuple[dict[str, Any], ...]:
    """Return the allowed keys of the current baggage, as one part of a span's attributes; no part if none is allowed.

    The sender of the request wrote the values: they are scrubbed and truncated.
    """
    if not _KEYS:
        return ()
    from opentelemetry import baggage  # takes 2 ms, which a program without flows need not spend

    values = {key: baggage.get_baggage(key) for key in _KEYS}
    return ({key: to_attribute(key, value)[0] for key, value in values.items() if value is not None},)
