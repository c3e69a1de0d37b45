"""A whole value as JSON text, in pieces, within bounds of bytes and time.

What JSON cannot say is said as in the preview (:func:`otelflow._values.attribute.to_json`): cycles, bytes, NaN,
objects. What holds plain values only goes through the C encoder, a bounded number of values at once: so between any two
pieces there is a look at the clock, and room for other threads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from time import monotonic
from typing import Any

from otelflow._values.attribute import to_json
from otelflow._values.text import encodable_text

__all__ = ["OutOfBounds", "whole_json"]

_AT_ONCE, _SLICE = 2048, 512
"""How many values go through the encoder at once, and how many items of a container are looked at for that."""
_DEPTH = 100
_PLAIN = {str, int, float, bool, type(None)}
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False).encode
_REFUSALS = (ValueError, TypeError, RecursionError)
"""NaN, an integer of too many digits, a key that is no text, deep nesting: then one value after the other."""


class OutOfBounds(Exception):
    """The value is larger than allowed, or takes longer."""


def whole_json(value: object, most_bytes: int, seconds: float) -> bytes:
    """``value`` as JSON in UTF-8. Raises :class:`OutOfBounds`."""
    writer = _Writer(most_bytes, seconds)
    writer.value(value, 0)
    return b"".join(writer.pieces)


class _Writer:
    def __init__(self, most_bytes: int, seconds: float) -> None:
        self.pieces: list[bytes] = []
        self._room = most_bytes
        self._end = monotonic() + seconds
        self._open: set[int] = set()

    def _put(self, text: str) -> None:
        piece = encodable_text(text).encode()
        self._room -= len(piece)
        if self._room < 0 or monotonic() > self._end:
            raise OutOfBounds
        self.pieces.append(piece)

    def value(self, value: object, depth: int) -> None:
        """Put one value, whatever it is."""
        if _plain_values(value):
            try:
                return self._put(_encode(value))
            except _REFUSALS:
                pass
        if id(value) in self._open or depth >= _DEPTH:
            what = "nested too deep" if depth >= _DEPTH else "cycle"
            return self._put(_encode(f"<{what}: {type(value).__name__}>"))
        self._open.add(id(value))
        try:
            self._odd_value(value, depth)
        finally:
            self._open.discard(id(value))

    def _odd_value(self, value: Any, depth: int) -> None:
        parts: Any = None
        try:
            if isinstance(value, Mapping):
                parts = iter(value.items())
            elif isinstance(value, list | tuple | set | frozenset):
                parts = iter(value)
            elif is_dataclass(value) and not isinstance(value, type):
                parts = ((field.name, getattr(value, field.name, None)) for field in fields(value))
        except Exception:  # a mapping of the user's own
            parts = None
        if parts is None:
            self._put(_encode(str.__str__(value)) if isinstance(value, str) else to_json(value).text)
        else:
            self._container(parts, not isinstance(value, list | tuple | set | frozenset), depth)

    def _container(self, parts: Iterator[Any], pairs: bool, depth: int) -> None:
        self._put("{" if pairs else "[")
        comma = ""
        while True:
            try:
                some = list(islice(parts, _SLICE))
            except Exception as error:  # reading on may do anything
                told = f"<reading it raised {type(error).__name__}>"
                some, parts = [("…", told) if pairs else told], iter(())
            if not some:
                break
            for batch, is_plain in _batches(some, pairs):
                comma = self._batch(batch, is_plain, pairs, depth, comma)
        self._put("}" if pairs else "]")

    def _batch(self, batch: list[Any], is_plain: bool, pairs: bool, depth: int, comma: str) -> str:
        if is_plain:
            try:
                self._put(comma + _encode(dict(batch) if pairs else batch)[1:-1])
                return ","
            except _REFUSALS:
                pass
        for item in batch:
            if pairs:
                key, item = item
                self._put(comma + _encode(key if type(key) is str else to_json(key).text) + ": ")
            else:
                self._put(comma)
            self.value(item, depth + 1)
            comma = ","
        return comma


def _batches(some: list[Any], pairs: bool) -> Iterable[tuple[list[Any], bool]]:
    """Items in groups: those that go through the encoder at once, and the others, one each."""
    values = [item for _, item in some] if pairs else some
    has_text_keys = not pairs or {type(key) for key, _ in some} == {str}
    if has_text_keys and set(map(type, values)) <= _PLAIN:
        yield some, True
        return
    batch: list[Any] = []
    number = 0
    for item, value in zip(some, values, strict=True):
        plain = _plain_values(value) if has_text_keys else 0
        if not plain or number + plain > _AT_ONCE:
            if batch:
                yield batch, True
            batch, number = [], 0
        if plain:
            batch.append(item)
            number += plain
        else:
            yield [item], False
    if batch:
        yield batch, True


def _plain_values(value: object) -> int:
    """How many values there are in ``value``, itself included; 0 where they are many, or not all plain."""
    if type(value) in _PLAIN:
        return 1
    number, waiting = 1, [value]
    while waiting:
        inner: Any = waiting.pop()
        if type(inner) is dict:
            if not all(type(key) is str for key in inner):
                return 0
            inner = inner.values()
        elif type(inner) not in (list, tuple):
            return 0
        number += len(inner)
        if number > _AT_ONCE:
            return 0
        waiting += [one for one in inner if type(one) not in _PLAIN]
    return number
