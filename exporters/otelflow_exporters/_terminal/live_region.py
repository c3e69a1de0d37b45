"""The lower part of a terminal, drawn again and again while the program above it prints as ever.

Rich's own redirection puts a stand-in for ``sys.stdout``, which holds back unfinished lines, wraps long ones, and is
unknown to whoever kept the stream before (handlers of logging). Here the stream stays, and its ``write`` first takes
the drawing away. So a program prints what it prints, to the byte.
"""

from __future__ import annotations

import builtins
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

__all__ = ["Region"]

_STREAM = io.TextIOWrapper


class _Console(Console):
    """The cursor stays: a process that is killed would leave a terminal without one."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Unguarded:
    """The stream itself, past the guard: for what is drawn."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return _STREAM.write(self._stream, text)


class Region:
    """Draws on the terminal ``out`` below whatever is printed to it. Safe with threads."""

    def __init__(self, out: io.TextIOWrapper) -> None:
        self._lock = threading.RLock()
        self._console = _Console(file=_Unguarded(out), highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]
        self._live: Live | None = None
        self._is_at_line_start = True
        self._waits_for_input = False
        streams = {id(one): one for one in (out, sys.stdout, sys.stderr) if type(one) is _STREAM and one.isatty()}
        self._streams = list(streams.values())
        for stream in self._streams:
            stream.write = self._guard(stream)  # type: ignore[method-assign]
        self._input = builtins.input
        builtins.input = self._ask

    @property
    def height(self) -> int:
        """Lines of the terminal."""
        return self._console.size.height

    def _guard(self, stream: io.TextIOWrapper) -> Callable[[str], int]:
        def write(text: str) -> int:
            with self._lock:
                self.hide()
                written = _STREAM.write(stream, text)
                if text:
                    self._is_at_line_start = text.endswith("\n")
            return written

        return write

    def _ask(self, *prompt: Any) -> str:
        """``input``: its prompt goes past the stream, and what is typed must not be drawn over."""
        with self._lock:
            self.hide()
            self._waits_for_input = True
        try:
            return self._input(*prompt)
        finally:
            self._waits_for_input = False

    def draw(self, picture: RenderableType) -> None:
        """Show ``picture`` in place of the one before. Not in the middle of a line that the program prints."""
        with self._lock:
            if not self._streams or not self._is_at_line_start or self._waits_for_input:
                return
            if self._live is None:
                for stream in self._streams:
                    stream.flush()
                self._live = Live(
                    console=self._console,
                    transient=True,
                    auto_refresh=False,
                    redirect_stdout=False,
                    redirect_stderr=False,
                    vertical_overflow="crop",
                )
                self._live.start()
            self._live.update(picture, refresh=True)

    def hide(self) -> None:
        """Take the picture away."""
        with self._lock:
            shown, self._live = self._live, None
            if shown is not None:
                shown.stop()

    def close(self) -> None:
        """Take the picture away for good, and give the streams their own ``write`` again."""
        with self._lock:
            self.hide()
            self._give_back()

    def forget(self) -> None:
        """In a forked child: nothing is drawn, and no lock of a thread that is not here is taken."""
        self._lock = threading.RLock()
        self._live = None
        self._give_back()

    def _give_back(self) -> None:
        for stream in self._streams:
            vars(stream).pop("write", None)
        self._streams = []
        if builtins.input == self._ask:
            builtins.input = self._input
