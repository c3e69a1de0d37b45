"""Wait for another thread: for a wake-up, for a counter to reach a value, or for a call to return.

A signal handler may wake a thread as well: no code here takes a lock that the interrupted code might hold.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["BackgroundCall", "Progress", "WakeUp", "run_in_background", "seconds_left"]


class WakeUp:
    """An event: one thread waits, any other thread sets it. A set before the wait is kept; several sets count as one.

    :class:`threading.Event` takes a lock in ``set()``. A signal handler that interrupts it on the same thread waits for
    ever.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """End the current wait, or the next one at once."""
        try:
            self._lock.release()
        except RuntimeError:  # it is set already
            pass

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, at most ``seconds``. Return whether it was set."""
        if seconds is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


class Progress:
    """A growing number: one thread increases it, other threads and signal handlers wait for it."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._waiters: set[WakeUp] = set()
        self._last = 0.0
        self._has_given_up = False

    def notify(self) -> None:
        """Wake the waiters: the number has grown."""
        self._last = time.monotonic()
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for wake_up in tuple(self._waiters):
            wake_up.set()

    def last_advance(self, since: float) -> float:
        """Return the time when the number last grew, or ``since`` if that is later."""
        return max(self._last, since)

    def give_up(self) -> None:
        """Wake the waiters and end all later waits: the number will not grow any more."""
        self._has_given_up = True
        self._wake_waiters()

    def wait_for(self, goal: int, deadline: float | None, patience: float | None, since: float | None) -> bool:
        """Wait until the number is ``goal``. Return whether it is.

        The wait ends at ``deadline``, and after ``patience`` seconds without progress, counted from ``since``. Both
        times are of :func:`time.monotonic`.
        """
        wake_up, since = WakeUp(), since or time.monotonic()
        self._waiters.add(wake_up)
        try:
            while self._number() < goal and not self._has_given_up:
                limits = [deadline, None if patience is None else self.last_advance(since) + patience]
                seconds = seconds_left(min((limit for limit in limits if limit is not None), default=None))
                if seconds == 0:
                    break
                wake_up.wait(seconds)
            return self._number() >= goal
        finally:
            self._waiters.discard(wake_up)


def seconds_left(deadline: float | None) -> float | None:
    """Return the seconds until ``deadline``, but at least 0; None if there is no deadline.

    ``deadline`` is a time of :func:`time.monotonic`.
    """
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class BackgroundCall:
    """Runs calls on a background thread, one at a time. While the last call hangs, no other call starts."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a call is still running."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, call: Callable[[], Any], deadline: float) -> None:
        """Run a call after the last one has ended, and wait for it until ``deadline``.

        ``deadline`` is a time of :func:`time.monotonic`.
        """
        last = self._thread
        if last is not None:
            _join(last, deadline)
        if not self.is_busy:
            self._thread = run_in_background(call, deadline)


def run_in_background(call: Callable[[], Any], deadline: float) -> threading.Thread | None:
    """Run a call on a background thread, and wait for it until ``deadline``.

    ``deadline`` is a time of :func:`time.monotonic`.
    """
    thread = threading.Thread(target=call, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the interpreter is shutting down and starts no more threads
        call()
        return None
    _join(thread, deadline)
    return thread


def _join(thread: threading.Thread, deadline: float) -> None:
    thread.join(min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX))
