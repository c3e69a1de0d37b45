"""Classify a callable: function, coroutine function, generator or async generator. Each kind has its own driver."""

from __future__ import annotations

import functools
import inspect
from enum import Enum
from typing import Any

__all__ = ["CACHE", "CallableKind", "kind_of"]

CACHE: Any = type(functools.lru_cache(lambda: None))
"""Class of the objects that ``functools.cache`` and ``lru_cache`` return. It is written in C: :mod:`inspect` does not
take them for functions."""


class CallableKind(Enum):
    """The four kinds of callables, by the way Python runs them."""

    CALL = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"

    @property
    def is_async(self) -> bool:
        """True if an event loop runs it."""
        return self in (CallableKind.COROUTINE, CallableKind.ASYNC_GENERATOR)


def _inner_function(target: Any) -> Any:
    """Return the function that decides the kind: the one inside a partial, class or static method, or ``__call__``."""
    while True:
        if isinstance(target, functools.partial):
            target = target.func
        elif isinstance(target, classmethod | staticmethod):
            target = target.__func__
        elif inspect.isroutine(target) or inspect.isclass(target):
            return target
        else:
            call = getattr(type(target), "__call__", None)  # noqa: B004  # the function itself, not whether it exists
            return target if call is None or not inspect.isfunction(call) else call


def kind_of(target: Any) -> CallableKind:
    """Return the kind of a callable, by the standard library's own predicates."""
    for candidate in (target, _inner_function(target)):
        if inspect.isasyncgenfunction(candidate):
            return CallableKind.ASYNC_GENERATOR
        if inspect.isgeneratorfunction(candidate):
            return CallableKind.GENERATOR
        if inspect.iscoroutinefunction(candidate):
            return CallableKind.COROUTINE
    return CallableKind.CALL
