"""What others read of the JSON file exporter's lines: the OpenTelemetry Collector, and Jaeger."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from otelflow_exporters.jsonfile import JsonFileSpanExporter
from receiver import free_ports, missing, running

JAEGER_VERSION = "1.76.0"

VALUES = {
    "text": 'é \U0001f600 \\ " \n \u2028',
    "number": -(2**62),
    "float": 1e300,
    "yes": True,
    "bytes": b"\x00\xff",
    "list": ["a", "b"],
    "map": {"k": [1, None]},
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[ReadableSpan], list[bytes]]:
    """Spans with all that a span can have, and the lines of the file that they were exported to."""
    monkeypatch.setenv("OTELFLOW_EXPORTER_JSONFILE_PATH", str(tmp_path / "spans.jsonl"))
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "rank": 1}), shutdown_on_exit=False)
    for exporter in (kept, JsonFileSpanExporter()):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    elsewhere = SpanContext(7, 8, True, TraceFlags(1), TraceState([("a", "1")]))
    tracer = provider.get_tracer("lib", "1.0", "https://schema/1", {"scope": "s"})
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER, links=[Link(elsewhere, VALUES)]) as root:
        root.add_event("happened", VALUES)
        with tracer.start_as_current_span("child", attributes=VALUES) as child:
            child.set_status(StatusCode.ERROR, "no")
    with tracer.start_as_current_span("other", kind=SpanKind.CLIENT):
        pass
    return list(kept.get_finished_spans()), (tmp_path / "spans.jsonl").read_bytes().splitlines()


def post(url: str, body: bytes) -> Any:
    """What the answer says, which is JSON."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.skipif(missing("collector") is not None, reason=str(missing("collector")))
def test_the_collector_reads_what_was_exported(written: Any, tmp_path: Path) -> None:
    """Its own reader of OTLP/JSON, to which its file receiver hands each line, finds all that upstream would send."""
    spans, lines = written
    with running("collector", tmp_path) as collector:
        for line in lines:
            post(collector.http + "/v1/traces", line)
        arrived = collector.sink.wait_for(len(spans))
    assert len(arrived) == len(spans)
    by_id = {span.span_id: (span, resource, scope) for span, resource, scope in arrived}
    for wanted in spans:
        (resource,) = encode_spans([wanted]).resource_spans
        (span,) = resource.scope_spans[0].spans
        assert by_id[span.span_id] == (span, resource.resource, resource.scope_spans[0].scope)


def _jaeger() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("OTELFLOW_TOOLS") or os.path.join(cache, "otelflow"), f"jaeger-{JAEGER_VERSION}")


JAEGER_CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
extensions:
  jaeger_query:
    storage: {{traces: memory}}
    http: {{endpoint: "127.0.0.1:{http}"}}
    grpc: {{endpoint: "127.0.0.1:{grpc}"}}
  jaeger_storage:
    backends:
      memory: {{memory: {{max_traces: 100}}}}
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{otlp}"}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory}}
"""


@pytest.fixture
def jaeger(tmp_path: Path) -> Iterator[str]:
    """Where a Jaeger answers that is ended afterwards."""
    if not os.access(_jaeger(), os.X_OK):
        pytest.skip("Jaeger is not built: run .ci/jaeger (needs Go)")
    http, grpc, otlp = free_ports(3)
    config = tmp_path / "jaeger.yaml"
    config.write_text(JAEGER_CONFIG.format(http=http, grpc=grpc, otlp=otlp))
    environment = {**os.environ, "OTEL_TRACES_SAMPLER": "always_off"}  # of its own spans, for which nobody listens
    with (tmp_path / "jaeger.log").open("wb") as log:
        process = subprocess.Popen([_jaeger(), "--config", config], stdout=log, stderr=log, env=environment)
        try:
            _wait_for(f"http://127.0.0.1:{http}/api/services", process)
            yield f"http://127.0.0.1:{http}"
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"Jaeger does not answer after {seconds} s (exit status {process.poll()})")


def test_jaeger_reads_an_uploaded_file(written: Any, jaeger: str) -> None:
    """Its page posts what is uploaded to ``/api/transform``: a file of one line, or many lines made one object."""
    spans, lines = written
    together = {"resourceSpans": [resource for line in lines for resource in json.loads(line)["resourceSpans"]]}
    uploads = [post(f"{jaeger}/api/transform", body)["data"] for body in (*lines, json.dumps(together).encode())]
    whole = uploads.pop()
    assert len(whole) == len({span.context.trace_id for span in spans})
    for traces in (whole, [trace for upload in uploads for trace in upload]):
        found = {span["spanID"]: span for trace in traces for span in trace["spans"]}
        assert set(found) == {f"{span.context.span_id:016x}" for span in spans}
        for span in spans:
            assert_shown(found[f"{span.context.span_id:016x}"], span)


def assert_shown(shown: dict[str, Any], span: ReadableSpan) -> None:
    """Jaeger's own picture of ``span`` has its names, times, attributes, events and links."""
    assert span.context is not None
    assert (shown["traceID"], shown["operationName"]) == (f"{span.context.trace_id:032x}", span.name)
    assert shown["startTime"] == (span.start_time or 0) // 1000
    tags = {tag["key"]: tag["value"] for tag in shown["tags"]}
    assert (tags["otel.scope.name"], tags["span.kind"]) == ("lib", span.kind.name.lower())
    assert set(span.attributes or ()) <= set(tags)
    if span.name == "child":
        assert (tags["text"], tags["number"], tags["yes"]) == (VALUES["text"], str(VALUES["number"]), True)
        assert (tags["otel.status_description"], tags["error"]) == ("no", True)
    assert [field["value"] for log in shown["logs"] for field in log["fields"] if field["key"] == "event"] == [
        event.name for event in span.events
    ]
    kinds = [reference["refType"] for reference in shown["references"]]
    assert len(kinds) == len(span.links) + (span.parent is not None)
