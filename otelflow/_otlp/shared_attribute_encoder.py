"""Encode the attributes of lean spans from their shared parts: each part once for all tasks of a function in a flow."""

from __future__ import annotations

from typing import Any

from otelflow import attributes as wire
from otelflow._otlp.attribute_encoder import AttributeEncoder, varint
from otelflow._spans.lean_span import LeanSpan

__all__ = ["SharedAttributeEncoder"]

_MAX_CACHED = 1024
"""Limit of cached pairs of parts."""

_NO_ATTRIBUTES: dict[str, Any] = {}
_NUMBER_LIMIT = 16**28
"""A run id has 28 digits; this number and larger ones have more."""


class _Pair:
    """The encoded parts of a function and of a flow run, with a placeholder for the task's number in between."""

    __slots__ = ("keys", "pattern", "references")

    def __init__(self, attributes: AttributeEncoder, function: dict[str, Any], flow: dict[str, Any]) -> None:
        self.references = function, flow  # the cache identifies both by id()
        self.keys = {*function, wire.TASK_RUN_ID, *flow}
        self.pattern: bytes | None = None
        if len(self.keys) == len(function) + 1 + len(flow):  # otherwise one part overrides an attribute of another
            number = attributes.fields({wire.TASK_RUN_ID: f"task_{0:028x}"})[0][:-28]
            texts = b"".join([*attributes.fields(function), number]), b"".join(attributes.fields(flow))
            self.pattern = b"%028x".join(text.replace(b"%", b"%%") for text in texts)


class SharedAttributeEncoder:
    """Encodes the attributes of spans that still share them with other spans.

    Create one for each encoding, use it on one thread, and discard it.
    """

    def __init__(self, attributes: AttributeEncoder) -> None:
        self._attributes = attributes
        self._pairs: dict[tuple[int, int], _Pair] = {}

    def encode(self, span: Any) -> bytes:
        """Encode each attribute of ``span`` as a field, and the number of dropped attributes."""
        if not isinstance(span, LeanSpan):
            return b""
        parts, last = span._parts, span._last or _NO_ATTRIBUTES
        if len(parts) == 3 and type(parts[1]) is int and 0 <= parts[1] < _NUMBER_LIMIT:
            pair = self._pairs.get((id(parts[0]), id(parts[2]))) or self._add_pair(parts[0], parts[2])
            limit = span._limits.max_span_attributes
            if pair.pattern and pair.keys.isdisjoint(last) and (limit is None or len(pair.keys) + len(last) <= limit):
                return pair.pattern % parts[1] + self._attributes.encode(last)
        encoded = self._attributes.encode(span._attributes)
        dropped = span.dropped_attributes
        return encoded + b"\x50" + varint(dropped) if dropped else encoded

    def _add_pair(self, function: dict[str, Any], flow: dict[str, Any]) -> _Pair:
        if len(self._pairs) >= _MAX_CACHED:
            self._pairs.clear()
        pair = self._pairs[id(function), id(flow)] = _Pair(self._attributes, function, flow)
        return pair
