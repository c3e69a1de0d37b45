"""Other programs that read the JSON file exporter's lines: the OpenTelemetry Collector, by request and by following the
file, and Jaeger."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import JAEGER_VERSION
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from otelflow_exporters._jsonfile.otlp_json import MAX_LINE_BYTES
from otelflow_exporters.jsonfile import JsonFileSpanExporter
from processes import free_ports, running_process, tool
from programs import run
from receiver import Sink, collector, missing_reason, running

VALUES = {
    "text": 'é \U0001f600 \\ " \n \u2028',
    "number": -(2**62),
    "float": 1e300,
    "yes": True,
    "bytes": b"\x00\xff",
    "list": ["a", "b"],
    "map": {"k": [1, None]},
}


def export() -> list[ReadableSpan]:
    """Export spans with all possible fields to the environment's file, and return them."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "rank": 1}), shutdown_on_exit=False)
    for exporter in (memory, JsonFileSpanExporter()):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    remote_context = SpanContext(7, 8, True, TraceFlags(1), TraceState([("a", "1")]))
    tracer = provider.get_tracer("lib", "1.0", "https://schema/1", {"scope": "s"})
    with tracer.start_as_current_span("root", kind=SpanKind.SERVER, links=[Link(remote_context, VALUES)]) as root:
        root.add_event("happened", VALUES)
        with tracer.start_as_current_span("child", attributes=VALUES) as child:
            child.set_status(StatusCode.ERROR, "no")
    with tracer.start_as_current_span("other", kind=SpanKind.CLIENT):
        pass
    return list(memory.get_finished_spans())


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The exporter's file."""
    monkeypatch.setenv("OTELFLOW_EXPORTER_JSONFILE_PATH", str(tmp_path / "spans.jsonl"))
    return tmp_path / "spans.jsonl"


@pytest.fixture
def exported(path: Path) -> tuple[list[ReadableSpan], list[bytes]]:
    """Exported spans, and the lines of their file."""
    return export(), path.read_bytes().splitlines()


def post(url: str, body: bytes) -> Any:
    """Send a request and return the parsed JSON of the response."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


@pytest.mark.skipif(missing_reason("collector") is not None, reason=str(missing_reason("collector")))
def test_the_collector_reads_exported_lines(exported: Any, tmp_path: Path) -> None:
    """Its OTLP/JSON parser, which its file receiver uses for each line, reads what upstream's exporter would send."""
    spans, lines = exported
    with running("collector", tmp_path) as receiver:
        for line in lines:
            post(receiver.http + "/v1/traces", line)
        arrived = receiver.sink.wait_for(len(spans))
    assert_same(arrived, encode_spans(spans))


