"""Send what waits before the process ends: on a signal, before ``exec``, at the end of a worker that skips ``atexit``.

A signal then does what it always does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from types import FrameType
from typing import Any

from otelflow._runtime.log_once import log_once
from otelflow._runtime.watchdog import Watchdog, action_of, is_possible, set_action

__all__ = [
    "arm_watchdog",
    "drain_before_exec",
    "drain_on_signals",
    "drain_with_celery",
    "drain_with_multiprocessing",
]

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


_watchdog: Watchdog | None = None


def drain_on_signals(drain: Callable[[], None]) -> None:
    """Have ``drain`` called before SIGTERM or SIGHUP ends this process, once :func:`arm_watchdog` was called.

    Only in the main thread, and only where nobody handles the signal: a handler of the user's is left in place, and one
    that is set later takes the place of this one. A server of uvicorn's handles SIGTERM while it runs, and raises it
    again when it has stopped: ``drain`` is called in between.
    """
    global _watchdog
    if threading.current_thread() is not threading.main_thread():
        return
    watched, can_watch = [], is_possible()

    def end(number: int) -> None:
        try:
            drain()
        finally:
            _end_by(number)

    def ended(number: int, _: FrameType | None) -> None:
        if _watchdog is not None:
            _watchdog.attended.set()
        end(number)

    for number in _SIGNALS:
        try:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_DFL:
                _drain_with_uvicorn(handler, drain)
            elif not can_watch or action_of(number) == 0:  # else it is handled by something that is not Python
                signal.signal(number, ended)
                watched.append(number)
        except (ValueError, OSError) as error:  # an interpreter within a server that keeps signals to itself
            log_once("signals", "Signals are left alone: %s", error)
    if watched and can_watch:
        _watchdog = Watchdog(watched, ended, end)


def arm_watchdog() -> None:
    """A signal must not end this process at once from now on. Until then, it does: also in a forked child, and where a
    handler is set that would do no more."""
    if _watchdog is not None:
        _watchdog.wake()


def _end_by(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL)
    else:
        set_action(number, 0)
    os.kill(os.getpid(), number)
    # The kernel lets no default action end the first process of a container; its exit status says the same.
    os._exit(128 + number)


def _drain_with_uvicorn(handler: Any, drain: Callable[[], None]) -> None:
    """Drain when the server has stopped whose method ``handler`` is: it puts the handler back that was there before it,
    and raises the signal again, where nobody can come in between."""
    server = getattr(handler, "__self__", None)
    stop: Any = getattr(server, "shutdown", None)
    is_servers = type(server).__module__.startswith("uvicorn.") and iscoroutinefunction(stop)
    if not is_servers or hasattr(stop, "__wrapped__"):
        return

    @wraps(stop)
    async def shutdown(*args: Any, **kwargs: Any) -> None:
        try:
            await stop(*args, **kwargs)
        finally:
            drain()

    server.shutdown = shutdown  # type: ignore[union-attr]


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


def drain_with_multiprocessing(provider: Any, at_exit: Callable[[], None]) -> None:
    """Send what is waiting when a child process of :mod:`multiprocessing` ends, too: it leaves without ``atexit``.

    A forked child has forgotten its parent's finalizers by the time that it runs; so it is given its own there.
    """
    from multiprocessing import process, util

    def at_end(_: object = None) -> None:
        util.Finalize(None, at_exit, exitpriority=10)

    util.register_after_fork(provider, at_end)
    if process.parent_process() is not None:  # a spawned child that calls configure() itself
        at_end()


def drain_with_celery(at_exit: Callable[[], None]) -> None:
    """The same for the processes of Celery's prefork pool: billiard ends them by ``os._exit``, and this signal is all
    that is called before."""
    signals = getattr(sys.modules.get("celery"), "signals", None)
    if signals is not None:
        signals.worker_process_shutdown.connect(lambda **_: at_exit(), weak=False)
