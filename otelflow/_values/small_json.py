"""JSON of small values of Python's own plain types, at a fifth of the price: what most artifacts are."""

from __future__ import annotations

import functools
from typing import Any

from otelflow._secrets.names import secret_in_name
from otelflow._secrets.patterns import SHORTEST, is_harmless

__all__ = ["DEPTH", "LEAST_CARD", "small_json"]

DEPTH = 12
"""What is nested deeper is not looked at."""
LEAST_CARD = 10**12
"""No number of a payment card is smaller."""


class _Unusual(Exception):
    """A value that has to be looked at more closely."""


def small_json(value: object, name: str, room: int) -> str | None:
    """``value``, which stands under ``name``, as JSON text in ASCII, where it takes up less than ``room``.

    None where anything of it may be a secret, is no plain value, or may not fit:
    :func:`otelflow._values.attribute.to_json` has another way for all that, which makes the same of what is plain.
    There a number takes up 8, a text 4 and its length.
    """
    if secret_in_name(name):
        return None
    try:
        encode = _encoder()
        text = _of_dict(value, 1, room, encode) if type(value) is dict else _written(value, 0, room, encode)
    except Exception:  # _Unusual; or a dict that another thread changes
        return None
    size = len(text)
    if size * 8 < room or size + 8 * (1 + sum(map(text.count, ",:[{"))) < room:
        return text
    return None


@functools.cache
def _encoder() -> Any:
    from json.encoder import encode_basestring  # for programs that add artifacts

    return encode_basestring


def _written(value: Any, depth: int, most: int, encode: Any) -> str:
    """JSON text of ``value``, of not much more than ``most`` characters."""
    kind = type(value)
    if kind is str:
        if len(value) < most and _is_plain(value):
            return encode(value)  # type: ignore[no-any-return]
    elif kind is int or kind is float:
        if -LEAST_CARD < value < LEAST_CARD:  # NaN, which JSON does not know, is not
            return repr(value)
    elif value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    elif depth < DEPTH:
        if kind is dict:
            return _of_dict(value, depth + 1, most, encode)
        if kind is list or (
            kind is tuple and not (len(value) == 2 and type(value[0]) is str and secret_in_name(value[0]))
        ):
            return _of_list(value, depth + 1, most, encode)
    raise _Unusual  # nothing was asked of it: an object of the user's may do anything


def _of_dict(value: dict[Any, Any], depth: int, most: int, encode: Any) -> str:
    parts = []
    for key, item in value.items():
        if type(key) is not str or len(key) > most or secret_in_name(key):
            raise _Unusual
        if key.isidentifier() and len(key) < SHORTEST and key.isascii():
            name = f'"{key}"'
        elif _is_plain(key):
            name = encode(key)
        else:
            raise _Unusual
        if type(item) is int and -LEAST_CARD < item < LEAST_CARD:
            part = f"{name}: {item}"
        else:
            part = f"{name}: {_written(item, depth, most, encode)}"
        most -= len(part)
        if most < 0:
            raise _Unusual
        parts.append(part)
    return f"{{{', '.join(parts)}}}"


def _of_list(value: Any, depth: int, most: int, encode: Any) -> str:
    parts = []
    for item in value:
        part = _written(item, depth, most, encode)
        most -= len(part)
        if most < 0:
            raise _Unusual
        parts.append(part)
    return f"[{', '.join(parts)}]"


def _is_plain(text: str) -> bool:
    return text.isascii() and ((len(text) < SHORTEST and text.isalnum()) or is_harmless(text))
