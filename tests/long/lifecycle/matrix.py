"""What a case of the matrix is, how it is run, and what came of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import programs
from scripted_grpc_receiver import ScriptedGrpc
from scripted_receiver import Answer, Scripted

KIT = Path(__file__).parent / "kit"

OURS, SPOOL, BARE, NONE = "otelflow", "spool", "bare", "none"
"""The columns: ours, ours with the spool, the SDK with spans by hand, and the program without any telemetry."""

Receiver = Scripted | ScriptedGrpc

HEAD = "import os, sys, time\nfrom telemetry import *\n"

NEXT_START = f"{HEAD}configure()\nflush(30)\n"

LONGEST = 90
"""Seconds until a program that does not end is killed: the bare SDK takes more than 30 with a receiver that hangs."""


@dataclass(frozen=True)
class Case:
    """One way to end, or one thing that goes wrong.

    name: its row in the table.
    program: its text, below ``HEAD``.
    spans: how many it makes; where its text does not fix that, it says ``made N`` itself.
    delivered: how many of them otelflow delivers; the least and the most, where chance has a part in it.
    spooled: with the spool. None: the same.
    act: what happens to it from outside.
    code: its exit code, with telemetry and without.
    grpc: OTLP goes over gRPC.
    telemetry_decides: the exit code is not compared with the program's without any telemetry, which goes another way.
    """

    name: str
    program: str
    spans: int = 10
    delivered: int | tuple[int, int] | None = None
    spooled: int | None = None
    act: Callable[[Running], None] = lambda running: None
    code: int = 0
    answers: tuple[Answer, ...] = ()
    up: bool = True
    command: tuple[str, ...] = (sys.executable, "{program}")
    environment: dict[str, str] = field(default_factory=dict)
    serves: bool = False
    grpc: bool = False
    telemetry_decides: bool = False
    needs: Callable[[], str | None] = lambda: None

    def least_and_most(self, made: int) -> tuple[int, int]:
        """How many of the spans that were made are to be delivered."""
        wanted = made if self.delivered is None else self.delivered
        return wanted if isinstance(wanted, tuple) else (wanted, wanted)


@dataclass(frozen=True)
class Outcome:
    """What came of a case: spans that were made, delivered, and delivered more than once; seconds from the moment that
    the end began; exit code (None: it did not end); what the program said."""

    made: int
    delivered: int
    twice: int
    seconds: float
    code: int | None
    said: list[str]
    stderr: str


class Running:
    """A case's program while it runs, and the receiver that it sends to."""

    def __init__(self, case: Case, column: str, receiver: Receiver, folder: Path, patient: bool) -> None:
        self.receiver = receiver
        self.patient = patient
        """There is time: outages last as long as real ones."""
        self.said: list[str] = []
        self.began_to_end = 0.0
        self._heard = threading.Condition()
        self._over = False
        self.listening = socket.create_server(("127.0.0.1", 0)) if case.serves else None
        fds = (self.listening.fileno(),) if self.listening else ()
        program = folder / "program.py"
        program.write_text(HEAD + case.program)
        self.stderr = (folder / "stderr").open("w+b")
        self.process = subprocess.Popen(
            [word.format(program=program, fd=fds[0] if fds else "") for word in case.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=_environment(case, column, receiver, folder),
            cwd=folder,
            text=True,
            pass_fds=fds,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._heard:
                if line == "ending\n":
                    self.began_to_end = time.monotonic()
                else:
                    self.said.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._over = True
            self._heard.notify_all()

    def wait_for(self, text: str = "ready", times: int = 1) -> None:
        """Until the program has said it."""
        with self._heard:
            self._heard.wait_for(lambda: self.said.count(text) >= times or self._over, 30)
            assert self.said.count(text) >= times, f"the program did not say {text!r}: {self.errors()}"

    def signal(self, number: int, pid: int | None = None) -> None:
        self.began_to_end = time.monotonic()
        os.kill(pid or self.process.pid, number)

    def go_on(self) -> None:
        """The program may read one line more."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def end(self, seconds: float = LONGEST) -> int | None:
        """The exit code; None where the program had to be killed."""
        code: int | None = None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.took = time.monotonic() - self.began_to_end if self.began_to_end else 0.0
        _end_what_it_left(self.process.pid)
        self._reader.join()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.end(0)
        for opened in (self.process.stdin, self.process.stdout, self.stderr, self.listening):
            if opened is not None:
                opened.close()


def _environment(case: Case, column: str, receiver: Receiver, folder: Path) -> dict[str, str]:
    spool = {"OTEL_TRACES_EXPORTER": "otelflow_spool", "OTELFLOW_EXPORTER_SPOOL_DIR": str(folder / "spool")}
    return programs.clean_environment(
        LIFECYCLE_COLUMN=OURS if column == SPOOL else column,
        PYTHONPATH=str(KIT),
        OTEL_SERVICE_NAME="lifecycle",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc" if case.grpc else "http/protobuf",
        **(spool if column == SPOOL else {}),
        **case.environment,
    )


def _end_what_it_left(group: int) -> None:
    """Children that outlive their parent get time to end by themselves, as they would have."""
    end = time.monotonic() + 5
    try:
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(case: Case, column: str, folder: Path, *, patient: bool = False) -> Outcome:
    """Run a case in one column. With the spool, the service is started once more afterwards, with a receiver that is
    well: what was not sent before is sent then."""
    receiver = (ScriptedGrpc if case.grpc else Scripted)(case.answers, up=case.up)
    try:
        running = Running(case, column, receiver, folder, patient)
        try:
            case.act(running)
            code = running.end()
            if column == SPOOL:
                receiver.down()
                receiver.up(Answer())
                _start_again(case, receiver, folder)
            receiver.down()
            return _outcome(case, running, receiver, code)
        finally:
            running.close()
    finally:
        receiver.close()


def _start_again(case: Case, receiver: Receiver, folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", NEXT_START],
        env=_environment(case, SPOOL, receiver, folder),
        timeout=60,
        check=True,
        capture_output=True,
    )


def _outcome(case: Case, running: Running, receiver: Receiver, code: int | None) -> Outcome:
    numbers = [int(text.split()[1]) for text in running.said if text.startswith("made ")]
    return Outcome(
        made=sum(numbers) or case.spans,
        delivered=len(receiver.spans),
        twice=sum(times > 1 for times in receiver.spans.values()),
        seconds=running.took,
        code=code,
        said=[text for text in running.said if not text.startswith("made ")],
        stderr=running.errors(),
    )


def can_make_a_pid_namespace() -> str | None:
    """Why a program cannot be started as process 1 here; None where it can."""
    command = shutil.which("unshare")
    if command is None:
        return "there is no unshare here"
    done: Any = subprocess.run([command, "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "only root makes a PID namespace"
