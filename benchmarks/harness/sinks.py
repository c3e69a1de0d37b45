"""Run OTLP receivers for HTTP and gRPC in a separate process. They only count spans.

The process prints its endpoints as JSON. For each line that it reads, it prints how many spans arrived since the last.
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
    """A thread-safe counter of received spans."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self._parse, self._lock, self._spans = ExportTraceServiceRequest.FromString, Lock(), 0

    def add(self, body: bytes) -> None:
        """Add the spans of a request."""
        request = self._parse(body)
        number = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        with self._lock:
            self._spans += number

    def reset(self) -> int:
        """Return the number of spans since the last call, and start from 0."""
        with self._lock:
            number, self._spans = self._spans, 0
        return number


def http_sink(counter: Counter) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            counter.add(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
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
        counter.add(body)
        return b""

    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class Sinks:
    """The process with the receivers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self.endpoints: dict[str, str] = json.loads(self._stdout.readline())

    def received(self) -> int:
        """Return the number of spans that arrived since the last call."""
        self._stdin.write("\n")
        self._stdin.flush()
        return int(self._stdout.readline())


@contextlib.contextmanager
def running() -> Iterator[Sinks]:
    """Run both receivers within the block."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Sinks(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    counter = Counter()
    http_server = http_sink(counter)
    grpc_server, port = grpc_sink(counter)
    Thread(target=http_server.serve_forever, daemon=True).start()
    endpoints = {
        "http/protobuf": f"http://127.0.0.1:{http_server.server_port}",
        "grpc": f"http://127.0.0.1:{port}",
    }
    print(json.dumps(endpoints), flush=True)
    for _ in sys.stdin:
        print(counter.reset(), flush=True)
    grpc_server.stop(0)
    http_server.shutdown()


if __name__ == "__main__":
    main()
