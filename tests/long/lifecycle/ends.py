"""Cases: the exit of one process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lifecycle.matrix import Case, Running, can_make_a_pid_namespace

WAITS = """
configure()
make(10)
ready()
time.sleep(60)
"""


def send_signal(number: int, delay: float = 0.1) -> Callable[[Running], None]:
    """Return an act that sends a signal ``delay`` seconds after the program is ready.

    The delay matters: Python handles a signal that comes between its last check and the start of a sleep only after the
    sleep.
    """

    def act(running: Running) -> None:
        running.wait_for()
        time.sleep(delay)
        running.signal(number)

    return act


def _stop_container(running: Running) -> None:
    """Stop the program like Docker and Kubernetes: SIGTERM, and after 10 s SIGKILL."""
    running.wait_for()
    parent = running.process.pid
    container_pid = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
    running.signal(signal.SIGTERM, container_pid)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(10)
        return
    os.kill(container_pid, signal.SIGKILL)


def _freeze(running: Running) -> None:
    """Freeze the process after each invocation, like a function that waits for its next event; at last, kill it."""
    for invocation in range(1, 4):
        running.send_line()
        running.wait_for(f"invocation {invocation}")
        running.signal(signal.SIGSTOP)
        running.receiver.break_connections()
        time.sleep(3 if running.patient else 1.2)
        running.signal(signal.SIGCONT)
    running.signal(signal.SIGKILL)


PLAIN = [
    Case("normal end", "configure(); make(10); announce_exit()"),
    Case("exception", "configure(); make(10); announce_exit(); raise ValueError('no')", code=1),
    Case("`sys.exit(3)`", "configure(); make(10); announce_exit(); sys.exit(3)", code=3),
    Case("Ctrl-C (SIGINT)", WAITS, act=send_signal(signal.SIGINT), code=-signal.SIGINT),
    Case("`os._exit(5)`, at once", "configure(); make(10); announce_exit(); os._exit(5)", delivered=(0, 10), code=5),
    Case(
        "`os._exit(5)`, 1.5 s after the last span",
        "configure(); make(10); time.sleep(1.5); announce_exit(); os._exit(5)",
        delivered=(0, 10),
        spooled=10,
        code=5,
    ),
    Case(
        "SIGKILL, 1.5 s after the last span",
        WAITS,
        act=send_signal(signal.SIGKILL, 1.5),
        delivered=(0, 10),
        spooled=10,
        code=-signal.SIGKILL,
    ),
    Case(
        "a generator that is not exhausted",
        """
@task
def numbers():
    yield 1
    yield 2

configure()
make(9)
iterator = numbers()
next(iterator)
announce_exit()
""",
        delivered=(9, 10),
    ),
    Case(
        "a daemon thread inside a flow",
        """
import threading

@flow
def endless():
    step()
    ready()
    threading.Event().wait()

configure()
make(8)
threading.Thread(target=endless, daemon=True).start()
time.sleep(0.2)
announce_exit()
""",
        delivered=(9, 10),
    ),
    Case("a burst of 100,000 spans", "configure(); make(100_000); announce_exit()", spans=100_000),
    Case(
        "frozen between invocations, as on Lambda; `flush()` in each",
        """
configure()
for number in (1, 2, 3):
    sys.stdin.readline()
    make(10)
    flush()
    write_line(f"invocation {number}")
time.sleep(60)
""",
        spans=30,
        act=_freeze,
        code=-signal.SIGKILL,
        environment={"OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    ),
]

OWN_HANDLER = """
import signal

def bye(number, frame):
    write_line("handled")
    sys.exit(7)
"""

SIGNALS = [
    Case("SIGTERM", WAITS, act=send_signal(signal.SIGTERM), code=-signal.SIGTERM),
    Case("SIGHUP", WAITS, act=send_signal(signal.SIGHUP), code=-signal.SIGHUP),
    Case(
        "SIGTERM, own handler set before `configure()`",
        f"{OWN_HANDLER}\nsignal.signal(signal.SIGTERM, bye)\n{WAITS}",
        act=send_signal(signal.SIGTERM),
        code=7,
    ),
    Case(
        "SIGTERM, own handler set after `configure()`",
        f"{OWN_HANDLER}\nconfigure()\nsignal.signal(signal.SIGTERM, bye)\nmake(10)\nready()\ntime.sleep(60)",
        act=send_signal(signal.SIGTERM),
        code=7,
    ),
    Case(
        "SIGTERM, own handler that calls the one before it",
        """
import signal

configure()
before = signal.getsignal(signal.SIGTERM)

def bye(number, frame):
    write_line("handled")
    if callable(before):
        before(number, frame)
    else:
        signal.signal(number, before)
        os.kill(os.getpid(), number)

signal.signal(signal.SIGTERM, bye)
make(10)
ready()
time.sleep(60)
""",
        act=send_signal(signal.SIGTERM),
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM, asyncio with `add_signal_handler`",
        """
import asyncio, signal

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    configure()
    make(10)
    ready()
    await stop.wait()
    write_line("stopped")

asyncio.run(main())
""",
        act=send_signal(signal.SIGTERM),
    ),
    Case(
        "SIGTERM, asyncio without a handler",
        """
import asyncio

async def main():
    configure()
    make(10)
    ready()
    await asyncio.sleep(60)

asyncio.run(main())
""",
        act=send_signal(signal.SIGTERM),
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM, the main thread blocked in I/O",
        "import socket\nconfigure(); make(10)\na, b = socket.socketpair()\nready()\na.recv(1)",
        act=send_signal(signal.SIGTERM),
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM, another thread blocked in I/O",
        """
import socket, threading

def reads():
    make(5)
    ready()
    a.recv(1)

a, b = socket.socketpair()
configure()
make(5)
thread = threading.Thread(target=reads)
thread.start()
thread.join()
""",
        act=send_signal(signal.SIGTERM),
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM, the main thread in a C call that does not return",
        """
import ctypes
configure()
make(10)
lock = ctypes.create_string_buffer(64)
c = ctypes.CDLL(None)
ready()
c.pthread_mutex_lock(lock)
c.pthread_mutex_lock(lock)
""",
        act=send_signal(signal.SIGTERM),
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM inside a flow",
        "@flow\ndef long():\n    step()\n    ready()\n    time.sleep(60)\n\nconfigure()\nmake(8)\nlong()",
        act=send_signal(signal.SIGTERM),
        delivered=(9, 10),
        code=-signal.SIGTERM,
    ),
    Case(
        "SIGTERM to process 1 of a container, SIGKILL 10 s later",
        WAITS,
        act=_stop_container,
        command=("unshare", "--pid", "--fork", "--kill-child", sys.executable, "{program}"),
        code=143,
        telemetry_decides=True,  # the kernel drops a SIGTERM to process 1 without a handler
        needs=can_make_a_pid_namespace,
    ),
    Case(
        "SIGHUP that the program ignores (`nohup`)",
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nconfigure()\nmake(5)\n"
        "os.kill(os.getpid(), signal.SIGHUP)\nmake(5)\nannounce_exit()",
    ),
]
