"""OTLP's attributes as bytes of protobuf's wire format, written without message objects in between.

The shape is that of ``opentelemetry/proto/common/v1/common.proto`` (https://github.com/open-telemetry/opentelemetry-proto),
the encoding https://protobuf.dev/programming-guides/encoding/. What OTLP has no place for is left out as upstream's
encoder leaves it out: that attribute, not the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any

from opentelemetry.attributes import BoundedAttributes

from otelflow._runtime.log_once import log_once

__all__ = ["AttributeEncoder", "EncodingCache", "sized", "text_field", "utf8", "varint"]

_MOST_DEPTH = 32
"""A value nested deeper is left out: decoders refuse a whole request whose messages are more than 100 deep."""

_MOST_KNOWN = 1024
"""Keys, and sets of attributes, that are remembered for one encoding."""

_MOST_VALUES = 64
"""Texts of one key that are remembered: enough for the names of tasks, few enough for ids that never come again."""

_DOUBLE = Struct("<Bd")
_BYTE = [bytes((number,)) for number in range(128)]
_SHORT_TEXT = [bytes((number + 2, 0x0A, number)) for number in range(126)]
"""By the length of a text: the length of an AnyValue of it, and what stands in that before the text."""


def varint(number: int) -> bytes:
    """A number from 0 in protobuf's base 128, the low seven bits first."""
    if number < 128:
        return _BYTE[number]
    if number < 16384:
        return bytes((number & 127 | 128, number >> 7))
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def sized(body: bytes) -> bytes:
    """``body`` with its length before it, as a message, a text or bytes stand after their tag."""
    return varint(len(body)) + body


def utf8(text: str) -> bytes:
    """``text`` in UTF-8; U+FFFD where it has half of a surrogate pair, for which UTF-8 has no place.

    They come from file names that are not UTF-8, mostly. Protobuf refuses them, and the batch with them.
    """
    try:
        return str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def text_field(tag: bytes, text: str | None) -> bytes:
    """A text as a field; nothing where it is empty."""
    return tag + sized(utf8(text)) if text else b""


def _any_value(value: Any, depth: int = 0) -> bytes:
    """An AnyValue, with its length before it."""
    if isinstance(value, str):
        text = utf8(value)
        return _SHORT_TEXT[len(text)] + text if len(text) < 126 else sized(b"\x0a" + sized(text))
    if value is None:
        return b"\x00"
    if isinstance(value, bool):
        return b"\x02\x10\x01" if value else b"\x02\x10\x00"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\x09" + _DOUBLE.pack(0x21, value)
    if isinstance(value, bytes):
        return sized(b"\x3a" + sized(value))
    if depth > _MOST_DEPTH:
        raise ValueError(f"nested more than {_MOST_DEPTH} deep")
    if isinstance(value, Sequence):
        return sized(b"\x2a" + sized(b"".join([b"\x0a" + _any_value(item, depth + 1) for item in value])))
    if isinstance(value, Mapping):
        pairs = [b"\x0a" + sized(_key(str(key)) + _any_value(item, depth + 1)) for key, item in value.items()]
        return sized(b"\x32" + sized(b"".join(pairs)))
    raise TypeError(f"no type of OTLP's: {type(value).__name__}")


def _integer(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return sized(b"\x18" + varint(int(value) & 0xFFFFFFFFFFFFFFFF))
    raise ValueError("a number of more than 64 bits")


def _key(key: str) -> bytes:
    """What stands in a KeyValue before the length of its value."""
    return b"\x0a" + sized(utf8(key)) + b"\x12"


class EncodingCache(dict[Any, bytes]):
    """Bytes that were made of something before, and are again where they are not there; bounded."""

    def __init__(self, make: Callable[[Any], bytes]) -> None:
        self._make = make

    def __missing__(self, of: Any) -> bytes:
        made = self._make(of)
        if len(self) < _MOST_KNOWN:
            self[of] = made
        return made


class AttributeEncoder:
    """Writes attributes as fields with one tag, and remembers what it wrote: runs have most of theirs in common.

    It is made for one encoding, by one thread, and goes with it. Sets of attributes are known again by identity, so
    each is held for as long.
    """

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._keys = EncodingCache(_key)
        self._texts: dict[str, dict[str, bytes]] = {}
        self._sets: dict[int, bytes] = {}
        self._held: list[Any] = []

    def written(self, attributes: Mapping[str, Any] | None) -> bytes:
        """A field for each attribute, in their order."""
        if type(attributes) is BoundedAttributes:
            attributes = attributes._dict
        made = self._sets.get(id(attributes))
        if made is None:
            made = b"".join(self.fields(attributes))
            if len(self._held) >= _MOST_KNOWN:
                self._sets, self._held = {}, []
            self._sets[id(attributes)] = made
            self._held.append(attributes)
        return made

    def fields(self, attributes: Mapping[str, Any] | None) -> list[bytes]:
        """The fields one by one, of a set that is not to be remembered as a whole."""
        if type(attributes) is BoundedAttributes:
            attributes = attributes._dict
        made: list[bytes] = []
        if not attributes:
            return made
        texts = self._texts
        for key, value in attributes.items():
            if type(value) is not str:
                made.append(self._value(key, value))
            elif (field := texts.get(key, _NOTHING).get(value)) is not None:
                made.append(field)
            else:
                made.append(self._text(key, value))
        return made

    def _text(self, key: str, value: str) -> bytes:
        made = self._value(key, value)
        known = self._texts.get(key)
        if known is None and len(self._texts) < _MOST_KNOWN:
            known = self._texts[key] = {}
        if known is not None and len(known) < _MOST_VALUES:
            known[value] = made
        return made

    def _value(self, key: str, value: Any) -> bytes:
        """Any attribute; nothing, where OTLP has no place for it."""
        try:
            return self._tag + sized(self._keys[key] + _any_value(value))
        except Exception as error:  # a value of any class may do anything when it is looked at
            log_once(f"otlp {key}", "The attribute %r was left out: OTLP has no place for it (%s).", key, error)
            return b""


_NOTHING: dict[str, bytes] = {}
