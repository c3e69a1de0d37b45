"""What kind of callable a function is: that decides which of the four lifecycles wraps it."""

from __future__ import annotations

import functools
import inspect
from enum import Enum
from typing import Any

__all__ = ["CACHE", "CallableKind", "kind_of"]

CACHE: Any = type(functools.lru_cache(lambda: None))
"""Class of what ``functools.cache`` and ``lru_cache`` make: written in C, and no function for :mod:`inspect`."""


class CallableKind(Enum):
    """The four ways in which Python code runs."""

    CALL = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"

    @property
    def is_async(self) -> bool:
        """Whether an event loop drives it."""
        return self in (CallableKind.COROUTINE, CallableKind.ASYNC_GENERATOR)


def _function(target: Any) -> Any:
    """The function that decides: inside partials, class and static methods, and ``__call__`` of an object."""
    while True:
        if isinstance(target, functools.partial):
            target = target.func
        elif isinstance(target, classmethod | staticmethod):
            target = target.__func__
        elif inspect.isroutine(target) or inspect.isclass(target):
            return target
        else:
            call = getattr(type(target), "__call__", None)  # noqa: B004  # its function is wanted
            return target if call is None or not inspect.isfunction(call) else call


def kind_of(target: Any) -> CallableKind:
    """The shape of a callable, asked of the standard library's own predicates."""
    for candidate in (target, _function(target)):
        if inspect.isasyncgenfunction(candidate):
            return CallableKind.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(candidate):
            return CallableKind.GENERATOR
        if inspect.iscoroutinefunction(candidate):
            return CallableKind.COROUTINE
    return CallableKind.CALL
