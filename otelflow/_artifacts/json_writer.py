"""Serialize a whole value as JSON, piece by piece, within limits of bytes and time.

Values that JSON does not have (cycles, bytes, NaN, objects) become the same text as in the preview
(:func:`otelflow._values.attribute.to_json`). Plain values go through the C encoder, a bounded number at a time. Between
two pieces the writer checks the clock, and other threads can run.
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

_BATCH_VALUES, _SLICE_ITEMS = 2048, 512
"""Number of values in one call of the encoder, and number of a container's items that are examined at a time."""
_MAX_DEPTH = 100
_PLAIN_TYPES = {str, int, float, bool, type(None)}
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False).encode
_ENCODER_ERRORS = (ValueError, TypeError, RecursionError)
"""Raised for NaN, an integer with too many digits, a key that is not text, deep nesting. Then each value is written
separately."""


class OutOfBounds(Exception):
    """The value is larger than the limit, or takes more time than the limit."""


def whole_json(value: object, max_bytes: int, seconds: float) -> bytes:
    """Return ``value`` as JSON in UTF-8. Raises :class:`OutOfBounds`."""
    writer = _Writer(max_bytes, seconds)
    writer.write(value, 0)
    return b"".join(writer.pieces)


class _Writer:
    def __init__(self, max_bytes: int, seconds: float) -> None:
        self.pieces: list[bytes] = []
        self._room = max_bytes
        self._deadline = monotonic() + seconds
        self._open: set[int] = set()
        """Ids of the containers around the current value, to detect cycles."""

    def _append(self, text: str) -> None:
        piece = encodable_text(text).encode()
        self._room -= len(piece)
        if self._room < 0 or monotonic() > self._deadline:
            raise OutOfBounds
        self.pieces.append(piece)

    def write(self, value: object, depth: int) -> None:
        """Append one value of any kind."""
        if _count_plain_values(value):
            try:
                return self._append(_encode(value))
            except _ENCODER_ERRORS:
                pass
        if id(value) in self._open or depth >= _MAX_DEPTH:
            reason = "nested too deep" if depth >= _MAX_DEPTH else "cycle"
            return self._append(_encode(f"<{reason}: {type(value).__name__}>"))
        self._open.add(id(value))
        try:
            self._write_item_by_item(value, depth)
        finally:
            self._open.discard(id(value))

    def _write_item_by_item(self, value: Any, depth: int) -> None:
        iterator: Any = None
        try:
            if isinstance(value, Mapping):
                iterator = iter(value.items())
            elif isinstance(value, list | tuple | set | frozenset):
                iterator = iter(value)
            elif is_dataclass(value) and not isinstance(value, type):
                iterator = ((field.name, getattr(value, field.name, None)) for field in fields(value))
        except Exception:  # a mapping class of the user may raise anything
            iterator = None
        if iterator is None:
            self._append(_encode(str.__str__(value)) if isinstance(value, str) else to_json(value).text)
        else:
            self._write_container(iterator, not isinstance(value, list | tuple | set | frozenset), depth)

    def _write_container(self, iterator: Iterator[Any], is_mapping: bool, depth: int) -> None:
        self._append("{" if is_mapping else "[")
        comma = ""
        while True:
            try:
                items = list(islice(iterator, _SLICE_ITEMS))
            except Exception as error:  # an iterator of the user may raise anything
                message = f"<reading it raised {type(error).__name__}>"
                items, iterator = [("…", message) if is_mapping else message], iter(())
            if not items:
                break
            for batch, is_plain in _batches(items, is_mapping):
                comma = self._write_batch(batch, is_plain, is_mapping, depth, comma)
        self._append("}" if is_mapping else "]")

    def _write_batch(self, batch: list[Any], is_plain: bool, is_mapping: bool, depth: int, comma: str) -> str:
        if is_plain:
            try:
                self._append(comma + _encode(dict(batch) if is_mapping else batch)[1:-1])
                return ","
            except _ENCODER_ERRORS:
                pass
        for item in batch:
            if is_mapping:
                key, item = item
                self._append(comma + _encode(key if type(key) is str else to_json(key).text) + ": ")
            else:
                self._append(comma)
            self.write(item, depth + 1)
            comma = ","
        return comma


def _batches(items: list[Any], is_mapping: bool) -> Iterable[tuple[list[Any], bool]]:
    """Yield batches of items, each with True if the encoder takes it whole. Every other item is a batch of its own."""
    values = [item for _, item in items] if is_mapping else items
    has_text_keys = not is_mapping or {type(key) for key, _ in items} == {str}
    if has_text_keys and set(map(type, values)) <= _PLAIN_TYPES:
        yield items, True
        return
    batch: list[Any] = []
    number = 0
    for item, value in zip(items, values, strict=True):
        plain = _count_plain_values(value) if has_text_keys else 0
        if not plain or number + plain > _BATCH_VALUES:
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


def _count_plain_values(value: object) -> int:
    """Count the values in ``value``, including itself. Return 0 if there are too many, or if one is not plain."""
    if type(value) in _PLAIN_TYPES:
        return 1
    number, stack = 1, [value]
    while stack:
        inner: Any = stack.pop()
        if type(inner) is dict:
            if not all(type(key) is str for key in inner):
                return 0
            inner = inner.values()
        elif type(inner) not in (list, tuple):
            return 0
        number += len(inner)
        if number > _BATCH_VALUES:
            return 0
        stack += [item for item in inner if type(item) not in _PLAIN_TYPES]
    return number
