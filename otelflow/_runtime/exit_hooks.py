"""Send queued data before the process ends: on a signal, before ``exec``, when a worker exits without ``atexit``.

A signal then has its usual effect.
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
from otelflow._runtime.watchdog import Watchdog, get_action, is_supported, set_action

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
    """Register ``drain`` to run before SIGTERM or SIGHUP ends this process, once :func:`arm_watchdog` was called.

    This works only in the main thread, and only for a signal without a handler. A handler of the user stays in place,
    and one that is set later replaces this one. A uvicorn server handles SIGTERM while it runs, and raises it again
    after it has stopped: ``drain`` runs in between.
    """
    global _watchdog
    if threading.current_thread() is not threading.main_thread():
        return
    watched_signals, can_watch = [], is_supported()

    def drain_and_terminate(number: int) -> None:
        try:
            drain()
        finally:
            _terminate_by_signal(number)

    def handle_signal(number: int, _: FrameType | None) -> None:
        if _watchdog is not None:
            _watchdog.handler_ran.set()
        drain_and_terminate(number)

    for number in _SIGNALS:
        try:
            handler = signal.getsignal(number)
            if handler is not signal.SIG_DFL:
                _drain_after_uvicorn(handler, drain)
            elif not can_watch or get_action(number) == 0:  # else code outside Python handles it
                signal.signal(number, handle_signal)
                watched_signals.append(number)
        except (ValueError, OSError) as error:  # an interpreter embedded in a server that manages signals itself
            log_once("signals", "Cannot handle signals; queued spans may be lost when one ends the process: %s", error)
    if watched_signals and can_watch:
        _watchdog = Watchdog(watched_signals, handle_signal, drain_and_terminate)


def arm_watchdog() -> None:
    """Start the signal watchdog, as there is data to send.

    Before that, signals keep their default action: also in a forked child, and although our handler is set.
    """
    if _watchdog is not None:
        _watchdog.arm()


def _terminate_by_signal(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, signal.SIG_DFL)
    else:
        set_action(number, 0)
    os.kill(os.getpid(), number)
    # In a container, the kernel does not apply default actions to the first process. This exit status is equivalent.
    os._exit(128 + number)


def _drain_after_uvicorn(handler: Any, drain: Callable[[], None]) -> None:
    """Register ``drain`` to run when the uvicorn server has stopped whose method ``handler`` is.

    The server restores the previous handler and raises the signal again, and nothing can run between the two.
    """
    server = getattr(handler, "__self__", None)
    stop: Any = getattr(server, "shutdown", None)
    is_uvicorn_server = type(server).__module__.startswith("uvicorn.") and iscoroutinefunction(stop)
    if not is_uvicorn_server or hasattr(stop, "__wrapped__"):
        return

    @wraps(stop)
    async def shutdown(*args: Any, **kwargs: Any) -> None:
        try:
            await stop(*args, **kwargs)
        finally:
            drain()

    server.shutdown = shutdown  # type: ignore[union-attr]


def drain_before_exec(drain: Callable[[], None]) -> None:
    """Register ``drain`` to run before :func:`os.execv` and its variants: no signal and no ``atexit`` precedes them."""
    for name in ("execv", "execve"):  # the other variants call these
        replace = getattr(os, name, None)
        if replace is not None and not hasattr(replace, "__wrapped__"):
            setattr(os, name, _drain_first(replace, drain))


def _drain_first(replace: Callable[..., Any], drain: Callable[[], None]) -> Callable[..., Any]:
    @wraps(replace)
    def drain_and_replace(path: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_executable(path):
            drain()
        return replace(path, *args, **kwargs)

    return drain_and_replace


def _is_executable(path: Any) -> bool:
    """Return False if the call will fail: ``os.execvp`` tries each folder of ``PATH`` in turn."""
    try:
        return os.access(path, os.X_OK)
    except (TypeError, ValueError):  # a file descriptor, or an argument that the call itself will refuse
        return isinstance(path, int)


def drain_with_multiprocessing(provider: Any, at_exit: Callable[[], None]) -> None:
    """Register ``at_exit`` to run also when a child process of :mod:`multiprocessing` ends, as it skips ``atexit``.

    A forked child has dropped its parent's finalizers before it runs its target, so it registers its own.
    """
    from multiprocessing import process, util

    def register_finalizer(_: object = None) -> None:
        util.Finalize(None, at_exit, exitpriority=10)

    util.register_after_fork(provider, register_finalizer)
    if process.parent_process() is not None:  # a spawned child that calls configure() itself
        register_finalizer()


def drain_with_celery(at_exit: Callable[[], None]) -> None:
    """Register ``at_exit`` to run also when a process of Celery's prefork pool ends.

    billiard ends these processes by ``os._exit``. This signal is the only call before that.
    """
    signals = getattr(sys.modules.get("celery"), "signals", None)
    if signals is not None:
        signals.worker_process_shutdown.connect(lambda **_: at_exit(), weak=False)
