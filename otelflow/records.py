"""What a run keeps of what it said and made: messages, artifacts, results."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, SupportsIndex, TypeVar, overload

__all__ = ["Artifact", "Keyed", "Message", "Result"]


class Message(str):
    """A log message: its text as a ``str``, without terminal colours, and what is known of it.

    ``log_level`` is a number as in :mod:`logging`, ``timestamp`` nanoseconds since 1970, ``raw`` the text as it was
    given; ``task_name`` and ``task_run_id`` are None for a message of the flow itself.
    """

    __slots__ = ("attributes", "log_level", "raw", "task_name", "task_run_id", "timestamp")

    def __new__(
        cls,
        text: str,
        log_level: int = logging.INFO,
        timestamp: int = 0,
        task_name: str | None = None,
        task_run_id: str | None = None,
        raw: str | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> Message:
        self = super().__new__(cls, text)
        self.log_level = log_level
        self.timestamp = timestamp
        self.task_name = task_name
        self.task_run_id = task_run_id
        self.raw = text if raw is None else raw
        self.attributes = attributes or {}
        return self

    log_level: int
    timestamp: int
    task_name: str | None
    task_run_id: str | None
    raw: str
    attributes: dict[str, Any]

    @property
    def text(self) -> str:
        """The text as a plain ``str``."""
        return str.__str__(self)

    @property
    def severity(self) -> str:
        """``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``."""
        return logging.getLevelName(self.log_level)


class Artifact(NamedTuple):
    """Something that a run produced. ``data`` is the original object; ``timestamp`` nanoseconds since 1970."""

    key: str
    data: Any = None
    description: str = ""
    type: str = ""
    timestamp: int = 0
    task_run_id: str | None = None

    def __repr__(self) -> str:  # without the data: it may be large, or refuse to be shown
        return f"Artifact(key={self.key!r}, type={self.type!r}, description={self.description!r})"


class Result(NamedTuple):
    """A result that a run wants to be seen. ``timestamp`` is in nanoseconds since 1970."""

    key: str
    description: str = ""
    timestamp: int = 0
    task_run_id: str | None = None


class _HasKey(Protocol):
    @property
    def key(self) -> str: ...


T = TypeVar("T", bound=_HasKey)


class Keyed(list[T]):
    """A list of things with a ``key``: ``things[0]`` by position, ``things["rows"]`` the newest of that key."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        super().__init__(items)

    @overload  # a list, and more
    def __getitem__(self, index: SupportsIndex | str) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: SupportsIndex | slice | str) -> Any:
        if not isinstance(index, str):
            return super().__getitem__(index)
        for item in reversed(self):
            if item.key == index:
                return item
        raise KeyError(f"{index!r} is not among the keys: {', '.join(repr(item.key) for item in self) or 'none'}")
