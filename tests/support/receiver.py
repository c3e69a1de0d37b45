"""Run real OTLP receivers on free loopback ports; they forward accepted spans to a sink that keeps them.

There are two. The OpenTelemetry Collector is built by ``.ci/collector`` from its Go modules. rotel is a collector that
the package index has as a wheel.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from http_receiver import Handler, HttpReceiver, decompress, spans_in
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from processes import free_ports, running_process, tool, wait_for_port

COLLECTOR_VERSION = "0.145.0"


class Sink:
    """Keeps every span that a receiver forwards, decoded from OTLP, with its resource and scope."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Any] = []
        self._server = HttpReceiver(self._answer, port=port, quiet=False)
        self.endpoint = self._server.endpoint

    def _answer(self, request: Handler, body: bytes) -> None:
        self.take(ExportTraceServiceRequest.FromString(decompress(request.headers, body)))
        response = ExportTraceServiceResponse().SerializeToString()
        request.reply(200, {"Content-Type": "application/x-protobuf"}, response)

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request."""
        self.spans.extend(spans_in(request))

    def wait_for(self, number: int, seconds: float = 20) -> list[Any]:
        """Wait until there are ``number`` spans, and return all."""
        deadline = time.monotonic() + seconds
        while len(self.spans) < number and time.monotonic() < deadline:
            time.sleep(0.02)
        return list(self.spans)

    def close(self) -> None:
        self._server.close()


def attributes_of(source: Any) -> dict[str, Any]:
    """Return OTLP attributes as a dict."""

    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        if kind == "array_value":
            return [value(item) for item in any_value.array_value.values]
        return getattr(any_value, kind)

    return {pair.key: value(pair.value) for pair in source.attributes}


class Receiver:
    """A running receiver: its OTLP addresses, and the sink that it forwards to."""

    def __init__(self, name: str, grpc_port: int, http_port: int, sink: Sink) -> None:
        self.name = name
        self.grpc = f"http://127.0.0.1:{grpc_port}"
        self.http = f"http://127.0.0.1:{http_port}"
        self.sink = sink


def collector() -> Path | None:
    """Return the path of the Collector; None if it is not built."""
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


def missing_reason(name: str) -> str | None:
    """Return why the receiver ``name`` cannot be started here; None if it can."""
    if name == "collector":
        return None if collector() else "the OpenTelemetry Collector is not built: run .ci/collector (needs Go)"
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
        return [str(collector()), "--config", str(config)]
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
    """Run the receiver ``name``. Yield it when it accepts connections."""
    grpc, http = free_ports(2)
    with contextlib.closing(Sink()) as sink:
        words = _command(name, grpc, http, sink, folder)
        with running_process(*words, log=folder / "receiver.log") as process:
            for port in (grpc, http):
                wait_for_port(port, process)
            yield Receiver(name, grpc, http, sink)
