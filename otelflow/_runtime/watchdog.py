"""Handle signals that arrive while the main thread is in a call that does not return to Python.

Python runs a signal handler between two steps of the main thread. A database driver or a long computation may block
that for minutes, where a signal without a handler ends the process at once. ``faulthandler`` has a handler in C that
writes as soon as the kernel delivers the signal. A thread reads that, and acts if the main thread does not.
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

__all__ = ["Watchdog", "get_action", "is_supported", "set_action"]

_GRACE_SECONDS = 0.3
"""How long the thread waits for the handler on the main thread."""

_CREDENTIALS = struct.Struct("3i")
"""Layout of ``struct ucred`` of Linux: pid, uid and gid of the sender."""


class Watchdog:
    """Calls ``terminate`` on a thread if the main thread does not run its own ``handler`` of a signal in time.

    It is inactive until :meth:`arm`, and again in a forked child. Until then a signal has its default action, although
    Python has a handler. A process without data to send has no thread, and ends as if otelflow were not there.
    """

    def __init__(self, numbers: Sequence[int], handler: Any, terminate: Callable[[int], None]) -> None:
        self._numbers, self._handler, self._terminate = numbers, handler, terminate
        self.handler_ran = WakeUp()
        """The handler sets this when it runs."""
        self._actions = {number: get_action(number) for number in numbers}
        self._sockets: list[tuple[socket.socket, socket.socket]] = []
        self._disarm()
        after_fork_in_child(self._disarm)

    def _disarm(self) -> None:
        """Give the signals their default action; also in a forked child."""
        self._is_armed = False
        self._arm_lock = threading.Lock()
        for number in self._handled_signals():
            set_action(number, 0)
        # Close the parent's sockets now: later, the program may have closed all files.
        for open_socket in chain.from_iterable(self._sockets):
            open_socket.close()
        self._sockets = []

    def arm(self) -> None:
        """Start watching: this process has data to send. Any thread may call this at any time. It never raises."""
        if self._is_armed or not self._arm_lock.acquire(blocking=False):  # a signal handler may interrupt this
            return
        self._is_armed = True
        numbers = self._handled_signals()
        for number in numbers:
            set_action(number, self._actions[number])
        try:
            self._start_thread(numbers)
        except (OSError, RuntimeError) as error:  # no files, no threads: the handler on the main thread remains
            log_once(
                "watchdog",
                "Cannot watch signals on a thread; they are handled when the main thread returns to Python: %s",
                error,
            )

    def _start_thread(self, numbers: list[int]) -> None:
        import faulthandler

        readers = {}
        for number in numbers:
            reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sockets.append((reader, writer))
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            writer.setblocking(False)
            readers[reader.fileno()] = reader, number
        if readers:
            threading.Thread(
                target=self._wait_for_signals, args=(readers,), name="otelflow-signals", daemon=True
            ).start()
        for number, (_, writer) in zip(numbers, self._sockets, strict=True):
            faulthandler.unregister(number)  # the parent registered its own
            set_action(number, self._actions[number])
            faulthandler.register(number, writer, all_threads=False, chain=True)

    def _handled_signals(self) -> list[int]:
        """Return the signals that still have our handler."""
        return [number for number in self._numbers if signal.getsignal(number) is self._handler]

    def _wait_for_signals(self, readers: dict[int, tuple[socket.socket, int]]) -> None:
        """Wait for signals on the thread, and act if the main thread does not."""
        poll = select.poll()
        for file in readers:
            poll.register(file, select.POLLIN)
        try:
            while True:
                for file, _ in poll.poll():
                    reader, number = readers[file]
                    if _is_from_this_process(reader) and not self.handler_ran.wait(_GRACE_SECONDS):
                        self._terminate(number)
        except OSError:  # the program closed all files, ours included
            return


def _is_from_this_process(reader: socket.socket) -> bool:
    """Return whether this process wrote the message: a forked child shares its parent's sockets at first."""
    _, ancillary_data, *_ = reader.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
    return bool(ancillary_data) and _CREDENTIALS.unpack(ancillary_data[0][2])[0] == os.getpid()


def is_supported() -> bool:
    """Return whether a watchdog can run here.

    Not on systems other than Linux. Not if threads are greenlets (gevent): these run no more than the main thread does,
    and the hub would wait for one that never ends.
    """
    try:
        import ctypes
        import faulthandler
    except ImportError:  # this Python was built without them
        return False
    return (
        isinstance(select.select, BuiltinFunctionType)
        and hasattr(socket, "SO_PASSCRED")
        and hasattr(faulthandler, "register")
        and hasattr(ctypes.pythonapi, "PyOS_setsig")
    )


def get_action(number: int) -> int:
    """Return the address of the process's function for a signal; 0 for the default action."""
    import ctypes

    get = ctypes.pythonapi.PyOS_getsig
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.c_int]
    return get(number) or 0


def set_action(number: int, action: int) -> None:
    """Set that function. Unlike :func:`signal.signal`, any thread may do this."""
    import ctypes

    put = ctypes.pythonapi.PyOS_setsig
    put.restype, put.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    put(number, action or None)
