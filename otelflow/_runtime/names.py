"""Name a function or an exception as people and OpenTelemetry do."""

from __future__ import annotations

import functools
import types
from typing import Any

__all__ = ["error_type", "function_name", "target_name", "unwrap"]

_WITH_FUNC = (functools.partial, functools.partialmethod)
_WITH_FUNCTION = (staticmethod, classmethod, types.MethodType)


def unwrap(target: Any) -> Any:
    """Return the function inside partials, static methods and class methods: it has the name that people know."""
    while True:  # check only the type: some objects have every attribute
        if issubclass(type(target), _WITH_FUNC):
            target = target.func
        elif issubclass(type(target), _WITH_FUNCTION):
            target = target.__func__
        else:
            return target


def target_name(target: Any) -> str:
    """Return the short name of a callable: of the inner function, or of the class of a callable object."""
    inner = unwrap(target)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def function_name(target: Any) -> str:
    """Return ``module.qualname`` of a callable, the format of OpenTelemetry's ``code.function.name``."""
    inner = unwrap(target)
    source = inner if isinstance(getattr(inner, "__qualname__", None), str) else type(inner)
    return f"{getattr(source, '__module__', None) or '?'}.{source.__qualname__}"


def error_type(error: BaseException) -> str:
    """Return the wire form of an exception's class: ``ValueError`` for builtins, else ``package.module.Name``."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
