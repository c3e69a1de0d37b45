"""Cases: the behaviour of the receiver."""

from __future__ import annotations

import signal
import time

from lifecycle.ends import WAITS, send_signal
from lifecycle.matrix import Case, Running
from scripted_receiver import Answer

EXITS = "configure(); make(10); announce_exit()"

FAST_EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""Spans are sent before the program ends."""


def _start_receiver_later(running: Running) -> None:
    """Start the receiver while the program runs."""
    running.wait_for()
    time.sleep(20 if running.patient else 1.5)
    running.receiver.up()
    running.send_line()


def _restart_receiver(running: Running) -> None:
    running.wait_for()
    running.receiver.down()
    running.send_line()
    running.wait_for(times=2)
    time.sleep(20 if running.patient else 1.5)
    running.receiver.up()
    running.send_line()


def _then_accept(*answers: Answer) -> tuple[Answer, ...]:
    return (*answers, Answer())


EXITS_ON_INPUT = "configure()\nmake(10)\nready()\nsys.stdin.readline()\nannounce_exit()"

RECEIVERS = [
    Case("refuses connections", EXITS, delivered=0, spooled=10, up=False),
    Case(
        "refuses connections, and SIGTERM",
        WAITS,
        delivered=0,
        spooled=10,
        act=send_signal(signal.SIGTERM),
        code=-signal.SIGTERM,
        up=False,
    ),
    Case("hangs: takes connections and never answers", EXITS, delivered=0, spooled=10, answers=(Answer(hangs=True),)),
    Case("answers 503 throughout", EXITS, delivered=0, spooled=10, answers=(Answer(503),)),
    Case("answers 500 once", EXITS, spooled=10, answers=_then_accept(Answer(500))),
    Case("answers 503 twice", EXITS, answers=_then_accept(Answer(503), Answer(503))),
    Case("answers 429 with `Retry-After: 1` once", EXITS, answers=_then_accept(Answer(429, retry_after=1))),
    Case("partial success: refuses 3 of 10", EXITS, delivered=7, answers=(Answer(rejects=3),)),
    Case(
        "takes no body above 20 kB (413)",
        "configure(); make(400); announce_exit()",
        spans=400,
        answers=(Answer(limit=20_000),),
    ),
    Case(
        "takes no body above 4 MiB (413), spans of 60 kB",
        "configure()\nfor _ in range(100):\n    heavy()\nannounce_exit()",
        spans=100,
        answers=(Answer(limit=4 * 1024 * 1024),),
    ),
    Case(
        "slow: each answer takes 0.4 s",
        "configure(); make(4_000); announce_exit()",
        spans=4_000,
        answers=(Answer(seconds=0.4),),
    ),
    Case(
        "down at the start, up later",
        EXITS_ON_INPUT,
        act=_start_receiver_later,
        up=False,
        environment=FAST_EXPORT,
    ),
    Case(
        "restarted in the middle",
        "configure()\nmake(5)\nflush()\nready()\nsys.stdin.readline()\nmake(5)\nready()\nsys.stdin.readline()\n"
        "make(5)\nannounce_exit()",
        spans=15,
        act=_restart_receiver,
        environment=FAST_EXPORT,
    ),
]

OVER_GRPC = [
    Case("normal end, over gRPC", EXITS, grpc=True),
    Case("SIGTERM, over gRPC", WAITS, act=send_signal(signal.SIGTERM), code=-signal.SIGTERM, grpc=True),
    Case(
        "`os.fork`, the child ends as programs do, over gRPC",
        "configure()\nmake(5)\nflush()\nif os.fork() == 0:\n    make(5)\n    sys.exit()\nos.wait()\nmake(5)\n"
        "announce_exit()",
        spans=15,
        grpc=True,
    ),
    Case("refuses connections, over gRPC", EXITS, delivered=0, spooled=10, up=False, grpc=True),
    Case("hangs, over gRPC", EXITS, delivered=0, spooled=10, answers=(Answer(hangs=True),), grpc=True),
    Case(
        "down at the start, up later, over gRPC",
        EXITS_ON_INPUT,
        act=_start_receiver_later,
        up=False,
        environment=FAST_EXPORT,
        grpc=True,
    ),
]
