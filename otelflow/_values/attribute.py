"""Turn any value into a span attribute or JSON text: without secrets, bounded in size and time, and never raising."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from time import monotonic
from typing import Any

from otelflow._values import scrub
from otelflow._values.scrub import redacted_here, scrub_text, scrub_value
from otelflow._values.small_json import DEPTH, LEAST_CARD, small_json
from otelflow._values.text import MAX_VALUE_BYTES, scrub_and_truncate
from otelflow.config import OTELFLOW_CAPTURE_MILLIS, number_from_environment

__all__ = ["JsonText", "sha256_of", "simple_json", "to_attribute", "to_json"]

_SECONDS = number_from_environment(OTELFLOW_CAPTURE_MILLIS, 50, least=1) / 1000
_MOST_HASHED = 16 << 20
"""Bytes of a text whose digest is worked out while the program waits: ten milliseconds' worth."""


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{type(value).__name__}: repr() raised {type(error).__name__}>"


def to_attribute(name: str, value: object) -> tuple[Any, bool]:
    """The value of the attribute ``name`` as OpenTelemetry takes it, and whether it was cut.

    bool, int and float stay what they are, text is cut, lists of one primitive type become tuples, all else JSON text.
    Secrets are replaced: all that a name of secrets holds, and those within texts.
    """
    try:
        redacted = scrub_value(name, value)
        return _attribute(name, value) if redacted is None else scrub_and_truncate(redacted)
    except Exception as error:  # an unbound proxy, a list of the user's own class: looking at it may do anything
        return f"<{type(value).__name__}: reading it raised {type(error).__name__}>", False


def _attribute(name: str, value: object) -> tuple[Any, bool]:
    if isinstance(value, bool | int | float):
        if not isinstance(value, int) or -LEAST_CARD < value < LEAST_CARD:
            return value, False
        return _large(name, value)
    if isinstance(value, str):
        return scrub_and_truncate(str(value), name=name)
    if isinstance(value, list | tuple) and value and len(value) <= 64:
        kind = type(value[0])
        if kind in (bool, int, float, str) and all(type(item) is kind for item in value):
            parts = [_attribute(name, item) for item in value]
            made = tuple(part for part, _ in parts)
            if all(type(part) is kind for part in made):  # a list of attributes is of one type
                return made, any(was_cut for _, was_cut in parts)
    shown = to_json(value)
    return shown.text, shown.was_cut


def _large(name: str, value: int) -> tuple[Any, bool]:
    if value.bit_length() > 2048:
        return f"<int of {value.bit_length()} bits>", True
    text = scrub_text(str(value), name)
    if text == str(value) and -(2**63) <= value < 2**63:  # OTLP integers have 64 bits
        return value, False
    return text, False


class JsonText:
    """JSON text of at most the limit, whether parts are left out, and size and SHA-256 of the whole where known."""

    __slots__ = ("sha256", "size", "text", "was_cut")

    def __init__(self, text: str, was_cut: bool, size: int | None = None, sha256: str | None = None) -> None:
        self.text, self.was_cut, self.size, self.sha256 = text, was_cut, size, sha256


def to_json(value: object, limit: int = MAX_VALUE_BYTES, name: str = "") -> JsonText:
    """``value``, which stands under ``name``, without secrets and as JSON text of at most ``limit`` bytes.

    What JSON cannot say is said in words: cycles, bytes, NaN, objects (their fields, or their repr), deep nesting. The
    time is bounded as well: only as much of a large value is looked at as fits.
    """
    text = simple_json(value, name, limit)
    if text is None:
        return _to_json(value, limit, name)
    return JsonText(text, False, len(text), sha256_of(text))


