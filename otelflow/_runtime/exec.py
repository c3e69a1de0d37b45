"""Another program in this process's place: what waits is sent first."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["drain_before_exec"]


def drain_before_exec(drain: Callable[[], None]) -> None:
    """Have ``drain`` called before :func:`os.execv` and its like: neither ``atexit`` nor any signal tells of them."""
    for name in ("execv", "execve"):  # all others call these
        replace = getattr(os, name, None)
        if replace is not None and not hasattr(replace, "__wrapped__"):
            setattr(os, name, _draining(replace, drain))


def _draining(replace: Callable[..., Any], drain: Callable[[], None]) -> Callable[..., Any]:
    @wraps(replace)
    def draining(path: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_program(path):
            drain()
        return replace(path, *args, **kwargs)

    return draining


def _is_program(path: Any) -> bool:
    """False where the call will fail: ``os.execvp`` tries one folder of ``PATH`` after the other."""
    try:
        return os.access(path, os.X_OK)
    except (TypeError, ValueError):  # a file descriptor, or something that the call itself will refuse
        return isinstance(path, int)
