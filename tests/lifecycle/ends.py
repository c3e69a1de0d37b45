"""Cases: how one process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lifecycle.matrix import Case, Running

WAITS = """
configure()
make(10)
ready()
time.sleep(60)
"""


def gets(number: int, first: float = 0.0) -> Callable[[Running], None]:
    """The program is sent a signal when it is ready, and ``first`` seconds have passed."""

    def act(running: Running) -> None:
        running.wait_for()
        time.sleep(first)
        running.signal(number)

    return act


def _container_is_stopped(running: Running) -> None:
    """What Docker and Kubernetes do: SIGTERM, and after 10 s SIGKILL."""
    running.wait_for()
    parent = running.process.pid
    first = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
    running.signal(signal.SIGTERM, first)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.process.wait(10)
        return
    os.kill(first, signal.SIGKILL)


def _freezes(running: Running) -> None:
    """Each invocation is followed by a freeze, as of a function that is kept for the next event; then it is killed."""
    for invocation in range(1, 4):
        running.go_on()
        running.wait_for(f"invocation {invocation}")
        running.signal(signal.SIGSTOP)
        running.receiver.break_connections()
        time.sleep(12 if running.patient else 1.2)
        running.signal(signal.SIGCONT)
    running.signal(signal.SIGKILL)


PLAIN = [
    Case("normal end", "configure(); make(10); ending()"),
    Case("exception", "configure(); make(10); ending(); raise ValueError('no')", code=1),
    Case("`sys.exit(3)`", "configure(); make(10); ending(); sys.exit(3)", code=3),
    Case("Ctrl-C (SIGINT)", WAITS, act=gets(signal.SIGINT), code=-signal.SIGINT),
    Case("`os._exit(5)`, at once", "configure(); make(10); ending(); os._exit(5)", delivered=(0, 10), code=5),
    Case(
        "`os._exit(5)`, 1.5 s after the last span",
        "configure(); make(10); time.sleep(1.5); ending(); os._exit(5)",
        delivered=(0, 10),
        spooled=10,
        code=5,
    ),
    Case(
        "SIGKILL, 1.5 s after the last span",
        WAITS,
        act=gets(signal.SIGKILL, 1.5),
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
kept = numbers()
next(kept)
ending()
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
ending()
""",
        delivered=(9, 10),
    ),
    Case(
        "frozen between invocations, as on Lambda; `flush()` in each",
        """
configure()
for number in (1, 2, 3):
    sys.stdin.readline()
    make(10)
    flush()
    say(f"invocation {number}")
time.sleep(60)
""",
        spans=30,
        act=_freezes,
        code=-signal.SIGKILL,
        environment={"OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    ),
]

OWN_HANDLER = """
import signal

def bye(number, frame):
    say("handled")
    sys.exit(7)
"""

SIGNALS = [
    Case(
        "SIGTERM, own handler set before `configure()`",
        f"{OWN_HANDLER}\nsignal.signal(signal.SIGTERM, bye)\n{WAITS}",
        act=gets(signal.SIGTERM),
        code=7,
    ),
    Case(
        "SIGTERM, own handler set after `configure()`",
        f"{OWN_HANDLER}\nconfigure()\nsignal.signal(signal.SIGTERM, bye)\nmake(10)\nready()\ntime.sleep(60)",
        act=gets(signal.SIGTERM),
        code=7,
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
    say("stopped")

asyncio.run(main())
""",
        act=gets(signal.SIGTERM),
    ),
    Case(
        "SIGHUP that the program ignores (`nohup`)",
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nconfigure()\nmake(5)\n"
        "os.kill(os.getpid(), signal.SIGHUP)\nmake(5)\nending()",
    ),
]
