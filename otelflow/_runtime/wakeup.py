"""Waking a thread, also from a signal handler: no lock is taken that the interrupted code might hold."""

from __future__ import annotations

import threading

__all__ = ["Bell"]


class Bell:
    """One thread waits for it, any other one rings it. A ring before the wait is not lost; several are one.

    :class:`threading.Event` takes a lock in ``set()``: a signal handler that comes in the middle of it, on the same
    thread, waits for ever.
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Let the wait end, or the next one not begin."""
        try:
            self._silent.release()
        except RuntimeError:  # it has been rung already
            pass

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it rings, ``seconds`` at most; whether it did."""
        if seconds is None:
            return self._silent.acquire()
        return self._silent.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
