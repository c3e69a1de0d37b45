"""Real OTLP receivers: started on free loopback ports, they forward what they accept, and a sink keeps that.

Two are known: the OpenTelemetry Collector, built by ``.ci/collector`` from its Go modules, and rotel, a collector that
the package index has as a wheel.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

COLLECTOR_VERSION = "0.145.0"


class Sink:
    """Keeps every span that a receiver forwards, decoded from OTLP, with its resource and scope."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Any] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                sink.take(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend((span, resource.resource, scope.scope) for span in scope.spans)

    def wait_for(self, number: int, seconds: float = 20) -> list[Any]:
        """The spans, once there are ``number`` of them."""
        end = time.monotonic() + seconds
        while len(self.spans) < number and time.monotonic() < end:
            time.sleep(0.02)
        return list(self.spans)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def attributes_of(made: Any) -> dict[str, Any]:
    """OTLP attributes as a dict."""

    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        if kind == "array_value":
            return [value(item) for item in any_value.array_value.values]
        return getattr(any_value, kind)

    return {pair.key: value(pair.value) for pair in made.attributes}


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


class Receiver:
    """A running receiver: where it takes OTLP, and what came out of it."""

    def __init__(self, name: str, grpc_port: int, http_port: int, sink: Sink) -> None:
        self.name = name
        self.grpc = f"http://127.0.0.1:{grpc_port}"
        self.http = f"http://127.0.0.1:{http_port}"
        self.sink = sink


def tool(name: str) -> Path | None:
    """A server that ``.ci`` built into the cache; None where it is not there."""
    cache = os.environ.get("OTELFLOW_TOOLS") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "otelflow"
    )
    binary = Path(cache, name)
    return binary if os.access(binary, os.X_OK) else None


def _collector() -> Path | None:
    return tool(f"otelcol-{COLLECTOR_VERSION}")


def _rotel() -> Path | None:
    spec = find_spec("rotel")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "rotel-agent"
    try:
        works = subprocess.run([binary, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return None
    return binary if works else None


def missing(name: str) -> str | None:
    """Why the receiver ``name`` cannot be started here; None where it can."""
    if name == "collector":
        return None if _collector() else "the OpenTelemetry Collector is not built: run .ci/collector (needs Go)"
    return None if _rotel() else "rotel does not run here (no wheel, or no system libpython of this version)"


_COLLECTOR_CONFIG = """
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: "127.0.0.1:{grpc}"}}
      http: {{endpoint: "127.0.0.1:{http}"}}
exporters:
  otlp_http:
    endpoint: "{sink}"
    compression: none
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: warn}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp_http]}}
"""


def _command(name: str, grpc: int, http: int, sink: Sink, folder: Path) -> list[str]:
    if name == "collector":
        config = folder / "collector.yaml"
        config.write_text(_COLLECTOR_CONFIG.format(grpc=grpc, http=http, sink=sink.endpoint))
        return [str(_collector()), "--config", str(config)]
    return [
        str(_rotel()),
        "start",
        *("--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
        *("--otlp-http-endpoint", f"127.0.0.1:{http}"),
        *("--exporter", "otlp", "--otlp-exporter-protocol", "http"),
        *("--otlp-exporter-endpoint", sink.endpoint, "--otlp-exporter-compression", "none"),
        "--disable-batching",
    ]


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[Receiver]:
    """Start the receiver ``name``, wait until it takes connections, and end it afterwards."""
    sink = Sink()
    grpc, http = free_ports(2)
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(_command(name, grpc, http, sink, folder), stdout=log, stderr=log)
        try:
            for port in (grpc, http):
                wait_for_port(port, process)
            yield Receiver(name, grpc, http, sink)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sink.close()


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until a process that was started takes connections on loopback."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port} after {seconds} s (exit status {process.poll()})")
