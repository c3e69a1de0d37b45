"""A terminal that a program runs in: a real pseudo-terminal, and an emulator that says what stands on its screen."""

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
    """A Python program in a terminal of ``columns`` and ``lines``. ``pictures`` are the screens that it showed, one
    whenever something came."""

    def __init__(self, source: str, *, columns: int = 100, lines: int = 30, **environment: str) -> None:
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=1.0)
        self._stream = pyte.ByteStream(self._screen)
        self.pictures: list[str] = []
        self.raw = b""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        clean = programs.clean_environment(TERM="xterm-256color", **environment)
        for name in ("CI", "NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR"):
            if name not in environment:
                clean.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=its,
            stdout=its,
            stderr=its,
            env=clean,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C is for who has a controlling terminal
        )
        os.close(its)
        self._ours = ours

    def send(self, text: str) -> None:
        """Type ``text``."""
        os.write(self._ours, text.encode())

    def read_until(self, seen: Callable[[str], Any], seconds: float = 30) -> None:
        """Follow what comes until ``seen`` is true of the screen."""
        end = time.monotonic() + seconds
        while not seen(self.screen()):
            if time.monotonic() > end or not self._read(0.2):
                raise AssertionError(f"not seen; the screen is:\n{self.screen()}")

    def finish(self, seconds: float = 60) -> int:
        """Follow what comes until the program ends; its exit status."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read(0.2):
            pass
        try:
            return self._process.wait(max(0.1, end - time.monotonic()))
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._ours)

    def terminate(self) -> None:
        """End the program by SIGTERM."""
        self._process.terminate()

    def _read(self, seconds: float) -> bool:
        """Take what is there; False at the end."""
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return True
        data = b""
        with contextlib.suppress(OSError):  # the program's side is closed
            data = os.read(self._ours, 65_536)
        if not data:
            return False
        self.raw += data
        self._stream.feed(data)
        self.pictures.append(self.screen())
        return True

    def screen(self) -> str:
        """What stands on the screen now."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def everything(self) -> str:
        """All lines, those that went out of sight as well."""
        above = ["".join(line[column].data for column in sorted(line)).rstrip() for line in self._screen.history.top]
        return "\n".join(above) + "\n" + self.screen()

    @property
    def cursor_is_hidden(self) -> bool:
        """Whether the terminal was left without a cursor."""
        return bool(self._screen.cursor.hidden)
