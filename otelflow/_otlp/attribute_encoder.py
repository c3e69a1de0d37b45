"""Encode attributes as OTLP protobuf bytes, without building message objects.

The messages are those of ``opentelemetry/proto/common/v1/common.proto``
(https://github.com/open-telemetry/opentelemetry-proto). The wire format is
https://protobuf.dev/programming-guides/encoding/. An attribute that OTLP cannot represent is left out, and the others
are kept, as in OpenTelemetry's encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any

from opentelemetry.attributes import BoundedAttributes

from otelflow._runtime.log_once import log_once

__all__ = ["AttributeEncoder", "EncodingCache", "text_field", "utf8", "varint", "with_length"]

_MAX_DEPTH = 32
"""A value nested deeper is left out: decoders refuse a whole request whose messages are more than 100 deep."""

_MAX_CACHED = 1024
"""Limit of keys, and of attribute mappings, that one encoder caches."""

_MAX_TEXTS_PER_KEY = 64
"""Limit of texts that are cached for one key: enough for task names, few enough for ids that never occur again."""

_DOUBLE = Struct("<Bd")
_BYTE = [bytes((number,)) for number in range(128)]
_SHORT_TEXT = [bytes((number + 2, 0x0A, number)) for number in range(126)]
"""Bytes before a short text in an AnyValue, by the text's length: length of the AnyValue, tag, length of the text."""


def varint(number: int) -> bytes:
    """Encode a number, 0 or larger, in protobuf's base 128, the low seven bits first."""
    if number < 128:
        return _BYTE[number]
    if number < 16384:
        return bytes((number & 127 | 128, number >> 7))
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def with_length(body: bytes) -> bytes:
    """Prefix ``body`` with its length: the form in which a message, a text or bytes follow their tag."""
    return varint(len(body)) + body


def utf8(text: str) -> bytes:
    """Encode ``text`` in UTF-8; U+FFFD replaces half of a surrogate pair, which UTF-8 cannot represent.

    Such halves mostly come from file names that are not UTF-8. Protobuf refuses them, and the whole batch with them.
    """
    try:
        return str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def text_field(tag: bytes, text: str | None) -> bytes:
    """Encode a text as a field; return no bytes if it is empty."""
    return tag + with_length(utf8(text)) if text else b""


def _any_value(value: Any, depth: int = 0) -> bytes:
    """Encode an AnyValue, prefixed with its length."""
    if isinstance(value, str):
        text = utf8(value)
        return _SHORT_TEXT[len(text)] + text if len(text) < 126 else with_length(b"\x0a" + with_length(text))
    if value is None:
        return b"\x00"
    if isinstance(value, bool):
        return b"\x02\x10\x01" if value else b"\x02\x10\x00"
    if isinstance(value, int):
        return _integer_value(value)
    if isinstance(value, float):
        return b"\x09" + _DOUBLE.pack(0x21, value)
    if isinstance(value, bytes):
        return with_length(b"\x3a" + with_length(value))
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Sequence):
        return with_length(b"\x2a" + with_length(b"".join([b"\x0a" + _any_value(item, depth + 1) for item in value])))
    if isinstance(value, Mapping):
        pairs = [
            b"\x0a" + with_length(_key_prefix(str(key)) + _any_value(item, depth + 1)) for key, item in value.items()
        ]
        return with_length(b"\x32" + with_length(b"".join(pairs)))
    raise TypeError(f"values of type {type(value).__name__} are not supported")


def _integer_value(value: int) -> bytes:
    if -(2**63) <= value < 2**63:
        return with_length(b"\x18" + varint(int(value) & 0xFFFFFFFFFFFFFFFF))
    raise ValueError("a number of more than 64 bits")


def _key_prefix(key: str) -> bytes:
    """Encode the part of a KeyValue before the length of its value."""
    return b"\x0a" + with_length(utf8(key)) + b"\x12"


class EncodingCache(dict[Any, bytes]):
    """Cache of encoded values: encodes a missing value, and stores it while there are fewer than 1,024."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode

    def __missing__(self, value: Any) -> bytes:
        encoded = self._encode(value)
        if len(self) < _MAX_CACHED:
            self[value] = encoded
        return encoded


class AttributeEncoder:
    """Encodes attributes as fields with one tag, and caches them: runs share most of their attributes.

    Create one for each encoding, use it on one thread, and discard it. The cache identifies attribute mappings by
    ``id()``, so it holds a reference to each of them.
    """

    def __init__(self, tag: bytes) -> None:
        self._tag = tag
        self._keys = EncodingCache(_key_prefix)
        self._texts: dict[str, dict[str, bytes]] = {}
        self._mappings: dict[int, bytes] = {}
        self._references: list[Any] = []

    def encode(self, attributes: Mapping[str, Any] | None) -> bytes:
        """Encode each attribute as a field, in their order, and cache the result for this mapping."""
        if type(attributes) is BoundedAttributes:
            attributes = attributes._dict
        encoded = self._mappings.get(id(attributes))
        if encoded is None:
            encoded = b"".join(self.fields(attributes))
            if len(self._references) >= _MAX_CACHED:
                self._mappings, self._references = {}, []
            self._mappings[id(attributes)] = encoded
            self._references.append(attributes)
        return encoded

    def fields(self, attributes: Mapping[str, Any] | None) -> list[bytes]:
        """Return the field of each attribute. For mappings that do not occur again: they are not cached as a whole."""
        if type(attributes) is BoundedAttributes:
            attributes = attributes._dict
        fields: list[bytes] = []
        if not attributes:
            return fields
        texts = self._texts
        for key, value in attributes.items():
            if type(value) is not str:
                fields.append(self._field(key, value))
            elif (field := texts.get(key, _NO_TEXTS).get(value)) is not None:
                fields.append(field)
            else:
                fields.append(self._text_field(key, value))
        return fields

    def _text_field(self, key: str, value: str) -> bytes:
        field = self._field(key, value)
        cached = self._texts.get(key)
        if cached is None and len(self._texts) < _MAX_CACHED:
            cached = self._texts[key] = {}
        if cached is not None and len(cached) < _MAX_TEXTS_PER_KEY:
            cached[value] = field
        return field

    def _field(self, key: str, value: Any) -> bytes:
        """Encode any attribute; return no bytes if OTLP cannot represent it."""
        try:
            return self._tag + with_length(self._keys[key] + _any_value(value))
        except Exception as error:  # methods of a user's class may raise anything
            log_once(f"otlp {key}", "The attribute %r was left out: OTLP cannot represent it (%s).", key, error)
            return b""


_NO_TEXTS: dict[str, bytes] = {}