def assert_same(arrived: list[Any], *sent: ExportTraceServiceRequest) -> None:
    """Assert that each span arrived once, with all its fields, its resource and its scope."""
    expected = [
        (span, resource.resource, scope.scope)
        for request in sent
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(arrived) == len(expected)
    by_id = {span.span_id: (span, resource, scope) for span, resource, scope in arrived}
    for span, resource, scope in expected:
        assert by_id[span.span_id] == (span, resource, scope)


# include_file_name would add an attribute to each span.
FILE_COLLECTOR_CONFIG = """
receivers:
  otlpjsonfile:
    include: ["{path}"]
    start_at: beginning
    poll_interval: 20ms
    include_file_name: false
    {settings}
exporters:
  otlp_http:
    endpoint: "{sink}"
    compression: none
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: info}}}}
  pipelines:
    traces: {{receivers: [otlpjsonfile], exporters: [otlp_http]}}
"""


@contextlib.contextmanager
def following_collector(path: Path, settings: str = "") -> Iterator[Sink]:
    """Run a Collector that follows the file at ``path`` in this block. Yield the sink that it sends to."""
    binary = collector()
    if binary is None:
        pytest.skip("the OpenTelemetry Collector is not built: run .ci/collector (needs Go)")
    config = path.with_name("files.yaml")
    with contextlib.closing(Sink()) as sink:
        config.write_text(FILE_COLLECTOR_CONFIG.format(path=path, sink=sink.endpoint, settings=settings))
        with running_process(binary, "--config", config, log=path.with_name("files.log")):
            yield sink


PROGRAM = """
from test_jsonfile_readers import encode_spans, export
print(encode_spans(export()).SerializeToString().hex())
"""


def export_in_another_process(**settings: str) -> ExportTraceServiceRequest:
    """Export in another process to the same file. Return its spans as a request."""
    file_settings = {name: value for name, value in os.environ.items() if name.startswith("OTELFLOW_EXPORTER")}
    process = run(
        PROGRAM,
        head="",
        PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        **file_settings,
        **settings,
    )
    assert process.returncode == 0, process.stderr
    return ExportTraceServiceRequest.FromString(bytes.fromhex(process.stdout))


@pytest.mark.parametrize("period", ["0s", "10ms"])
def test_the_collector_follows_the_file(period: str, path: Path) -> None:
    """It reads the spans of several processes, skips a torn line, and continues in the new file after a rotation.

    After ``period`` the Collector reads an incomplete line as a complete one (0: never).
    """
    with following_collector(path, f"force_flush_period: {period}") as sink:
        sent = [export_in_another_process()]
        with path.open("ab") as file:
            file.write(path.read_bytes()[:500])
        sink.wait_for(3)
        sent.append(export_in_another_process())
        # The file is full now, so the next batch begins a new one, which has room for all spans.
        sent.append(export_in_another_process(OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES=str(path.stat().st_size)))
        sink.wait_for(9)
    assert len(list(path.parent.glob("spans-*.jsonl"))) == 1
    assert_same(sink.spans, *sent)


def many_spans(sizes: Iterable[int], resource_text: str = "") -> list[ReadableSpan]:
    """Return a span with a text for each of ``sizes``. Their resource has a text as well."""
    memory = InMemorySpanExporter()
    resource = Resource({"service.name": "shop", "text": resource_text})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    for size in sizes:
        provider.get_tracer("lib").start_span("work", attributes={"text": "x" * size}).end()
    return list(memory.get_finished_spans())


def test_the_collector_follows_a_batch_above_its_limit(path: Path) -> None:
    """It would truncate a line at 1 MiB (``max_log_size``) and lose it. So the batch has several lines, as long as
    possible."""
    spans = many_spans([5_000] * 600)
    with following_collector(path) as sink:
        JsonFileSpanExporter().export(spans)
        sink.wait_for(len(spans))
    lengths = [len(line) for line in path.read_bytes().splitlines()]
    assert len(lengths) == 4
    assert MAX_LINE_BYTES - 6_000 < max(lengths) < 1024 * 1024
    assert_same(sink.spans, encode_spans(spans))


def test_the_collector_follows_rotated_files_with_a_long_resource(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It identifies a file by its first 1,000 bytes. If the resource were there, all files would look the same."""
    monkeypatch.setenv("OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES", "3000")
    batches = [many_spans([10], "x" * 2000) for _ in range(4)]
    with following_collector(path) as sink:
        for number, batch in enumerate(batches, 1):
            JsonFileSpanExporter().export(batch)
            sink.wait_for(number)
    assert len(list(path.parent.glob("spans-*.jsonl"))) == 3
    assert_same(sink.spans, *map(encode_spans, batches))


def test_the_line_length_includes_the_resource(path: Path) -> None:
    """A line with a long resource is no longer than any other."""
    spans = many_spans([5_000] * 600, "x" * 60_000)
    with following_collector(path) as sink:
        JsonFileSpanExporter().export(spans)
        sink.wait_for(len(spans))
    assert max(map(len, path.read_bytes().splitlines())) <= MAX_LINE_BYTES
    assert_same(sink.spans, encode_spans(spans))


@pytest.mark.parametrize(("settings", "number"), [("", 2), ("max_log_size: 4MiB", 3)])
def test_the_collector_follows_a_span_above_its_limit(settings: str, number: int, path: Path) -> None:
    """Only the span that is longer than the Collector's limit is lost. With a higher limit it is not lost."""
    spans = many_spans([1, 1_500_000, 2])
    with following_collector(path, settings) as sink:
        JsonFileSpanExporter().export(spans)
        sink.wait_for(number)
    expected = spans if number == 3 else [spans[0], spans[2]]
    assert_same(sink.spans, encode_spans(expected))


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
    """The URL of a Jaeger that runs during the test."""
    binary = tool(f"jaeger-{JAEGER_VERSION}")
    if binary is None:
        pytest.skip("Jaeger is not built: run .ci/jaeger (needs Go)")
    http, grpc, otlp = free_ports(3)
    config = tmp_path / "jaeger.yaml"
    config.write_text(JAEGER_CONFIG.format(http=http, grpc=grpc, otlp=otlp))
    # Jaeger makes spans of its own, and no receiver runs for them.
    with running_process(
        binary, "--config", config, log=tmp_path / "jaeger.log", OTEL_TRACES_SAMPLER="always_off"
    ) as process:
        _wait_for(f"http://127.0.0.1:{http}/api/services", process)
        yield f"http://127.0.0.1:{http}"


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"Jaeger does not answer after {seconds} s (exit status {process.poll()})")


def test_jaeger_reads_an_uploaded_file(exported: Any, jaeger: str) -> None:
    """Its page posts uploads to ``/api/transform``: a file with one line, or many lines combined to one object."""
    spans, lines = exported
    combined_body = {"resourceSpans": [resource for line in lines for resource in json.loads(line)["resourceSpans"]]}
    uploads = [post(f"{jaeger}/api/transform", body)["data"] for body in (*lines, json.dumps(combined_body).encode())]
    combined = uploads.pop()
    assert len(combined) == len({span.context.trace_id for span in spans})
    for traces in (combined, [trace for upload in uploads for trace in upload]):
        by_id = {span["spanID"]: span for trace in traces for span in trace["spans"]}
        assert set(by_id) == {f"{span.context.span_id:016x}" for span in spans}
        for span in spans:
            assert_jaeger_span(by_id[f"{span.context.span_id:016x}"], span)


def assert_jaeger_span(jaeger_span: dict[str, Any], span: ReadableSpan) -> None:
    """Assert that Jaeger's span has the names, times, attributes, events and links of ``span``."""
    assert span.context is not None
    assert (jaeger_span["traceID"], jaeger_span["operationName"]) == (f"{span.context.trace_id:032x}", span.name)
    assert jaeger_span["startTime"] == (span.start_time or 0) // 1000
    tags = {tag["key"]: tag["value"] for tag in jaeger_span["tags"]}
    assert (tags["otel.scope.name"], tags["span.kind"]) == ("lib", span.kind.name.lower())
    assert set(span.attributes or ()) <= set(tags)
    if span.name == "child":
        assert (tags["text"], tags["number"], tags["yes"]) == (VALUES["text"], str(VALUES["number"]), True)
        assert (tags["otel.status_description"], tags["error"]) == ("no", True)
    assert [field["value"] for log in jaeger_span["logs"] for field in log["fields"] if field["key"] == "event"] == [
        event.name for event in span.events
    ]
    kinds = [reference["refType"] for reference in jaeger_span["references"]]
    assert len(kinds) == len(span.links) + (span.parent is not None)
