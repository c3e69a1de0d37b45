"""What a forked child makes new: its parent's threads are not there to finish what they began."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["FreshLock", "after_fork_in_child", "renew_in_child"]


def after_fork_in_child(call: Callable[[], Any]) -> None:
    """Have ``call`` made in each child of :func:`os.fork`, before anything else runs there. It stays registered as long
    as this process lives."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def renew_in_child(method: Callable[[], Any]) -> None:
    """The same for a method, as long as its object is alive: what is registered for a fork lives until the interpreter
    is gone, and must not keep it."""
    alive = weakref.WeakMethod(method)
    after_fork_in_child(lambda: (renew := alive()) and renew())


class FreshLock:
    """A reentrant lock that is new in a forked child, where one that a thread of the parent held would stay shut."""

    def __init__(self) -> None:
        self._renew()
        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
