"""What others read of the JSON file exporter's lines: the OpenTelemetry Collector, sent to it and in a file that it
follows, and Jaeger."""

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
from otelflow_exporters._jsonfile.otlp_json import MOST_BYTES
from otelflow_exporters.jsonfile import JsonFileSpanExporter
from processes import free_ports, started, tool
from programs import run
from receiver import Sink, collector, missing, running

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
    """Spans with all that a span can have, which are exported to the file of the environment."""
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
    return list(kept.get_finished_spans())


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is exported to."""
    monkeypatch.setenv("OTELFLOW_EXPORTER_JSONFILE_PATH", str(tmp_path / "spans.jsonl"))
    return tmp_path / "spans.jsonl"


@pytest.fixture
def written(path: Path) -> tuple[list[ReadableSpan], list[bytes]]:
    """Spans, and the lines of the file that they were exported to."""
    return export(), path.read_bytes().splitlines()


def post(url: str, body: bytes) -> Any:
    """What the answer says, which is JSON."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.skipif(missing("collector") is not None, reason=str(missing("collector")))
def test_the_collector_reads_what_was_exported(written: Any, tmp_path: Path) -> None:
    """Its own reader of OTLP/JSON, to which its file receiver hands each line, finds all that upstream would send."""
    spans, lines = written
    with running("collector", tmp_path) as receiver:
        for line in lines:
            post(receiver.http + "/v1/traces", line)
        arrived = receiver.sink.wait_for(len(spans))
    assert_same(arrived, encode_spans(spans))


def assert_same(arrived: list[Any], *sent: ExportTraceServiceRequest) -> None:
    """Each span arrived once, with all that it has, its resource and its scope."""
    wanted = [
        (span, resource.resource, scope.scope)
        for request in sent
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(arrived) == len(wanted)
    by_id = {span.span_id: (span, resource, scope) for span, resource, scope in arrived}
    for span, resource, scope in wanted:
        assert by_id[span.span_id] == (span, resource, scope)


# The name of the file would be one more attribute of each span.
FILE_COLLECTOR_CONFIG = """
receivers:
  otlpjsonfile:
    include: ["{path}"]
    start_at: beginning
    poll_interval: 20ms
    include_file_name: false
    {more}
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
def following(path: Path, more: str = "") -> Iterator[Sink]:
    """A Collector that follows the file at ``path``, and where it sends what it reads, until the end of the block."""
    binary = collector()
    if binary is None:
        pytest.skip("the OpenTelemetry Collector is not built: run .ci/collector (needs Go)")
    config = path.with_name("files.yaml")
    with contextlib.closing(Sink()) as sink:
        config.write_text(FILE_COLLECTOR_CONFIG.format(path=path, sink=sink.endpoint, more=more))
        with started(binary, "--config", config, log=path.with_name("files.log")):
            yield sink


PROGRAM = """
from test_jsonfile_readers import encode_spans, export
print(encode_spans(export()).SerializeToString().hex())
"""


def export_elsewhere(**settings: str) -> ExportTraceServiceRequest:
    """What another process exported to the file."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("OTELFLOW_EXPORTER")}
    done = run(
        PROGRAM, head="", PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path]), **ours, **settings
    )
    assert done.returncode == 0, done.stderr
    return ExportTraceServiceRequest.FromString(bytes.fromhex(done.stdout))


@pytest.mark.parametrize("period", ["0s", "10ms"])
def test_the_collector_follows_the_file(period: str, path: Path) -> None:
    """Of several processes, past a line that one of them left torn, and into the file after a rotation.

    The Collector takes what has no end for a line, once it stayed so for this long (0: never).
    """
    with following(path, f"force_flush_period: {period}") as sink:
        sent = [export_elsewhere()]
        with path.open("ab") as file:
            file.write(path.read_bytes()[:500])
        sink.wait_for(3)
        sent.append(export_elsewhere())
        # Full as it is: the next batch begins a new file, which has room for all that follows.
        sent.append(export_elsewhere(OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES=str(path.stat().st_size)))
        sink.wait_for(9)
    assert len(list(path.parent.glob("spans-*.jsonl"))) == 1
    assert_same(sink.spans, *sent)


def many_spans(sizes: Iterable[int], resource: str = "") -> list[ReadableSpan]:
    """A span with a text of each of ``sizes``, of a resource with a text."""
    kept = InMemorySpanExporter()
    known = Resource({"service.name": "shop", "text": resource})
    provider = TracerProvider(resource=known, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for size in sizes:
        provider.get_tracer("lib").start_span("work", attributes={"text": "x" * size}).end()
    return list(kept.get_finished_spans())


def test_the_collector_follows_a_batch_above_its_limit(path: Path) -> None:
    """It would cut a line at 1 MiB (``max_log_size``) and lose it: the batch is several lines, as long as may be."""
    spans = many_spans([5_000] * 600)
    with following(path) as sink:
        JsonFileSpanExporter().export(spans)
        sink.wait_for(len(spans))
    lengths = [len(line) for line in path.read_bytes().splitlines()]
    assert len(lengths) == 4
    assert MOST_BYTES - 6_000 < max(lengths) < 1024 * 1024
    assert_same(sink.spans, encode_spans(spans))


def test_the_collector_follows_rotated_files_of_a_service_with_much_to_say(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows a file by how it begins, in 1,000 bytes: a resource at that place would make all files the same one."""
    monkeypatch.setenv("OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES", "3000")
    batches = [many_spans([10], "x" * 2000) for _ in range(4)]
    with following(path) as sink:
        for number, batch in enumerate(batches, 1):
            JsonFileSpanExporter().export(batch)
            sink.wait_for(number)
    assert len(list(path.parent.glob("spans-*.jsonl"))) == 3
    assert_same(sink.spans, *map(encode_spans, batches))


def test_what_stands_around_the_spans_counts_as_well(path: Path) -> None:
    """A line with a long resource is no longer than any other."""
    spans = many_spans([5_000] * 600, "x" * 60_000)
    with following(path) as sink:
        JsonFileSpanExporter().export(spans)
        sink.wait_for(len(spans))
    assert max(map(len, path.read_bytes().splitlines())) <= MOST_BYTES
    assert_same(sink.spans, encode_spans(spans))


@pytest.mark.parametrize(("more", "number"), [("", 2), ("max_log_size: 4MiB", 3)])
def test_the_collector_follows_a_span_above_its_limit(more: str, number: int, path: Path) -> None:
    """A single span that is longer than a line may be is lost, and only it, unless the Collector is told otherwise."""
    spans = many_spans([1, 1_500_000, 2])
    with following(path, more) as sink:
        JsonFileSpanExporter().export(spans)
        sink.wait_for(number)
    wanted = spans if number == 3 else [spans[0], spans[2]]
    assert_same(sink.spans, encode_spans(wanted))


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
    binary = tool(f"jaeger-{JAEGER_VERSION}")
    if binary is None:
        pytest.skip("Jaeger is not built: run .ci/jaeger (needs Go)")
    http, grpc, otlp = free_ports(3)
    config = tmp_path / "jaeger.yaml"
    config.write_text(JAEGER_CONFIG.format(http=http, grpc=grpc, otlp=otlp))
    # It makes spans of its own, for which nobody listens.
    with started(binary, "--config", config, log=tmp_path / "jaeger.log", OTEL_TRACES_SAMPLER="always_off") as process:
        _wait_for(f"http://127.0.0.1:{http}/api/services", process)
        yield f"http://127.0.0.1:{http}"


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
