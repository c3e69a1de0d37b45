"""Signals that come while the main thread is in a call that does not return to Python.

Python runs a handler between two steps of the main thread. A database's driver, or a long computation, may keep it from
that for minutes, where a signal that nobody handles ends the process at once. ``faulthandler`` has a handler in C, that
writes as soon as the kernel delivers the signal: a thread hears that, and acts where the main thread does not.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from types import BuiltinFunctionType
from typing import Any

from otelflow._runtime.fork import after_fork_in_child
from otelflow._runtime.log_once import log_once
from otelflow._runtime.waiting import WakeUp

__all__ = ["Watchdog", "action_of", "is_possible", "set_action"]

_GRACE_SECONDS = 0.3
"""How long the main thread is waited for."""

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred`` of Linux: pid, uid and gid of who wrote."""


class Watchdog:
    """Calls ``end`` on a thread beside where the main thread does not come to its own ``handler`` of a signal.

    It sleeps until :meth:`wake`, and again in a forked child: the signals then do what they do without any handler,
    although Python knows of one. A process that has nothing to send has no thread, and ends as if we were not there.
    """

    def __init__(self, numbers: Sequence[int], handler: Any, end: Callable[[int], None]) -> None:
        self._numbers, self._handler, self._end = numbers, handler, end
        self.attended = WakeUp()
        """Rung by the handler."""
        self._actions = {number: action_of(number) for number in numbers}
        self._sockets: list[tuple[socket.socket, socket.socket]] = []
        self._sleep()
        after_fork_in_child(self._sleep)

    def _sleep(self) -> None:
        self._is_awake = False
        self._waking = threading.Lock()
        for number in self._ours():
            set_action(number, 0)
        for end in chain.from_iterable(self._sockets):  # the parent's; later, somebody may have closed all files
            end.close()
        self._sockets = []

    def wake(self) -> None:
        """There is something to send now, in this process. Called by any thread, at any time; raises nothing."""
        if self._is_awake or not self._waking.acquire(blocking=False):  # a signal handler may come in between
            return
        self._is_awake = True
        numbers = self._ours()
        for number in numbers:
            set_action(number, self._actions[number])
        try:
            self._watch(numbers)
        except (
            OSError,
            RuntimeError,
        ) as error:  # no files, no threads: the main thread's handler is there
            log_once("watchdog", "Signals wait for the main thread to return from what it does: %s", error)

    def _watch(self, numbers: list[int]) -> None:
        import faulthandler

        listening = {}
        for number in numbers:
            here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sockets.append((here, there))
            here.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            there.setblocking(False)
            listening[here.fileno()] = here, number
        if listening:
            threading.Thread(target=self._listen, args=(listening,), name="otelflow-signals", daemon=True).start()
        for number, (_, there) in zip(numbers, self._sockets, strict=True):
            faulthandler.unregister(number)  # the parent's
            set_action(number, self._actions[number])
            faulthandler.register(number, there, all_threads=False, chain=True)

    def _ours(self) -> list[int]:
        return [number for number in self._numbers if signal.getsignal(number) is self._handler]

    def _listen(self, listening: dict[int, tuple[socket.socket, int]]) -> None:
        poll = select.poll()
        for file in listening:
            poll.register(file, select.POLLIN)
        try:
            while True:
                for file, _ in poll.poll():
                    here, number = listening[file]
                    if _is_own(here) and not self.attended.wait(_GRACE_SECONDS):
                        self._end(number)
        except OSError:  # the program has closed all files that it does not know
            return


def _is_own(here: socket.socket) -> bool:
    """Whether this process wrote what is there. A forked child has its parent's sockets until it has run a little."""
    _, told, *_ = here.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
    return bool(told) and _CREDENTIALS.unpack(told[0][2])[0] == os.getpid()


def is_possible() -> bool:
    """Whether a watchdog can be had here. Not on systems other than Linux; not where threads are greenlets (gevent),
    which no more get a turn than the main thread, and whose hub would wait for one that never ends."""
    try:
        import ctypes
        import faulthandler
    except ImportError:  # a Python that was built without
        return False
    return (
        isinstance(select.select, BuiltinFunctionType)
        and hasattr(socket, "SO_PASSCRED")
        and hasattr(faulthandler, "register")
        and hasattr(ctypes.pythonapi, "PyOS_setsig")
    )


def action_of(number: int) -> int:
    """The address of the function that the process has for a signal; 0 for the default action."""
    import ctypes

    get = ctypes.pythonapi.PyOS_getsig
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_int]
    return get(number) or 0


def set_action(number: int, action: int) -> None:
    """Set that function; other than by :func:`signal.signal`, by any thread."""
    import ctypes

    put = ctypes.pythonapi.PyOS_setsig
    put.restype, put.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    put(number, action or None)
