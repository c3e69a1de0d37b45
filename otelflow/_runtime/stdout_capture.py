"""Printed lines as messages of the run that printed them: by context, never by swapping the terminal away.

While at least one run captures, ``sys.stdout`` is a :class:`_Tee` in front of the stream that was there: everything
reaches that stream first, then complete lines go to the run of the current context, if that one captures. After the
last such run the original object is put back.
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
    "print_line",
    "quiet",
    "start_capture",
    "stop_capture",
    "terminal",
    "unmute",
]

_LONGEST_LINE = 65_536
"""Characters of an unfinished line that are held; more than that is handed on in pieces."""

_lock: threading.Lock
_captures = 0


quiet: dict[int, bool] = {}
"""The threads on which what is printed is no message now, by their identifiers: see :func:`mute`. A listener is called
so often that a ``threading.local`` would be most of what calling it costs; a set costs twice as much as a dict, whose
operations are no calls. All ask the function that was there at the import: gevent, where it patches later, puts another
one into :mod:`threading`, which gives other numbers."""


def _new_lock() -> None:
    """A lock that a thread of the parent held at a fork would stay shut, and a listener that forked keeps quiet."""
    global _lock
    _lock = threading.Lock()
    quiet.clear()


_new_lock()
after_fork_in_child(_new_lock)


class _Tee:
    """Stands in for a text stream: all its attributes are the stream's own, and ``write`` also feeds the run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def write(self, text: str) -> Any:
        written = self._stream.write(text)
        run = current_run()
        if run is not None and get_ident() not in quiet:
            run.printed(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


def mute() -> bool:
    """From here on, on this thread, what is printed is no message: for listeners, whose prints would otherwise cause
    events that cause prints, and for lines that we print ourselves. Returns what :func:`unmute` takes back."""
    thread = get_ident()
    before = thread in quiet
    quiet[thread] = True
    return before


def unmute(before: bool) -> None:
    """Let it be as it was before :func:`mute`."""
    if not before:
        quiet.pop(get_ident(), None)


def terminal() -> Any:
    """The stream that printed text reaches in the end, past our own stand-in."""
    stream = sys.stdout
    return stream._stream if isinstance(stream, _Tee) else stream


def print_line(text: str) -> None:
    """Print a line to the terminal that is no message. Raises what the stream raises."""
    before = mute()
    try:
        print(text, file=terminal())
    finally:
        unmute(before)


def start_capture() -> None:
    """One more run captures: put the tee in place unless it is."""
    global _captures
    with _lock:
        _captures += 1
        if sys.stdout is not None and not isinstance(sys.stdout, _Tee):
            sys.stdout = _Tee(sys.stdout)


def stop_capture() -> None:
    """One run less captures: after the last one, put the original stream back, unless the user replaced the tee."""
    global _captures
    with _lock:
        _captures -= 1
        if _captures == 0 and isinstance(sys.stdout, _Tee):
            sys.stdout = sys.stdout._stream


Lines = dict[int, str]
"""Unfinished lines, one a thread: two threads of one run may each be in the middle of one."""


def feed(lines: Lines, text: str, emit: Callable[[str], None]) -> None:
    """Add printed ``text``; ``emit`` each line that is complete now and not empty."""
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
    """``emit`` what was printed without a line end."""
    while lines:
        _, rest = lines.popitem()
        if rest.strip():
            emit(rest)
