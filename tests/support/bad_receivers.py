"""Receivers that are none, or that refuse: each real, on a free loopback port, and gone afterwards."""

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
from processes import free_ports, started, wait_for_port

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
"""In a process of its own: gRPC's threads in this one would be in the way of tests that fork."""


@contextlib.contextmanager
def grpc_server(
    code: str = "OK", details: str = "", rejected: int = 0, pair: tuple[Path, Path] | None = None
) -> Iterator[int]:
    """A gRPC server that answers each export with this status; the port."""
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
    """What an HTTP server was sent: pairs of headers and body."""

    port = 0


@contextlib.contextmanager
def http_server(
    status: int = 200,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    pair: tuple[Path, Path] | None = None,
    echo: bool = False,
) -> Iterator[Requests]:
    """An HTTP/1 server that answers each POST with this; what it was sent, with its ``port``. ``echo``: its answer has
    the request's headers in it, as some gateways do."""
    taken = Requests()

    def answer(request: Handler, sent: bytes) -> None:
        taken.append((dict(request.headers), sent))
        request.reply(status, headers, str(request.headers).encode() if echo else body)

    with contextlib.closing(HttpReceiver(answer, pair=pair)) as server:
        taken.port = server.port
        yield taken


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """A port that takes connections (the kernel does) and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening.getsockname()[1]


@contextlib.contextmanager
def closed() -> Iterator[int]:
    """A port that refuses: it is bound, so that nobody else gets it, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def certificate(folder: Path, name: str = "localhost", address: str = "127.0.0.1", days: int = 2) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
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
    """A Collector that takes no more than 300 kB over HTTP and 1 MiB over gRPC."""
    grpc, http = free_ports(2)
    config = folder / "limited.yaml"
    with contextlib.closing(receivers.Sink()) as sink:
        config.write_text(_LIMITED.format(grpc=grpc, http=http, sink=sink.endpoint))
        with started(receivers.collector(), "--config", config, log=folder / "limited.log") as process:
            for port in (grpc, http):
                wait_for_port(port, process)
            yield receivers.Receiver("collector", grpc, http, sink)
