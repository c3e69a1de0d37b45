"""Convert objects to plain data: the ``json()`` and ``obj()`` methods of the original's objects."""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from types import SimpleNamespace
from typing import Any

__all__ = ["Plain", "plain"]


def plain(value: Any) -> Any:
    """Convert ``value`` to dicts, lists and primitives: an enum to its value, a :class:`Plain` to its fields."""
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
    """Base of dataclasses that convert to plain data."""

    def json(self) -> dict[str, Any]:
        """Return the fields as plain data; without those that are not in the ``repr``."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self) if field.repr}  # type: ignore[arg-type]

    def obj(self) -> Any:
        """Return the fields as attributes of an object, nested ones too."""
        return _as_object(self.json())
