"""Receivers that refuse, hang or do not exist: real servers on free loopback ports, stopped afterwards."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import receiver as receivers
from http_receiver import Handler, HttpReceiver
from processes import free_ports, running_process, wait_for_port

GRPC_SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer, add_TraceServiceServicer_to_server)

code, details, rejected, certificate, key = sys.argv[1:]

class Servicer(TraceServiceServicer):
    def Export(self, request, context):
        if code != "OK":
            context.abort(grpc.StatusCode[code], details)
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = int(rejected)
        response.partial_success.error_message = details
        return response

server = grpc.server(ThreadPoolExecutor(2))
if code != "NO_SERVICE":
    add_TraceServiceServicer_to_server(Servicer(), server)
if certificate:
    pair = open(key, "rb").read(), open(certificate, "rb").read()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
"""
"""This runs in its own process: gRPC's threads in the test process would disturb tests that fork."""


@contextlib.contextmanager
def grpc_server(
    code: str = "OK", details: str = "", rejected: int = 0, pair: tuple[Path, Path] | None = None
) -> Iterator[int]:
    """Run a gRPC server that answers each export with this status. Yield its port."""
    files = [str(path) for path in pair or ("", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", GRPC_SERVER, code, details, str(rejected), *files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(20)


class Requests(list[Any]):
    """Requests that an HTTP server received: pairs of headers and body. ``port`` is the port of the server."""

    port = 0


@contextlib.contextmanager
def http_server(
    status: int = 200,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    pair: tuple[Path, Path] | None = None,
    echo: bool = False,
) -> Iterator[Requests]:
    """Run an HTTP/1 server that answers each POST with this response. Yield its requests.

    ``echo``: the response contains the request's headers, as with some gateways.
    """
    requests = Requests()

    def answer(request: Handler, content: bytes) -> None:
        requests.append((dict(request.headers), content))
        request.reply(status, headers, str(request.headers).encode() if echo else body)

    with contextlib.closing(HttpReceiver(answer, pair=pair)) as server:
        requests.port = server.port
        yield requests


@contextlib.contextmanager
def hanging_port() -> Iterator[int]:
    """Yield a port that accepts connections (the kernel does) and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """Yield a port that refuses connections: it is bound, so that no other program gets it, but nothing listens."""
    with socket.socket() as bound_socket:
        bound_socket.bind(("127.0.0.1", 0))
        yield bound_socket.getsockname()[1]


def certificate(folder: Path, name: str = "localhost", address: str = "127.0.0.1", days: int = 2) -> tuple[Path, Path]:
    """Create a self-signed certificate. Return its file and the file of its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl = shutil.which("openssl")
    assert openssl
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", str(days), "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name},IP:{address}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


_LIMITED = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}", max_recv_msg_size_mib: 1}}
      http: {{endpoint: "127.0.0.1:{http}", max_request_body_size: 300000}}
exporters:
  otlp_http:
    endpoint: "{sink}"
    compression: none
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp_http]}}
"""


@contextlib.contextmanager
def limited_collector(folder: Path) -> Iterator[receivers.Receiver]:
    """Run a Collector that accepts at most 300 kB over HTTP and 1 MiB over gRPC."""
    grpc, http = free_ports(2)
    config = folder / "limited.yaml"
    with contextlib.closing(receivers.Sink()) as sink:
        config.write_text(_LIMITED.format(grpc=grpc, http=http, sink=sink.endpoint))
        with running_process(receivers.collector(), "--config", config, log=folder / "limited.log") as process:
            for port in (grpc, http):
                wait_for_port(port, process)
            yield receivers.Receiver("collector", grpc, http, sink)