def simple_json(value: object, name: str, limit: int = MAX_VALUE_BYTES) -> str | None:
    """The text alone where ``value`` is small and plain, and nothing is to be done to it: then it is ASCII. None where
    that is not sure."""
    if scrub._has_own:
        return None
    text = small_json(value, name, limit - limit // 8)
    return text if text is not None and len(text) <= limit else None


def sha256_of(text: str) -> str:
    """The digest of a text that can be encoded."""
    return _loaded()[1](text.encode()).hexdigest()  # type: ignore[no-any-return]


def _to_json(value: object, limit: int, name: str) -> JsonText:
    writer, before = _Preview(limit), redacted_here()
    shown = writer.named(name, value, 0)
    encode, sha256 = _loaded()
    text = encode(shown)
    if len(text.encode()) > limit:
        text, _ = scrub_and_truncate(text, limit)
        writer.was_cut = True
    if redacted_here() != before:  # size and digest tell what a short secret was
        return JsonText(text, writer.was_cut)
    data = text.encode() if not writer.was_cut else _bytes_of(value)
    if data is None:
        return JsonText(text, True)
    return JsonText(text, writer.was_cut, len(data), sha256(data).hexdigest())


@functools.cache
def _loaded() -> tuple[Any, Any]:
    """What writes JSON, made once, and SHA-256: both take 5 ms to load, for programs that add artifacts."""
    from hashlib import sha256
    from json import JSONEncoder

    return JSONEncoder(ensure_ascii=False).encode, sha256


def _bytes_of(value: object) -> bytes | None:
    """The bytes of a text or of bytes; None for containers, and what is huge, as they cost too much time."""
    if type(value) in (str, bytes, bytearray) and len(value) > _MOST_HASHED:  # type: ignore[arg-type]
        return None
    if type(value) is str:
        return value.encode("utf-8", "backslashreplace")
    return bytes(value) if type(value) in (bytes, bytearray) else None  # type: ignore[call-overload]


class _Preview:
    """Builds the part of a value that fits: a JSON-safe copy of it, made until the room is used up."""

    def __init__(self, limit: int) -> None:
        self.room = limit - limit // 8  # the marks need space as well
        self.was_cut = False
        self._open: set[int] = set()
        self._end = monotonic() + _SECONDS

    def _is_full(self) -> bool:
        """Whether there is no room, or no time, for more: a repr() of the user's may take as long as it likes."""
        return self.room <= 0 or monotonic() > self._end

    def shown(self, value: object, depth: int) -> Any:
        try:
            return self._shown(value, depth)
        except Exception as error:  # an unbound proxy, a mapping of the user's own: looking at it may do anything
            return self._text(f"<{type(value).__name__}: reading it raised {type(error).__name__}>")

    def _shown(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            self.room -= 5
            return value
        if isinstance(value, int | float):
            return self._number(value)
        if isinstance(value, str):
            return self._text(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            self.was_cut |= len(value) > 32
            return self._text(f"<{len(value)} bytes: {bytes(value[:32]).hex()}{'…' if len(value) > 32 else ''}>")
        if id(value) in self._open:
            return self._text(f"<cycle: {type(value).__name__}>")
        self._open.add(id(value))
        try:
            return self._container(value, depth)
        finally:
            self._open.discard(id(value))

    def _number(self, value: float) -> Any:
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            return self._text(str(value))  # JSON has no NaN and no infinity
        if isinstance(value, int) and value.bit_length() > 2048:
            self.was_cut = True
            return self._text(f"<int of {value.bit_length()} bits>")
        if isinstance(value, int) and not -LEAST_CARD < value < LEAST_CARD and scrub_text(str(value)) != str(value):
            return self._text(str(value))
        self.room -= 8
        return value if type(value) in (int, float) else (int(value) if isinstance(value, int) else float(value))

    def _text(self, text: str) -> str:
        kept, was_cut = scrub_and_truncate(text, max(64, self.room))
        self.room -= len(kept.encode()) + 4
        self.was_cut |= was_cut
        return kept

    def _container(self, value: object, depth: int) -> Any:
        if depth >= DEPTH:
            self.was_cut = True
            return self._text(f"<{type(value).__name__}: nested too deep>")
        if isinstance(value, Mapping):
            return self._mapping(value.items(), len(value), depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(value, depth)
        if is_dataclass(value) and not isinstance(value, type):
            pairs = [(field.name, getattr(value, field.name, None)) for field in fields(value)]
            return self._mapping(pairs, len(pairs), depth)
        return self._text(_safe_repr(value))

    def _mapping(self, items: Any, length: int, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, item in items:
            if self._is_full():
                self.was_cut = True
                made["…"] = f"{length - len(made)} more"
                break
            name = key if isinstance(key, str) else _safe_repr(key)
            made[self._text(name)] = self.named(name, item, depth + 1)
        return made

    def named(self, name: str, item: object, depth: int) -> Any:
        try:
            redacted = scrub_value(name, item)
        except Exception:  # as in shown(), which says so
            redacted = None
        return self.shown(item, depth) if redacted is None else self._text(redacted)

    def _sequence(self, items: Any, depth: int) -> list[Any]:
        if isinstance(items, tuple) and len(items) == 2 and isinstance(items[0], str):  # as headers are: name, value
            return [self._text(items[0]), self.named(items[0], items[1], depth + 1)]
        made: list[Any] = []
        for item in items:
            if self._is_full():
                self.was_cut = True
                made.append(f"… {len(items) - len(made)} more")
                break
            made.append(self.shown(item, depth + 1))
        return made
