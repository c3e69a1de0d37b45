"""Start a server as a process, wait until it takes connections, and end it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["end", "free_ports", "started", "tool", "wait_for_port"]


def end(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Terminate a process, and kill it where that takes longer than ``seconds``."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def started(*words: Any, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, **environment})
        try:
            yield process
        finally:
            end(process)


def tool(name: str) -> Path | None:
    """A server that ``.ci`` built into the cache; None where it is not there."""
    cache = os.environ.get("OTELFLOW_TOOLS") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "otelflow"
    )
    binary = Path(cache, name)
    return binary if os.access(binary, os.X_OK) else None


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until a process that was started takes connections on loopback."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s (exit status {process.poll()})")
