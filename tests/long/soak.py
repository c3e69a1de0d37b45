"""Run everything at once against a receiver with outages, then check for leaks and for spans without an account.

    make soak            SECONDS=60 make soak            python tests/long/soak.py SECONDS

The default is ten minutes. It prints a table, and exits with 1 if something grew or the counts do not add up.
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

from http_receiver import Handler, HttpReceiver, KeepAliveHandler, decompress, spans_in
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from programs import clean_environment
from soak_grpc import GrpcReceiver
from soak_work import SECRET

WARM_UP = 12
"""Minimum number of rounds before the first measurement."""

MODES = ["up", "503", "up", "hang", "up", "refuse", "up", "429"]

TOLERANCES = {"resident memory": 24_000_000, "allocated blocks": 1_000, "file descriptors": 2, "objects of runs": 20}
"""Allowed growth from the end of the warm-up to the end. Other values must not grow.

The allocator keeps the memory of a full queue, and each outage may fill a larger one. A connection may be open or not.
"""


class Receiver:
    """An OTLP receiver over HTTP with switchable outages. It records the id of each span that it accepts."""

    def __init__(self) -> None:
        self.mode = "up"
        self.duplicates = self.secrets = 0
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._server: HttpReceiver | None = None
        self._listen()

    def _listen(self) -> None:
        self._server = HttpReceiver(self.answer, port=self.port, handler=KeepAliveHandler)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def set_mode(self, mode: str) -> None:
        """Answer in this way from now on."""
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
            self._count(decompress(request.headers, body))
        request.reply(status, {"Retry-After": "1"} if status == 429 else {})

    def _count(self, body: bytes) -> None:
        spans = [span.span_id for span, *_ in spans_in(ExportTraceServiceRequest.FromString(body))]
        with self._lock:
            self.secrets += body.count(SECRET.encode())
            self.duplicates += sum(span in self._seen for span in spans)
            self._seen.update(spans)

    @property
    def received(self) -> int:
        """The number of accepted spans."""
        return len(self._seen)


def soak(
    rounds: int, seconds: float, mode_seconds: float, **environment: str
) -> tuple[dict[str, Any], Receiver | GrpcReceiver]:
    """Run the program against a receiver that changes its mode every ``mode_seconds``. Return the program's facts.

    The warm-up ends when each kind of outage has come once: only then has the queue had its full length.
    """
    is_grpc = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc"
    receiver, warm_up = GrpcReceiver() if is_grpc else Receiver(), len(MODES) * mode_seconds
    is_finished = threading.Event()

    def change_modes() -> None:
        for mode in itertools.cycle(MODES):
            receiver.set_mode(mode)
            if is_finished.wait(mode_seconds):
                break
        receiver.set_mode("up")

    mode_changes = threading.Thread(target=change_modes)
    mode_changes.start()
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
        result = subprocess.run(
            [sys.executable, str(work), str(WARM_UP), str(warm_up), str(rounds), str(seconds)],
            env=clean_environment(**variables),
            capture_output=True,
            text=True,
            timeout=(warm_up + seconds) * 2 + 600,
            check=False,
        )
    finally:
        is_finished.set()
        mode_changes.join()
        receiver.close()
    if result.returncode:
        raise SystemExit(result.stderr[-4000:])
    return json.loads(result.stdout.splitlines()[-1]), receiver


def checks(facts: dict[str, Any], receiver: Receiver | GrpcReceiver) -> list[tuple[str, object, object, bool]]:
    """Return the rows of the table: name, first value, last value, and whether they are right."""
    before, after = facts["before"], facts["after"]
    rows = [(name, before[name], after[name], after[name] <= before[name] + TOLERANCES.get(name, 0)) for name in before]
    lost, received, children = sum(facts["lost"].values()), receiver.received, facts["children"]
    sent, delivered = children["delivered"] + children["lost"], facts["delivered"] + children["delivered"]
    return [
        *rows,
        ("ended, so produced", facts["ended"], facts["produced"], facts["ended"] == facts["produced"]),
        ("produced, delivered and lost", facts["produced"], facts["delivered"] + lost, not _unaccounted(facts)),
        (
            "children's: ended, produced",
            children["ended"],
            children["produced"],
            children["ended"] == children["produced"],
        ),
        ("children's: produced, reported", children["produced"], sent, children["produced"] == sent),
        ("children that did not end", 0, children["stuck"], not children["stuck"]),
        ("delivered, so received", delivered, received, 0 < delivered == received),
        ("pending", 0, facts["pending"], facts["pending"] == 0),
        ("secrets received", 0, receiver.secrets, not receiver.secrets),
    ]


def _unaccounted(facts: dict[str, Any]) -> int:
    missing: int = facts["produced"] - facts["delivered"] - facts["pending"] - sum(facts["lost"].values())
    return missing


def variants(folder: str) -> dict[str, dict[str, str]]:
    """Return the settings of each soak by name. The queue is small, so that an outage fills it."""
    return {
        "the defaults": {"OTELFLOW_QUEUE_SIZE": "5000"},
        "overflow spans, an artifact store, metrics": {
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
    """Run the soaks and print the tables. Return the exit code."""
    failed = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = variants(folder)
        for title, environment in settings.items():
            facts, receiver = soak(1, seconds / len(settings), 4.0, **environment)
            rows = checks(facts, receiver)
            failed |= not all(is_right for *_, is_right in rows)
            lost = facts["lost"] or "nothing"
            print(f"{title}: {facts['rounds']} rounds, duplicates {receiver.duplicates:,}, lost {lost}")
            for name, first, last, is_right in rows:
                print(f"{'✓' if is_right else '✗'} {name:<30} {first:>14,} {last:>14,}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else float(os.environ.get("SECONDS") or 600)))
