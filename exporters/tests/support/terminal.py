"""Run a program in a real pseudo-terminal, and emulate the screen that it writes to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import programs
import pyte

__all__ = ["Session"]


class Session:
    """A Python program in a terminal of ``columns`` and ``lines``.

    ``pictures`` are the screens so far: one for each piece of output.
    """

    def __init__(self, source: str, *, columns: int = 100, lines: int = 30, **environment: str) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1.0)
        self._stream = pyte.ByteStream(self._screen)
        self.pictures: list[str] = []
        self.raw = b""
        own_end, program_end = pty.openpty()
        fcntl.ioctl(program_end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment_ = programs.clean_environment(TERM="xterm-256color", **environment)
        for name in ("CI", "NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"):
            if name not in environment:
                environment_.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=program_end,
            stdout=program_end,
            stderr=program_end,
            env=environment_,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C needs a controlling terminal
        )
        os.close(program_end)
        self._own_end = own_end

    def send(self, text: str) -> None:
        """Type ``text``."""
        os.write(self._own_end, text.encode())

    def read_until(self, is_reached: Callable[[str], Any], seconds: float = 30) -> None:
        """Read output until ``is_reached`` returns true for the screen."""
        end = time.monotonic() + seconds
        while not is_reached(self.screen()):
            if time.monotonic() > end or not self._read(0.2):
                raise AssertionError(f"not seen; the screen is:\n{self.screen()}")

    def finish(self, seconds: float = 60) -> int:
        """Read output until the program ends. Return its exit status."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read(0.2):
            pass
        try:
            return self._process.wait(max(0.1, end - time.monotonic()))
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._own_end)

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        self._process.terminate()

    def _read(self, seconds: float) -> bool:
        """Read the available output. Return False at its end."""
        ready, _, _ = select.select([self._own_end], [], [], seconds)
        if not ready:
            return True
        data = b""
        with contextlib.suppress(OSError):  # the program has closed its end
            data = os.read(self._own_end, 65_536)
        if not data:
            return False
        self.raw += data
        self._stream.feed(data)
        self.pictures.append(self.screen())
        return True

    def screen(self) -> str:
        """Return the text on the screen."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def everything(self) -> str:
        """Return all lines, including those that have scrolled off the screen."""
        history = ["".join(line[column].data for column in sorted(line)).rstrip() for line in self._screen.history.top]
        return "\n".join(history) + "\n" + self.screen()

    @property
    def cursor_is_hidden(self) -> bool:
        """True if the terminal has no visible cursor."""
        return bool(self._screen.cursor.hidden)
