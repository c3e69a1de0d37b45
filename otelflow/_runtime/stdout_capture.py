"""Turn printed lines into messages of the run that printed them, by context; the terminal still gets all output.

While at least one run captures, ``sys.stdout`` is a :class:`_Tee` in front of the original stream. All text goes to
that stream first. Then complete lines go to the run of the current context, if that run captures. After the last such
run, the original object is restored.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any

from otelflow._runtime.fork import after_fork_in_child
from otelflow.context import current_run

__all__ = [
    "Lines",
    "feed",
    "flush_lines",
    "mute",
    "muted_threads",
    "print_line",
    "start_capture",
    "stop_capture",
    "terminal_stream",
    "unmute",
]

_LONGEST_LINE = 65_536
"""Maximum length of an unfinished line in memory, in characters. A longer line is emitted in pieces."""

_lock: threading.Lock
_capture_count = 0


muted_threads: dict[int, bool] = {}
"""Threads whose output is not a message now, by identifier: see :func:`mute`.

A listener is called often: a ``threading.local`` would be most of the cost of that call. A set costs twice as much as a
dict, whose operations are no calls. All code uses the ``get_ident`` of import time: if gevent patches later, it
replaces the one in :mod:`threading` by one that returns other numbers.
"""


def _reset() -> None:
    """Create the lock, and unmute all threads; also in a forked child.

    There a lock that a parent's thread held would stay locked, and a listener that forked would stay muted.
    """
    global _lock
    _lock = threading.Lock()
    muted_threads.clear()


_reset()
after_fork_in_child(_reset)


class _Tee:
    """Text stream that delegates to another stream; ``write`` also passes the text to the current run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def write(self, text: str) -> Any:
        written = self._stream.write(text)
        run = current_run()
        if run is not None and get_ident() not in muted_threads:
            run.printed(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def mute() -> bool:
    """Make output of this thread no message until :func:`unmute`. Return the argument of that call.

    For listeners, whose output would otherwise cause events that cause output; and for lines that otelflow prints.
    """
    thread = get_ident()
    was_muted = thread in muted_threads
    muted_threads[thread] = True
    return was_muted


def unmute(was_muted: bool) -> None:
    """Restore the state before :func:`mute`."""
    if not was_muted:
        muted_threads.pop(get_ident(), None)


def terminal_stream() -> Any:
    """Return the stream that gets printed text in the end, without the tee."""
    stream = sys.stdout
    return stream._stream if isinstance(stream, _Tee) else stream


def print_line(text: str) -> None:
    """Print a line to the terminal that is no message. Raises any error of the stream."""
    was_muted = mute()
    try:
        print(text, file=terminal_stream())
    finally:
        unmute(was_muted)


def start_capture() -> None:
    """Count one more capturing run, and install the tee if it is not there."""
    global _capture_count
    with _lock:
        _capture_count += 1
        if sys.stdout is not None and not isinstance(sys.stdout, _Tee):
            sys.stdout = _Tee(sys.stdout)


def stop_capture() -> None:
    """Count one capturing run less. After the last one, restore the original stream.

    If the user has replaced the tee, that stream stays.
    """
    global _capture_count
    with _lock:
        _capture_count -= 1
        if _capture_count == 0 and isinstance(sys.stdout, _Tee):
            sys.stdout = sys.stdout._stream


Lines = dict[int, str]
"""Unfinished lines by thread: two threads of one run may each be in the middle of a line."""


def feed(lines: Lines, text: str, emit: Callable[[str], None]) -> None:
    """Add printed ``text``, and emit each complete line that is not empty."""
    thread = get_ident()
    text = lines.pop(thread, "") + text
    *complete, rest = text.split("\n")
    if len(rest) > _LONGEST_LINE:
        complete.append(rest)
        rest = ""
    if rest:
        lines[thread] = rest
    for line in complete:
        if line.strip():
            emit(line.rstrip("\r"))


def flush_lines(lines: Lines, emit: Callable[[str], None]) -> None:
    """Emit the text that was printed without a line end."""
    while lines:
        _, rest = lines.popitem()
        if rest.strip():
            emit(rest)
