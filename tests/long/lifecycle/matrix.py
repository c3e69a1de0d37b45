"""Define a case of the matrix, run it, and collect its outcome."""

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
from scripted_receiver import Answer, ScriptedReceiver

KIT = Path(__file__).parent / "kit"

OURS, SPOOL, BARE, NONE = "otelflow", "spool", "bare", "none"
"""The columns: otelflow, otelflow with the spool, the SDK with manual spans, and the program without telemetry."""

Receiver = ScriptedReceiver | ScriptedGrpc

HEAD = "import os, sys, time\nfrom telemetry import *\n"

NEXT_START = f"{HEAD}configure()\nflush(30)\n"

MAX_SECONDS = 90
"""Seconds until a program that does not end is killed. The bare SDK takes more than 30 with a receiver that hangs."""


@dataclass(frozen=True)
class Case:
    """One way in which a program ends, or one fault.

    name: its row in the table.
    program: its text, below ``HEAD``.
    spans: the number of spans that it makes. If its text does not fix that, it writes a line ``spans N``.
    delivered: the number of spans that otelflow delivers; its minimum and maximum, if it depends on timing.
    spooled: the number with the spool. None: the same.
    act: the event from outside, such as a signal.
    code: its exit code, with telemetry and without.
    grpc: OTLP uses gRPC.
    telemetry_decides: without telemetry, the exit code is another one, so the two are not compared.
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

    def delivered_range(self, spans: int) -> tuple[int, int]:
        """Return the minimum and maximum number of delivered spans, of this number of spans."""
        delivered = spans if self.delivered is None else self.delivered
        return delivered if isinstance(delivered, tuple) else (delivered, delivered)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case.

    spans: the number of spans that the program made.
    delivered: the number of spans that arrived.
    duplicates: the number of spans that arrived more than once.
    seconds: the duration of the exit.
    code: the exit code. None: the program did not end.
    lines: the lines that the program wrote.
    """

    spans: int
    delivered: int
    duplicates: int
    seconds: float
    code: int | None
    lines: list[str]
    stderr: str


class Running:
    """A case's program while it runs, and the receiver that it sends to."""

    def __init__(self, case: Case, column: str, receiver: Receiver, folder: Path, patient: bool) -> None:
        self.receiver = receiver
        self.patient = patient
        """True if outages last as long as real ones."""
        self.lines: list[str] = []
        self.exit_start = 0.0
        self._condition = threading.Condition()
        self._has_ended = False
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
            with self._condition:
                if line == "exiting\n":
                    self.exit_start = time.monotonic()
                else:
                    self.lines.append(line.rstrip("\n"))
                self._condition.notify_all()
        with self._condition:
            self._has_ended = True
            self._condition.notify_all()

    def wait_for(self, text: str = "ready", times: int = 1) -> None:
        """Wait until the program has written this line ``times`` times."""
        with self._condition:
            self._condition.wait_for(lambda: self.lines.count(text) >= times or self._has_ended, 30)
            assert self.lines.count(text) >= times, f"the program did not write {text!r}: {self.errors()}"

    def signal(self, number: int, pid: int | None = None) -> None:
        self.exit_start = time.monotonic()
        os.kill(pid or self.process.pid, number)

    def send_line(self) -> None:
        """Send the program a line, for which it waits."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def errors(self) -> str:
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def end(self, seconds: float = MAX_SECONDS) -> int | None:
        """Wait for the exit. Return the exit code; None if the program had to be killed."""
        code: int | None = None
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.exit_seconds = time.monotonic() - self.exit_start if self.exit_start else 0.0
        _end_process_group(self.process.pid)
        self._reader.join()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.end(0)
        for resource in (self.process.stdin, self.process.stdout, self.stderr, self.listening):
            if resource is not None:
                resource.close()


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


def _end_process_group(group: int) -> None:
    """Give children that outlive their parent time to end by themselves, then kill them."""
    end = time.monotonic() + 5
    try:
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(case: Case, column: str, folder: Path, *, patient: bool = False) -> Outcome:
    """Run a case in one column.

    With the spool, the service is then started again with a working receiver, and sends the rest.
    """
    receiver = (ScriptedGrpc if case.grpc else ScriptedReceiver)(case.answers, up=case.up)
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
    numbers = [int(text.split()[1]) for text in running.lines if text.startswith("spans ")]
    return Outcome(
        spans=sum(numbers) or case.spans,
        delivered=len(receiver.spans),
        duplicates=sum(times > 1 for times in receiver.spans.values()),
        seconds=running.exit_seconds,
        code=code,
        lines=[text for text in running.lines if not text.startswith("spans ")],
        stderr=running.errors(),
    )


def can_make_a_pid_namespace() -> str | None:
    """Return the reason why no program can be started as process 1 here; None if it can."""
    command = shutil.which("unshare")
    if command is None:
        return "there is no unshare here"
    result: Any = subprocess.run([command, "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if result.returncode == 0 else "only root makes a PID namespace"
