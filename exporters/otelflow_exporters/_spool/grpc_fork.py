"""A fork beside a thread that is within gRPC: the child does without gRPC. The spool keeps what it has.

gRPC gets a child ready only where nobody is in a call at the fork (it logs "Other threads are currently calling into
gRPC, skipping fork() handlers"). Else its core may abort the child, and with it the program, when that uses gRPC (1.85,
``ev_epoll1_linux.cc``: "Check failed"). To end the call for the fork is no way out: soon after a channel was closed,
gRPC's own handlers wait for ever within ``fork()``.
"""

from __future__ import annotations

import os
import threading
import time

__all__ = ["within_grpc"]

_PATIENCE_SECONDS = 0.1
"""How long a fork waits at most for calls to end: most take some milliseconds."""


class _WithinGrpc:
    """Entered by every thread that calls gRPC."""

    def __init__(self) -> None:
        self.is_torn = False
        """This process was forked in the middle of a call: it must not use gRPC."""
        self._begin()

    def _begin(self) -> None:
        self._threads = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._threads -= 1
            self._changed.notify_all()

    def before_fork(self) -> None:
        """Nobody comes in until the fork is over."""
        self._changed.acquire()
        end = time.monotonic() + _PATIENCE_SECONDS
        while self._threads and (left := end - time.monotonic()) > 0:
            self._changed.wait(left)

    def after_in_parent(self) -> None:
        self._changed.release()

    def after_in_child(self) -> None:
        self.is_torn = self.is_torn or self._threads > 0
        self._begin()


within_grpc = _WithinGrpc()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=within_grpc.before_fork,
        after_in_parent=within_grpc.after_in_parent,
        after_in_child=within_grpc.after_in_child,
    )
