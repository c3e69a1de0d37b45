"""Receivers of OTLP in a process of their own, over HTTP and gRPC, that count spans and do nothing else.

Prints its endpoints as JSON; for each line that it reads, prints how many spans came since the last one.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


class Counter:
    """How many spans came, whatever thread they came on."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self._read, self._lock, self._spans = ExportTraceServiceRequest.FromString, Lock(), 0

    def take(self, body: bytes) -> None:
        request = self._read(body)
        number = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        with self._lock:
            self._spans += number

    def taken(self) -> int:
        with self._lock:
            number, self._spans = self._spans, 0
        return number


def http_sink(counter: Counter) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            counter.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def grpc_sink(counter: Counter) -> tuple[Any, int]:
    import grpc

    def export(body: bytes, _: Any) -> bytes:
        counter.take(body)
        return b""

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class Sinks:
    """The process, seen from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._answers = process.stdin, process.stdout
        self.endpoints: dict[str, str] = json.loads(self._answers.readline())

    def taken(self) -> int:
        """Spans since the last time."""
        self._asked.write("\n")
        self._asked.flush()
        return int(self._answers.readline())


@contextlib.contextmanager
def running() -> Iterator[Sinks]:
    """Both receivers, for as long as the block runs."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Sinks(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    counter = Counter()
    over_http = http_sink(counter)
    over_grpc, port = grpc_sink(counter)
    Thread(target=over_http.serve_forever, daemon=True).start()
    endpoints = {
        "http/protobuf": f"http://127.0.0.1:{over_http.server_port}",
        "grpc": f"http://127.0.0.1:{port}",
    }
    print(json.dumps(endpoints), flush=True)
    for _ in sys.stdin:
        print(counter.taken(), flush=True)
    over_grpc.stop(0)
    over_http.shutdown()


if __name__ == "__main__":
    main()
