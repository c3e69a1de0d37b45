"""Signals that end the process: what waits is sent first, then they do what they always do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from types import FrameType
from typing import Any

from otelflow._counts import log_once

__all__ = ["drain_on_signals"]

_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def drain_on_signals(drain: Callable[[], None]) -> None:
    """Have ``drain`` called before SIGTERM or SIGHUP ends this process.

    Only in the main thread, and only where nobody handles the signal: a handler of the user's is left in place, and one
    that is set later takes the place of this one. A server of uvicorn's handles SIGTERM while it runs, and raises it
    again when it has stopped: ``drain`` is called in between.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        try:
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL:
                signal.signal(number, _handler(drain))
            else:
                _drain_with_uvicorn(handler, drain)
        except (ValueError, OSError) as error:  # an interpreter within a server that keeps signals to itself
            log_once("signals", "Signals are left alone: %s", error)


def _handler(drain: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    def ended(number: int, _: FrameType | None) -> None:
        try:
            drain()
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # The kernel lets no default action end the first process of a container; its exit status says the same.
            os._exit(128 + number)

    return ended


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
