"""Track gRPC calls across forks: a child that was forked during a call must not use gRPC.

gRPC prepares a child only if no thread is in a call at the fork. Otherwise it logs "Other threads are currently calling
into gRPC, skipping fork() handlers", and its core may abort a child that uses gRPC (1.85, ``ev_epoll1_linux.cc``:
"Check failed"). Rejected: ending the call before the fork. Soon after a channel was closed, gRPC's own handlers wait
forever within ``fork()``.
"""

from __future__ import annotations

import os
import threading
import time

__all__ = ["grpc_calls"]

_MAX_WAIT_SECONDS = 0.1
"""Limit of a fork's wait for calls to end: most take a few milliseconds."""


class _GrpcCalls:
    """Context manager around every call into gRPC; counts the threads that are in one."""

    def __init__(self) -> None:
        self.is_interrupted = False
        """True if this process was forked during a call: it must not use gRPC."""
        self._reset()

    def _reset(self) -> None:
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
        """Block new calls until the fork is over, and wait a moment for the calls in progress."""
        self._changed.acquire()
        end = time.monotonic() + _MAX_WAIT_SECONDS
        while self._threads and (seconds := end - time.monotonic()) > 0:
            self._changed.wait(seconds)

    def after_in_parent(self) -> None:
        self._changed.release()

    def after_in_child(self) -> None:
        self.is_interrupted = self.is_interrupted or self._threads > 0
        self._reset()


grpc_calls = _GrpcCalls()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=grpc_calls.before_fork,
        after_in_parent=grpc_calls.after_in_parent,
        after_in_child=grpc_calls.after_in_child,
    )
