"""A receiver of OTLP over gRPC that can be down, hang and come back: gRPC's own server, in its own process.

In the test process, its threads would disturb tests that fork.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence

from scripted_receiver import Answer, bind_loopback_port

__all__ = ["ScriptedGrpc"]

SERVER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer, add_TraceServiceServicer_to_server)

port, hangs = sys.argv[1:]
gone = threading.Event()

class Servicer(TraceServiceServicer):
    def Export(self, request, context):
        if hangs == "hangs":
            gone.wait()
            context.abort(grpc.StatusCode.UNAVAILABLE, "")
        spans = [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
        sys.stdout.write("".join(f"{span.trace_id.hex()}{span.span_id.hex()}\\n" for span in spans))
        sys.stdout.flush()
        return ExportTraceServiceResponse()

server = grpc.server(ThreadPoolExecutor(8))
add_TraceServiceServicer_to_server(Servicer(), server)
server.add_insecure_port(f"127.0.0.1:{port}")
server.start()
print("up", flush=True)
sys.stdin.read()
gone.set()
server.stop(None).wait()
"""


class ScriptedGrpc:
    """A gRPC variant of :class:`scripted_receiver.Scripted`; of its answers it supports ``hangs``."""

    def __init__(self, answers: Sequence[Answer] = (), *, up: bool = True) -> None:
        self.spans: Counter[tuple[bytes, bytes]] = Counter()
        """How often each span was accepted, by trace id and span id. Complete when the receiver is down."""
        self._hangs = any(answer.hangs for answer in answers)
        self._process: subprocess.Popen[str] | None = None
        self._port = bind_loopback_port(0)  # keeps the port while the receiver is down, so that connections are refused
        self.endpoint = f"http://127.0.0.1:{self._port.getsockname()[1]}"
        if up:
            self.up()

    def up(self, *answers: Answer) -> None:
        """Accept connections; use these answers from now on, if there are any."""
        if answers:
            self._hangs = any(answer.hangs for answer in answers)
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVER, self.endpoint.rpartition(":")[2], "hangs" if self._hangs else ""],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._process.stdout
            assert self._process.stdout.readline() == "up\n"
            self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
            self._reader.start()

    def _read(self, lines: Sequence[str]) -> None:
        self.spans.update((bytes.fromhex(line[:32]), bytes.fromhex(line[32:48])) for line in lines)

    def down(self) -> None:
        """Refuse connections, and break the open ones."""
        if self._process is not None:
            process, self._process = self._process, None
            with process:
                assert process.stdin
                process.stdin.close()
                self._reader.join()

    def break_connections(self) -> None:
        """Break all connections, as a load balancer does with idle ones."""
        if self._process is not None:
            self.down()
            self.up()

    def close(self) -> None:
        self.down()
        self._port.close()
