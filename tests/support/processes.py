"""Start a server as a process, wait until it accepts connections, and end it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["end_process", "free_ports", "running_process", "tool", "wait_for_port"]


def end_process(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Terminate a process, and kill it after ``seconds``."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running_process(*words: Any, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and end it afterwards."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env={**os.environ, **environment})
        try:
            yield process
        finally:
            end_process(process)


def tool(name: str) -> Path | None:
    """Return the path of a server that ``.ci`` built into the cache; None if it is not there."""
    cache = os.environ.get("OTELFLOW_TOOLS") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "otelflow"
    )
    binary = Path(cache, name)
    return binary if os.access(binary, os.X_OK) else None


def free_ports(number: int) -> list[int]:
    """Return loopback ports that are free at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for bound_socket in sockets:
            bound_socket.bind(("127.0.0.1", 0))
        return [bound_socket.getsockname()[1] for bound_socket in sockets]


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until a started process accepts connections on loopback."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s (exit status {process.poll()})")
