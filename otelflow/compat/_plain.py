"""Plain-data views: the ``json()`` and ``obj()`` that the original's objects have."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from types import SimpleNamespace
from typing import Any

__all__ = ["Plain", "plain"]


def plain(value: Any) -> Any:
    """``value`` as dicts, lists and primitives: enums by value, dataclasses by field."""
    if isinstance(value, Plain):
        return value.json()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{str(key): _as_object(item) for key, item in value.items()})
    return [_as_object(item) for item in value] if isinstance(value, list) else value


class Plain:
    """A dataclass that can be read as plain data."""

    def json(self) -> dict[str, Any]:
        """All fields as plain data."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self) if field.repr}  # type: ignore[arg-type]

    def obj(self) -> Any:
        """All fields as attributes, nested ones too."""
        return _as_object(self.json())
