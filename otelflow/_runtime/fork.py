"""Renew state in a forked child: the parent's threads are not there to finish their work."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["FreshLock", "after_fork_in_child", "renew_in_child"]


def after_fork_in_child(call: Callable[[], Any]) -> None:
    """Register ``call`` to run in each child of :func:`os.fork`, before any other code there.

    It stays registered as long as this process lives.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def renew_in_child(method: Callable[[], Any]) -> None:
    """Register ``method`` to run in each forked child, as long as its object is alive.

    A fork hook lives until the interpreter ends, and must not keep the object alive.
    """
    method_reference = weakref.WeakMethod(method)
    after_fork_in_child(lambda: (renew := method_reference()) and renew())


class FreshLock:
    """A reentrant lock that is new in a forked child, where a lock held by a parent's thread would stay locked."""

    def __init__(self) -> None:
        self._renew()
        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
