"""Attributes of lean spans as bytes: by their parts, encoded once for all tasks of a function in a flow."""

from __future__ import annotations

from typing import Any

from otelflow import attributes as wire
from otelflow._otlp.attribute_encoder import AttributeEncoder, varint
from otelflow._spans.lean_span import LeanSpan

__all__ = ["SharedAttributeEncoder"]

_MOST_KNOWN = 1024
"""Pairs of parts that are remembered for one encoding."""

_NOTHING: dict[str, Any] = {}
_NO_NUMBER = 16**28
"""A run id has 28 digits; a number from here on has more."""


class _Pair:
    """The parts of a function and of a flow run, as their tasks have them, with the task's number in between."""

    __slots__ = ("held", "keys", "pattern")

    def __init__(self, attributes: AttributeEncoder, function: dict[str, Any], flow: dict[str, Any]) -> None:
        self.held = function, flow  # they are known again by identity
        self.keys = {*function, wire.TASK_RUN_ID, *flow}
        self.pattern: bytes | None = None
        if len(self.keys) == len(function) + 1 + len(flow):  # else one overrides another
            number = attributes.fields({wire.TASK_RUN_ID: f"task_{0:028x}"})[0][:-28]
            texts = b"".join([*attributes.fields(function), number]), b"".join(attributes.fields(flow))
            self.pattern = b"%028x".join(text.replace(b"%", b"%%") for text in texts)


class SharedAttributeEncoder:
    """Writes the attributes of spans that have not made their own.

    It is made for one encoding, by one thread, and goes with it.
    """

    def __init__(self, attributes: AttributeEncoder) -> None:
        self._attributes = attributes
        self._pairs: dict[tuple[int, int], _Pair] = {}

    def written(self, span: Any) -> bytes:
        """A field for each attribute of ``span``, and the number of those that were dropped."""
        if not isinstance(span, LeanSpan):
            return b""
        parts, last = span._parts, span._last or _NOTHING
        if len(parts) == 3 and type(parts[1]) is int and 0 <= parts[1] < _NO_NUMBER:
            pair = self._pairs.get((id(parts[0]), id(parts[2]))) or self._pair(parts[0], parts[2])
            most = span._limits.max_span_attributes
            if pair.pattern and pair.keys.isdisjoint(last) and (most is None or len(pair.keys) + len(last) <= most):
                return pair.pattern % parts[1] + self._attributes.written(last)
        made = self._attributes.written(span._attributes)
        dropped = span.dropped_attributes
        return made + b"\x50" + varint(dropped) if dropped else made

    def _pair(self, function: dict[str, Any], flow: dict[str, Any]) -> _Pair:
        if len(self._pairs) >= _MOST_KNOWN:
            self._pairs.clear()
        made = self._pairs[id(function), id(flow)] = _Pair(self._attributes, function, flow)
        return made
