"""The soak's receiver over gRPC: gRPC's own server in another process, with switchable outages.

``python soak_grpc.py PORT`` is that process. It reads one mode per line. At the end of its input, it prints its counts.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from soak_work import SECRET

__all__ = ["GrpcReceiver"]


class GrpcReceiver:
    """The gRPC form of the soak's HTTP receiver. Its counts are known once it is closed."""

    def __init__(self) -> None:
        self.received = self.duplicates = self.secrets = 0
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "up\n"

    def set_mode(self, mode: str) -> None:
        """Answer in this way from now on."""
        assert self._process.stdin
        print(mode, file=self._process.stdin, flush=True)

    def close(self) -> None:
        with self._process as process:
            output, _ = process.communicate()
        self.received, self.duplicates, self.secrets = json.loads(output)


class _Service:
    """The OTLP trace service: its answer to an export, and its counts."""

    def __init__(self) -> None:
        self.mode = "up"
        self.seen: set[bytes] = set()
        self.duplicates = self.secrets = 0
        self._lock = threading.Lock()

    def export(self, body: bytes, context: Any) -> bytes:
        import grpc
        from google.rpc.error_details_pb2 import RetryInfo
        from google.rpc.status_pb2 import Status

        mode = self.mode
        while self.mode == mode == "hang" and context.is_active():
            time.sleep(0.05)
        if mode == "429":
            info = RetryInfo()
            info.retry_delay.seconds = 1
            status = Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
            status.details.add().Pack(info)
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "")
        if mode != "up":
            context.abort(grpc.StatusCode.UNAVAILABLE, "")
        self._count(body)
        return b""

    def _count(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        request = ExportTraceServiceRequest.FromString(body)
        spans = [
            span.span_id
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.secrets += body.count(SECRET.encode())
            self.duplicates += sum(span in self.seen for span in spans)
            self.seen.update(spans)


def _start_server(port: int, service: _Service) -> Any:
    import grpc

    calls = {"Export": grpc.unary_unary_rpc_method_handler(service.export)}
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, calls)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def _serve(port: int) -> None:
    service = _Service()
    server: Any = _start_server(port, service)
    print("up", flush=True)
    for line in sys.stdin:
        service.mode = line.strip()
        if service.mode == "refuse":
            server.stop(None).wait()
            server = None
        elif server is None:
            server = _start_server(port, service)
    if server is not None:
        server.stop(5).wait()
    print(json.dumps([len(service.seen), service.duplicates, service.secrets]))


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
