"""Define the records that a run keeps in memory: messages, artifacts and results."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, SupportsIndex, TypeVar, overload

__all__ = ["Artifact", "Keyed", "Message", "Result"]


class Message(str):
    """A log message: a ``str``, the text without terminal colours, with attributes.

    Args:
        text: the text without terminal colours.
        log_level: a number as in :mod:`logging`.
        timestamp: nanoseconds since 1970.
        task_name: name of the task; None for a message of the flow itself.
        task_run_id: run id of the task; None for a message of the flow itself.
        raw: the original text; ``text`` if left out.
        attributes: attributes of the message.
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
    """Something that a run produced. ``data`` is the original object, ``timestamp`` is in nanoseconds since 1970."""

    key: str
    data: Any = None
    description: str = ""
    type: str = ""
    timestamp: int = 0
    task_run_id: str | None = None

    def __repr__(self) -> str:  # without the data: it may be large, or its repr() may raise
        return f"Artifact(key={self.key!r}, type={self.type!r}, description={self.description!r})"


class Result(NamedTuple):
    """A result of a run, for people to read. ``timestamp`` is in nanoseconds since 1970."""

    key: str
    description: str = ""
    timestamp: int = 0
    task_run_id: str | None = None


class _HasKey(Protocol):
    @property
    def key(self) -> str: ...


T = TypeVar("T", bound=_HasKey)


class Keyed(list[T]):
    """A list of records with a ``key``: ``records[0]`` by position, ``records["rows"]`` the newest with that key.

    Args:
        items: the records.

    Raises:
        KeyError: on reading, if no record has the key.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        super().__init__(items)

    @overload  # the index of a list, or a key
    def __getitem__(self, index: SupportsIndex | str) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: SupportsIndex | slice | str) -> Any:
        if not isinstance(index, str):
            return super().__getitem__(index)
        for item in reversed(self):
            if item.key == index:
                return item
        keys = ", ".join(repr(item.key) for item in self) or "none"
        raise KeyError(f"there is no key {index!r}. The keys are: {keys}")
