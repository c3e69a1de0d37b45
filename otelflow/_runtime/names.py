"""Names and identifiers: what a function is called, and how one run is told from every other."""

from __future__ import annotations

import functools
import itertools
import os
import types
from typing import Any

from otelflow._runtime.fork import after_fork_in_child

__all__ = ["error_type", "function_name", "is_inherited", "next_order", "run_id", "target_name", "unwrapped"]


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


# A run's identity is one integer: 64 random bits of the process, then a running number. It is unique across processes,
# tells in which order two runs of one process began, costs 0.05 µs, and becomes text only when someone looks.
_COUNTER_BITS = 48


forked = False
"""Whether this process is a forked child: only then may there be runs of another process in its memory."""


_seed: int
_orders: itertools.count[int]


def _begin() -> None:
    global _seed, _orders
    _seed = int.from_bytes(os.urandom(8), "big") | 1 << 63  # the top bit keeps all ids the same length
    _orders = itertools.count(_seed << _COUNTER_BITS)


def _after_fork_in_child() -> None:
    """A forked child must not count on from its parent's number: both would give out the same ids."""
    global forked
    forked = True
    _begin()


_begin()
after_fork_in_child(_after_fork_in_child)


def is_inherited(order: int) -> bool:
    """Whether the run of that number began in a process that this one was forked from."""
    return forked and order != 0 and order >> _COUNTER_BITS != _seed


def next_order() -> int:
    """A number larger than every one that this process gave out before, and used by no other process."""
    return next(_orders)


def run_id(prefix: str, order: int) -> str:
    """The text form of a run's number: ``prefix`` and 28 lower-case hex digits."""
    return f"{prefix}{order:028x}"
