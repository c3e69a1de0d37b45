"""Name a function or an exception, as people and OpenTelemetry know it."""

from __future__ import annotations

import functools
import types
from typing import Any

__all__ = ["error_type", "function_name", "target_name", "unwrapped"]

_WITH_FUNC = (functools.partial, functools.partialmethod)
_WITH_FUNCTION = (staticmethod, classmethod, types.MethodType)


def unwrapped(target: Any) -> Any:
    """The function inside partials, static and class methods: what carries the name that a person knows."""
    while True:  # by type alone: some objects answer whatever they are asked
        if issubclass(type(target), _WITH_FUNC):
            target = target.func
        elif issubclass(type(target), _WITH_FUNCTION):
            target = target.__func__
        else:
            return target


def target_name(target: Any) -> str:
    """The short name of a callable: of the function inside, or of the class where it is a callable object."""
    inner = unwrapped(target)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def function_name(target: Any) -> str:
    """``module.qualname`` of a callable, as OpenTelemetry's ``code.function.name`` wants it."""
    inner = unwrapped(target)
    named = inner if isinstance(getattr(inner, "__qualname__", None), str) else type(inner)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"


def error_type(error: BaseException) -> str:
    """``ValueError`` for builtins, ``package.module.Name`` otherwise: the wire form of an exception's class."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
