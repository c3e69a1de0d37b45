"""Cases: what the receiver may do."""

from __future__ import annotations

import signal
import time

from lifecycle.ends import WAITS, gets
from lifecycle.matrix import Case, Running
from scripted_receiver import Answer

ENDS = "configure(); make(10); ending()"

SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""What is made is sent before the program ends."""


def _later(running: Running) -> None:
    """The receiver comes up while the program runs."""
    running.wait_for()
    time.sleep(20 if running.patient else 1.5)
    running.receiver.up()
    running.go_on()


def _restarts(running: Running) -> None:
    running.wait_for()
    running.receiver.down()
    running.go_on()
    running.wait_for(times=2)
    time.sleep(20 if running.patient else 1.5)
    running.receiver.up()
    running.go_on()


def _first(*answers: Answer) -> tuple[Answer, ...]:
    return (*answers, Answer())


LATER = "configure()\nmake(10)\nready()\nsys.stdin.readline()\nending()"

RECEIVERS = [
    Case("refuses connections", ENDS, delivered=0, spooled=10, up=False),
    Case(
        "refuses connections, and SIGTERM",
        WAITS,
        delivered=0,
        spooled=10,
        act=gets(signal.SIGTERM),
        code=-signal.SIGTERM,
        up=False,
    ),
    Case("hangs: takes connections and never answers", ENDS, delivered=0, spooled=10, answers=(Answer(hangs=True),)),
    Case("answers 503 throughout", ENDS, delivered=0, spooled=10, answers=(Answer(503),)),
    Case("answers 500 once", ENDS, spooled=10, answers=_first(Answer(500))),
    Case("answers 503 twice", ENDS, answers=_first(Answer(503), Answer(503))),
    Case("answers 429 with `Retry-After: 1` once", ENDS, answers=_first(Answer(429, retry_after=1))),
    Case("partial success: refuses 3 of 10", ENDS, delivered=7, answers=(Answer(rejects=3),)),
    Case(
        "takes no body above 20 kB (413)",
        "configure(); make(400); ending()",
        spans=400,
        answers=(Answer(limit=20_000),),
    ),
    Case(
        "takes no body above 4 MiB (413), spans of 60 kB",
        "configure()\nfor _ in range(100):\n    heavy()\nending()",
        spans=100,
        answers=(Answer(limit=4 * 1024 * 1024),),
    ),
    Case(
        "slow: each answer takes 0.4 s",
        "configure(); make(4_000); ending()",
        spans=4_000,
        answers=(Answer(seconds=0.4),),
    ),
    Case(
        "down at the start, up later",
        LATER,
        act=_later,
        up=False,
        environment=SOON,
    ),
    Case(
        "restarted in the middle",
        "configure()\nmake(5)\nflush()\nready()\nsys.stdin.readline()\nmake(5)\nready()\nsys.stdin.readline()\n"
        "make(5)\nending()",
        spans=15,
        act=_restarts,
        environment=SOON,
    ),
]

OVER_GRPC = [
    Case("normal end, over gRPC", ENDS, grpc=True),
    Case("SIGTERM, over gRPC", WAITS, act=gets(signal.SIGTERM), code=-signal.SIGTERM, grpc=True),
    Case(
        "`os.fork`, the child ends as programs do, over gRPC",
        "configure()\nmake(5)\nflush()\nif os.fork() == 0:\n    make(5)\n    sys.exit()\nos.wait()\nmake(5)\nending()",
        spans=15,
        grpc=True,
    ),
    Case("refuses connections, over gRPC", ENDS, delivered=0, spooled=10, up=False, grpc=True),
    Case("hangs, over gRPC", ENDS, delivered=0, spooled=10, answers=(Answer(hangs=True),), grpc=True),
    Case("down at the start, up later, over gRPC", LATER, act=_later, up=False, environment=SOON, grpc=True),
]
