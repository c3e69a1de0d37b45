"""Draw on the lower part of a terminal, while the program's output above it stays unchanged.

Rich's own redirection replaces ``sys.stdout``. The replacement delays unfinished lines and wraps long ones, and code
that kept the original stream (logging handlers) bypasses it. Here the stream stays, and its ``write`` first removes the
picture. So the program's output is the same, to the byte.
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

_TextStream = io.TextIOWrapper


class _Console(Console):
    """A console that never hides the cursor: a process that is killed would leave the terminal without one."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _UnguardedStream:
    """The stream without the guard on its ``write``: the picture is written to it."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return _TextStream.write(self._stream, text)


class Region:
    """The area of the terminal ``out`` below the program's output, where a picture is drawn. Thread-safe."""

    def __init__(self, out: io.TextIOWrapper) -> None:
        self._lock = threading.RLock()
        self._console = _Console(file=_UnguardedStream(out), highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]
        self._live: Live | None = None
        self._is_at_line_start = True
        self._waits_for_input = False
        candidates = (out, sys.stdout, sys.stderr)
        streams = {id(stream): stream for stream in candidates if type(stream) is _TextStream and stream.isatty()}
        self._streams = list(streams.values())
        for stream in self._streams:
            stream.write = self._guard(stream)  # type: ignore[method-assign]
        self._input = builtins.input
        builtins.input = self._input_without_picture

    @property
    def height(self) -> int:
        """Height of the terminal in lines."""
        return self._console.size.height

    def _guard(self, stream: io.TextIOWrapper) -> Callable[[str], int]:
        def write(text: str) -> int:
            with self._lock:
                self.hide()
                written = _TextStream.write(stream, text)
                if text:
                    self._is_at_line_start = text.endswith("\n")
            return written

        return write

    def _input_without_picture(self, *prompt: Any) -> str:
        """Replace the builtin ``input``: it writes its prompt past the stream, and no picture may cover the answer."""
        with self._lock:
            self.hide()
            self._waits_for_input = True
        try:
            return self._input(*prompt)
        finally:
            self._waits_for_input = False

    def draw(self, picture: RenderableType) -> None:
        """Replace the picture by ``picture``. Does nothing while the program is in the middle of a line."""
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
        """Remove the picture."""
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                live.stop()

    def close(self) -> None:
        """Remove the picture for the last time, and restore the streams' own ``write``."""
        with self._lock:
            self.hide()
            self._restore_streams()

    def forget(self) -> None:
        """Stop drawing in a forked child. Takes no lock: a thread that exists only in the parent may hold it."""
        self._lock = threading.RLock()
        self._live = None
        self._restore_streams()

    def _restore_streams(self) -> None:
        for stream in self._streams:
            vars(stream).pop("write", None)
        self._streams = []
        if builtins.input == self._input_without_picture:
            builtins.input = self._input
