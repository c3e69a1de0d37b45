"""Turn any value into a span attribute or JSON text: without secrets, bounded in size and time, never raising."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from time import monotonic
from typing import Any

from otelflow._values import scrub
from otelflow._values.scrub import pending_redacted_count, scrub_text, scrub_value
from otelflow._values.small_json import MAX_DEPTH, MIN_CARD_NUMBER, small_json
from otelflow._values.text import MAX_VALUE_BYTES, scrub_and_truncate
from otelflow.config import OTELFLOW_CAPTURE_MILLIS, number_from_environment

__all__ = ["JsonText", "sha256_of", "simple_json", "to_attribute", "to_json"]

_CAPTURE_SECONDS = number_from_environment(OTELFLOW_CAPTURE_MILLIS, 50, least=1) / 1000
_MAX_HASHED_BYTES = 16 << 20
"""Maximum size of a text that is hashed while the program waits: this takes ten milliseconds."""


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__}: repr() raised {type(error).__name__}>"


def to_attribute(name: str, value: object) -> tuple[Any, bool]:
    """Return the value of the attribute ``name`` as OpenTelemetry accepts it, and whether it was cut.

    bool, int and float stay, text is truncated, lists of one primitive type become tuples. All else becomes JSON text.
    Secrets are redacted: the whole value under a secret name, and secrets inside texts.
    """
    try:
        redacted = scrub_value(name, value)
        return _convert(name, value) if redacted is None else scrub_and_truncate(redacted)
    except Exception as error:  # an unbound proxy, a list of the user's class: reading it may raise anything
        return f"<{type(value).__name__}: reading it raised {type(error).__name__}>", False


def _convert(name: str, value: object) -> tuple[Any, bool]:
    if isinstance(value, bool | int | float):
        if not isinstance(value, int) or -MIN_CARD_NUMBER < value < MIN_CARD_NUMBER:
            return value, False
        return _convert_large_int(name, value)
    if isinstance(value, str):
        return scrub_and_truncate(str(value), name=name)
    if isinstance(value, list | tuple) and value and len(value) <= 64:
        kind = type(value[0])
        if kind in (bool, int, float, str) and all(type(item) is kind for item in value):
            parts = [_convert(name, item) for item in value]
            items = tuple(part for part, _ in parts)
            if all(type(part) is kind for part in items):  # OpenTelemetry requires one type in a list
                return items, any(was_cut for _, was_cut in parts)
    json_text = to_json(value)
    return json_text.text, json_text.was_cut


def _convert_large_int(name: str, value: int) -> tuple[Any, bool]:
    if value.bit_length() > 2048:
        return f"<int of {value.bit_length()} bits>", True
    text = scrub_text(str(value), name)
    if text == str(value) and -(2**63) <= value < 2**63:  # OTLP integers have 64 bits
        return value, False
    return text, False


class JsonText:
    """JSON text within the limit, whether parts were left out, and size and SHA-256 of the whole if known."""

    __slots__ = ("sha256", "size", "text", "was_cut")

    def __init__(self, text: str, was_cut: bool, size: int | None = None, sha256: str | None = None) -> None:
        self.text, self.was_cut, self.size, self.sha256 = text, was_cut, size, sha256


def to_json(value: object, limit: int = MAX_VALUE_BYTES, name: str = "") -> JsonText:
    """Return ``value``, named ``name``, as JSON text of at most ``limit`` bytes, without secrets.

    A placeholder describes what JSON cannot express: cycles, bytes, NaN, deep nesting. Objects become their fields or
    their repr. The time is bounded as well: of a large value, only as much is read as fits.
    """
    text = simple_json(value, name, limit)
    if text is None:
        return _build_json(value, limit, name)
    return JsonText(text, False, len(text), sha256_of(text))


def simple_json(value: object, name: str, limit: int = MAX_VALUE_BYTES) -> str | None:
    """Return the JSON text of a small, plain value that needs no redaction; it is ASCII. None if that is uncertain."""
    if scrub._has_custom_rules:
        return None
    text = small_json(value, name, limit - limit // 8)
    return text if text is not None and len(text) <= limit else None


def sha256_of(text: str) -> str:
    """Return the SHA-256 of an encodable text, as hex digits."""
    return _encoder_and_sha256()[1](text.encode()).hexdigest()  # type: ignore[no-any-return]


def _build_json(value: object, limit: int, name: str) -> JsonText:
    preview, count_before = _Preview(limit), pending_redacted_count()
    preview_value = preview.copy_named(name, value, 0)
    encode, sha256 = _encoder_and_sha256()
    text = encode(preview_value)
    if len(text.encode()) > limit:
        text, _ = scrub_and_truncate(text, limit)
        preview.was_cut = True
    if pending_redacted_count() != count_before:  # size and digest would reveal a short secret
        return JsonText(text, preview.was_cut)
    data = text.encode() if not preview.was_cut else _bytes_to_hash(value)
    if data is None:
        return JsonText(text, True)
    return JsonText(text, preview.was_cut, len(data), sha256(data).hexdigest())


@functools.cache
def _encoder_and_sha256() -> tuple[Any, Any]:
    """Return the JSON encoder and SHA-256. Cached and imported late: both take 5 ms, and only artifacts need them."""
    from hashlib import sha256
    from json import JSONEncoder

    return JSONEncoder(ensure_ascii=False).encode, sha256


def _bytes_to_hash(value: object) -> bytes | None:
    """Return the bytes of a text or bytes. None for containers and huge values: hashing them takes too long."""
    if type(value) in (str, bytes, bytearray) and len(value) > _MAX_HASHED_BYTES:  # type: ignore[arg-type]
        return None
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace")
    return bytes(value) if type(value) in (bytes, bytearray) else None  # type: ignore[call-overload]


class _Preview:
    """Builds a JSON-safe copy of a value until the room or the time is used up."""

    def __init__(self, limit: int) -> None:
        self.room = limit - limit // 8  # the marks of cuts need space as well
        self.was_cut = False
        self._ancestors: set[int] = set()
        self._deadline = monotonic() + _CAPTURE_SECONDS

    def _is_full(self) -> bool:
        """Return whether no room or no time is left: a ``repr()`` of the user may take long."""
        return self.room <= 0 or monotonic() > self._deadline

    def copy(self, value: object, depth: int) -> Any:
        try:
            return self._copy(value, depth)
        except Exception as error:  # an unbound proxy, a mapping of the user's class: reading it may raise anything
            return self._add_text(f"<{type(value).__name__}: reading it raised {type(error).__name__}>")

    def _copy(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self.room -= 5
            return value
        if isinstance(value, int | float):
            return self._copy_number(value)
        if isinstance(value, str):
            return self._add_text(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            self.was_cut |= len(value) > 32
            return self._add_text(f"<{len(value)} bytes: {bytes(value[:32]).hex()}{'…' if len(value) > 32 else ''}>")
        if id(value) in self._ancestors:
            return self._add_text(f"<cycle: {type(value).__name__}>")
        self._ancestors.add(id(value))
        try:
            return self._copy_container(value, depth)
        finally:
            self._ancestors.discard(id(value))

    def _copy_number(self, value: float) -> Any:
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            return self._add_text(str(value))  # JSON has no NaN and no infinity
        if isinstance(value, int) and value.bit_length() > 2048:
            self.was_cut = True
            return self._add_text(f"<int of {value.bit_length()} bits>")
        if (
            isinstance(value, int)
            and not -MIN_CARD_NUMBER < value < MIN_CARD_NUMBER
            and scrub_text(str(value)) != str(value)
        ):
            return self._add_text(str(value))
        self.room -= 8
        return value if type(value) in (int, float) else (int(value) if isinstance(value, int) else float(value))

    def _add_text(self, text: str) -> str:
        clean_text, was_cut = scrub_and_truncate(text, max(64, self.room))
        self.room -= len(clean_text.encode()) + 4
        self.was_cut |= was_cut
        return clean_text

    def _copy_container(self, value: object, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            self.was_cut = True
            return self._add_text(f"<{type(value).__name__}: nested too deep>")
        if isinstance(value, Mapping):
            return self._copy_mapping(value.items(), len(value), depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._copy_sequence(value, depth)
        if is_dataclass(value) and not isinstance(value, type):
            pairs = [(field.name, getattr(value, field.name, None)) for field in fields(value)]
            return self._copy_mapping(pairs, len(pairs), depth)
        return self._add_text(_safe_repr(value))

    def _copy_mapping(self, items: Any, length: int, depth: int) -> dict[str, Any]:
        copies: dict[str, Any] = {}
        for key, item in items:
            if self._is_full():
                self.was_cut = True
                copies["…"] = f"{length - len(copies)} more"
                break
            name = key if isinstance(key, str) else _safe_repr(key)
            copies[self._add_text(name)] = self.copy_named(name, item, depth + 1)
        return copies

    def copy_named(self, name: str, item: object, depth: int) -> Any:
        try:
            redacted = scrub_value(name, item)
        except Exception:  # copy() reports it
            redacted = None
        return self.copy(item, depth) if redacted is None else self._add_text(redacted)

    def _copy_sequence(self, items: Any, depth: int) -> list[Any]:
        if isinstance(items, tuple) and len(items) == 2 and isinstance(items[0], str):  # a header: name, value
            return [self._add_text(items[0]), self.copy_named(items[0], items[1], depth + 1)]
        copies: list[Any] = []
        for item in items:
            if self._is_full():
                self.was_cut = True
                copies.append(f"… {len(items) - len(copies)} more")
                break
            copies.append(self.copy(item, depth + 1))
        return copies
