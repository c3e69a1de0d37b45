"""Encode small values of plain Python types as JSON, five times as fast as the general encoder.

Most artifacts are such values.
"""

from __future__ import annotations

import functools
from typing import Any

from otelflow._secrets.names import secret_in_name
from otelflow._secrets.patterns import MIN_SECRET_LENGTH, is_harmless

__all__ = ["MAX_DEPTH", "MIN_CARD_NUMBER", "small_json"]

MAX_DEPTH = 12
"""Maximum nesting. Deeper values are not read."""
MIN_CARD_NUMBER = 10**12
"""No number of a payment card is smaller."""


class _NotPlain(Exception):
    """A value needs the general encoder."""


def small_json(value: object, name: str, room: int) -> str | None:
    """Return ``value``, named ``name``, as JSON text in ASCII if it takes less than ``room``; else None.

    None means: a part may be a secret, is not of a plain type, or may not fit. Then
    :func:`otelflow._values.attribute.to_json` encodes the value; for plain values its result is the same. There a
    number counts as 8, a text as 4 plus its length.
    """
    if secret_in_name(name):
        return None
    try:
        encode_text = _text_encoder()
        text = (
            _encode_dict(value, 1, room, encode_text)
            if type(value) is dict
            else _encode_value(value, 0, room, encode_text)
        )
    except Exception:  # _NotPlain, or a dict that another thread changes
        return None
    size = len(text)
    if size * 8 < room or size + 8 * (1 + sum(map(text.count, ",:[{"))) < room:
        return text
    return None


@functools.cache
def _text_encoder() -> Any:
    from json.encoder import encode_basestring  # imported late: only programs that add artifacts need it

    return encode_basestring


def _encode_value(value: Any, depth: int, room: int, encode_text: Any) -> str:
    """Return ``value`` as JSON text of not much more than ``room`` characters."""
    kind = type(value)
    if kind is str:
        if len(value) < room and _is_plain(value):
            return encode_text(value)  # type: ignore[no-any-return]
    elif kind is int or kind is float:
        if -MIN_CARD_NUMBER < value < MIN_CARD_NUMBER:  # False for NaN, which JSON does not have
            return repr(value)
    elif value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    elif depth < MAX_DEPTH:
        if kind is dict:
            return _encode_dict(value, depth + 1, room, encode_text)
        if kind is list or (
            kind is tuple and not (len(value) == 2 and type(value[0]) is str and secret_in_name(value[0]))
        ):
            return _encode_list(value, depth + 1, room, encode_text)
    raise _NotPlain  # no method of it was called: an object of the user may do anything


def _encode_dict(value: dict[Any, Any], depth: int, room: int, encode_text: Any) -> str:
    parts = []
    for key, item in value.items():
        if type(key) is not str or len(key) > room or secret_in_name(key):
            raise _NotPlain
        if key.isidentifier() and len(key) < MIN_SECRET_LENGTH and key.isascii():
            name = f'"{key}"'
        elif _is_plain(key):
            name = encode_text(key)
        else:
            raise _NotPlain
        if type(item) is int and -MIN_CARD_NUMBER < item < MIN_CARD_NUMBER:
            part = f"{name}: {item}"
        else:
            part = f"{name}: {_encode_value(item, depth, room, encode_text)}"
        room -= len(part)
        if room < 0:
            raise _NotPlain
        parts.append(part)
    return f"{{{', '.join(parts)}}}"


def _encode_list(value: Any, depth: int, room: int, encode_text: Any) -> str:
    parts = []
    for item in value:
        part = _encode_value(item, depth, room, encode_text)
        room -= len(part)
        if room < 0:
            raise _NotPlain
        parts.append(part)
    return f"[{', '.join(parts)}]"


def _is_plain(text: str) -> bool:
    return text.isascii() and ((len(text) < MIN_SECRET_LENGTH and text.isalnum()) or is_harmless(text))
