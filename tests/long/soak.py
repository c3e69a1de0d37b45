"""Ten minutes of everything at once, against a receiver that goes away and comes back: is anything left, is all told?

    make soak            SECONDS=60 make soak            python tests/long/soak.py SECONDS

Prints a table, and exits with 1 where something grew or the account does not add up.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from http_receiver import Handler, HttpReceiver, KeepAliveHandler, spans_in, unpacked
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from programs import clean_environment
from soak_grpc import GrpcReceiver
from soak_work import SECRET

WARM_UP = 12
"""Rounds at least before what is there is measured."""

MODES = ["up", "503", "up", "hang", "up", "refuse", "up", "429"]

TOLERANCES = {"resident memory": 24_000_000, "allocated blocks": 1_000, "file descriptors": 2, "objects of runs": 20}
"""How much more there may be at the end than after warming up; of what is not here, nothing. The allocator keeps what a
full queue took, and each outage may find a larger one; a connection may be open or not."""


class Receiver:
    """An OTLP receiver over HTTP that misbehaves on request. Knows each span that it accepted, by its id."""

    def __init__(self) -> None:
        self.mode = "up"
        self.twice = self.secrets = 0
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._server: HttpReceiver | None = None
        self._listen()

    def _listen(self) -> None:
        self._server = HttpReceiver(self.answer, port=self.port, handler=KeepAliveHandler)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def become(self, mode: str) -> None:
        """Answer like this from now on."""
        self.mode = mode
        if mode == "refuse":
            self.close()
        elif self._server is None:
            self._listen()

    def answer(self, request: Handler, body: bytes) -> None:
        mode = self.mode
        if mode == "hang":
            while self.mode == "hang":
                time.sleep(0.05)
            request.close_connection = True
            return
        if mode == "refuse":
            request.close_connection = True
            return
        status = 200 if mode == "up" else int(mode)
        if status == 200:
            self._take(unpacked(request.headers, body))
        request.reply(status, {"Retry-After": "1"} if status == 429 else {})

    def _take(self, body: bytes) -> None:
        spans = [span.span_id for span, *_ in spans_in(ExportTraceServiceRequest.FromString(body))]
        with self._lock:
            self.secrets += body.count(SECRET.encode())
            self.twice += sum(span in self._seen for span in spans)
            self._seen.update(spans)

    @property
    def received(self) -> int:
        """Spans that it accepted."""
        return len(self._seen)


def soak(
    rounds: int, seconds: float, mode_seconds: float, **environment: str
) -> tuple[dict[str, Any], Receiver | GrpcReceiver]:
    """Run the program against a receiver that changes its mind every ``mode_seconds``. What the program said.

    It has warmed up when each kind of outage has come once: only then has the queue been as long as it gets.
    """
    is_grpc = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc"
    receiver, warm_up = GrpcReceiver() if is_grpc else Receiver(), len(MODES) * mode_seconds
    over = threading.Event()

    def misbehave() -> None:
        for mode in itertools.cycle(MODES):
            receiver.become(mode)
            if over.wait(mode_seconds):
                break
        receiver.become("up")

    turns = threading.Thread(target=misbehave)
    turns.start()
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",  # seconds, in Python
        "OTEL_METRICS_EXPORTER": "none",
        "OTELFLOW_HEARTBEAT": "0.2",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        **environment,
    }
    work = Path(__file__).with_name("soak_work.py")
    try:
        done = subprocess.run(
            [sys.executable, str(work), str(WARM_UP), str(warm_up), str(rounds), str(seconds)],
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            timeout=(warm_up + seconds) * 2 + 600,
            check=False,
        )
    finally:
        over.set()
        turns.join()
        receiver.close()
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1]), receiver


def verdicts(said: dict[str, Any], receiver: Receiver | GrpcReceiver) -> list[tuple[str, object, object, bool]]:
    """A row each: what, at first, at last, whether that is right."""
    before, after = said["before"], said["after"]
    rows = [(name, before[name], after[name], after[name] <= before[name] + TOLERANCES.get(name, 0)) for name in before]
    lost, received, children = sum(said["lost"].values()), receiver.received, said["children"]
    sent, delivered = children["delivered"] + children["lost"], said["delivered"] + children["delivered"]
    return [
        *rows,
        ("ended, and so produced", said["ended"], said["produced"], said["ended"] == said["produced"]),
        ("produced, delivered and lost", said["produced"], said["delivered"] + lost, not _missing(said)),
        (
            "children's: ended, produced",
            children["ended"],
            children["produced"],
            children["ended"] == children["produced"],
        ),
        ("children's: produced, told of", children["produced"], sent, children["produced"] == sent),
        ("children that did not end", 0, children["stuck"], not children["stuck"]),
        ("delivered, and so received", delivered, received, 0 < delivered == received),
        ("pending", 0, said["pending"], said["pending"] == 0),
        ("secrets received", 0, receiver.secrets, not receiver.secrets),
    ]


def _missing(said: dict[str, Any]) -> int:
    missing: int = said["produced"] - said["delivered"] - said["pending"] - sum(said["lost"].values())
    return missing


def variants(folder: str) -> dict[str, dict[str, str]]:
    """By name: the settings of one soak each. The queue is small, so that an outage fills it."""
    return {
        "what is usual": {"OTELFLOW_QUEUE_SIZE": "5000"},
        "events in more spans, artifacts in a store, metrics noted": {
            "OTELFLOW_QUEUE_SIZE": "5000",
            "OTELFLOW_OVERFLOW": "spans",
            "OTELFLOW_ARTIFACT_STORE": f"file://{folder}/artifacts",
            "OTELFLOW_METRICS": "true",
        },
        "over gRPC": {"OTELFLOW_QUEUE_SIZE": "5000", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        "the spool": {
            "OTEL_TRACES_EXPORTER": "otelflow_spool",
            "OTELFLOW_EXPORTER_SPOOL_DIR": f"{folder}/spool",
        },
    }


def main(seconds: float) -> int:
    """Soak, print the tables, say whether all is right."""
    failed = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = variants(folder)
        for title, environment in settings.items():
            said, receiver = soak(1, seconds / len(settings), 4.0, **environment)
            rows = verdicts(said, receiver)
            failed |= not all(is_right for *_, is_right in rows)
            print(
                f"{title}: {said['rounds']} rounds, received twice {receiver.twice:,}, lost {said['lost'] or 'nothing'}"
            )
            for name, first, last, is_right in rows:
                print(f"{'✓' if is_right else '✗'} {name:<30} {first:>14,} {last:>14,}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else float(os.environ.get("SECONDS") or 600)))
