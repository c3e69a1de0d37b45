"""Wait for another thread: for it to ring, for a counter to reach a value, or for a call to return.

A signal handler may wake a thread, too: no lock is taken that the interrupted code might hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["BackgroundCall", "Progress", "WakeUp", "run_in_background", "seconds_left"]


class WakeUp:
    """One thread waits for it, any other one rings it. A ring before the wait is not lost; several are one.

    :class:`threading.Event` takes a lock in ``set()``: a signal handler that comes in the middle of it, on the same
    thread, waits for ever.
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def set(self) -> None:
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


class Progress:
    """A number that one thread makes grow, and that any other, or a signal handler, waits for."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._bells: set[WakeUp] = set()
        self._last = 0.0
        self._is_over = False

    def advanced(self) -> None:
        """The number has grown."""
        self._last = time.monotonic()
        self._ring()

    def _ring(self) -> None:
        for bell in tuple(self._bells):
            bell.set()

    def last(self, since: float) -> float:
        """The time when the number has grown last; ``since`` where that was earlier."""
        return max(self._last, since)

    def give_up(self) -> None:
        """The number will not grow any more: nobody waits from now on."""
        self._is_over = True
        self._ring()

    def wait_for(self, goal: int, end: float | None, patience: float | None, since: float | None) -> bool:
        """Wait until the number is ``goal``; whether it is.

        Until ``end`` at most, and no longer than ``patience`` seconds without progress, counted from ``since`` on (both
        times are of :func:`time.monotonic`).
        """
        bell, since = WakeUp(), since or time.monotonic()
        self._bells.add(bell)
        try:
            while self._number() < goal and not self._is_over:
                limits = [end, None if patience is None else self.last(since) + patience]
                seconds = seconds_left(min((limit for limit in limits if limit is not None), default=None))
                if seconds == 0:
                    break
                bell.wait(seconds)
            return self._number() >= goal
        finally:
            self._bells.discard(bell)


def seconds_left(end: float | None) -> float | None:
    """The seconds until ``end``, a time of :func:`time.monotonic`; 0 where it is over, None where there is none."""
    return None if end is None else max(0.0, end - time.monotonic())


class BackgroundCall:
    """Calls on a thread beside, one at a time: while the last one hangs no other is begun, however often it is asked
    for."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a call has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, call: Callable[[], Any], limit: float) -> None:
        """Make a call once the last has ended, and wait for it until ``limit``, in seconds of
        :func:`time.monotonic`."""
        last = self._thread
        if last is not None:
            _join(last, limit)
        if not self.is_busy:
            self._thread = run_in_background(call, limit)


def run_in_background(call: Callable[[], Any], limit: float) -> threading.Thread | None:
    """Make a call on a thread beside, and wait for it until ``limit``, in seconds of :func:`time.monotonic`."""
    beside = threading.Thread(target=call, daemon=True)
    try:
        beside.start()
    except RuntimeError:  # the interpreter is ending and starts no more threads
        call()
        return None
    _join(beside, limit)
    return beside


def _join(thread: threading.Thread, limit: float) -> None:
    thread.join(min(max(0.0, limit - time.monotonic()), threading.TIMEOUT_MAX))
