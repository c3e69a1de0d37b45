"""The formats that ``otelflow show`` reads: OTLP JSON, Jaeger JSON, and files with faults."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from otelflow_exporters._jsonfile.otlp_json import encode_lines
from otelflow_exporters._trace.file_index import Index, Source
from otelflow_exporters._trace.from_json import from_json
from otelflow_exporters._trace.from_sdk import from_sdk
from otelflow_exporters._trace.span import Event, Link, Span
from shown import NOON, run_show


def sdk_spans() -> list[Any]:
    """Create spans of the SDK with every kind of content."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("any", "1.2")
    elsewhere = SpanContext(5, 6, True, TraceFlags(1))
    with tracer.start_as_current_span(
        "root", kind=SpanKind.SERVER, links=[SdkLink(elsewhere, {"why": "cause"})]
    ) as root:
        root.set_attributes({"text": "é", "number": 2**53 + 1, "share": 0.5, "yes": True, "list": ["a", "b"]})
        with tracer.start_as_current_span("child", record_exception=False) as child:
            child.add_event("note", {"n": 1}, timestamp=NOON + 1)
            child.set_status(Status(StatusCode.ERROR, "disk full"))
    return list(exporter.get_finished_spans())


def test_otlp_json_is_read_as_it_was(tmp_path: Path) -> None:
    """Every field is read, from lines, from one document and from a list."""
    spans = sdk_spans()
    expected = sorted((from_sdk(span) for span in spans), key=lambda span: span.name)
    lines, lost = encode_lines(spans)
    assert lost == 0
    document = json.loads(lines)
    for text in (lines, lines * 2, json.dumps(document, indent=2).encode(), json.dumps([document]).encode()):
        path = tmp_path / "spans.json"
        path.write_bytes(text)
        index = Index([Source(str(path))])
        index.read()
        (trace,) = index.traces.values()
        shown_spans = sorted(index.spans_of(trace), key=lambda span: span.name)
        index.sources[0].close()
        assert [plain(span) for span in shown_spans] == [plain(span) for span in expected]


def plain(span: Span) -> Any:
    """Return a span as JSON, without the SDK's own resource attributes."""
    result = span.to_json()
    result["resource"] = {"service.name": result["resource"].get("service.name")}
    return result


def test_ids_in_base64_are_read_as_well() -> None:
    """Protobuf's own conversion to JSON writes them."""
    span = {"traceId": "AAAAAAAAAAAAAAAAAAAAAQ==", "spanId": "AAAAAAAAAAI=", "name": "x", "kind": "SPAN_KIND_SERVER"}
    (parsed,) = from_json({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    assert (parsed.trace_id, parsed.span_id, parsed.kind) == (f"{1:032x}", f"{2:016x}", "server")


def jaegers() -> Any:
    """Return a document as Jaeger's UI downloads it: tags, logs, references, processes."""
    spans = [
        {
            "traceID": "1",
            "spanID": "a",
            "operationName": "root",
            "startTime": NOON // 1000,
            "duration": 2_000_000,
            "processID": "p1",
            "tags": [{"key": "span.kind", "value": "server"}, {"key": "n", "value": 3}],
            "logs": [{"timestamp": NOON // 1000 + 5, "fields": [{"key": "event", "value": "note"}]}],
            "references": [],
        },
        {
            "traceID": "1",
            "spanID": "b",
            "operationName": "child",
            "startTime": NOON // 1000,
            "duration": 1000,
            "processID": "p1",
            "tags": [{"key": "error", "value": True}, {"key": "otel.status_description", "value": "disk full"}],
            "references": [
                {"refType": "CHILD_OF", "traceID": "1", "spanID": "a"},
                {"refType": "FOLLOWS_FROM", "traceID": "2", "spanID": "c"},
            ],
        },
    ]
    return {"data": [{"traceID": "1", "spans": spans, "processes": {"p1": {"serviceName": "shop", "tags": []}}}]}


def test_json_of_jaegers(tmp_path: Path) -> None:
    """A download of Jaeger's UI is read and shown."""
    path = tmp_path / "jaeger.json"
    path.write_text(json.dumps(jaegers(), indent=2))
    root, child = from_json(json.loads(path.read_text()))
    assert (root.kind, root.attributes, root.events) == ("server", {"n": 3}, [Event("note", NOON + 5000, {})])
    assert (root.service, root.duration) == ("shop", 2.0)
    assert (child.parent_id, child.failed, child.error) == (root.span_id, True, "disk full")
    assert child.links == [Link(f"{2:032x}", f"{12:016x}")]
    done = run_show(str(path))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[2].startswith("└─ child")
    assert "✗ disk full" in done.stdout


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["\ud800", "2026-01-01T00:00:00.²Z", "\x1b[2J", "9999-12-31T23:59:59Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(document: Any, *path: Any) -> list[tuple[Any, ...]]:
    """Return the path to each value in a document."""
    result = [path]
    for key in document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ():
        result += paths(document[key], *path, key)
    return result


def with_fault(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of the document with another value at that path."""
    if not path:
        return value
    result = copy(document)
    result[path[0]] = with_fault(document[path[0]], path[1:], value)
    return result


def documents() -> list[Any]:
    """Return one document of each kind, with every kind of content."""
    spans = sdk_spans()
    lines, _ = encode_lines(spans)
    return [json.loads(lines), from_sdk(spans[0]).to_json(), jaegers(), {"result": json.loads(lines)}]


WITH_A_FAULT = st.sampled_from(documents()).flatmap(
    lambda whole: st.tuples(st.just(whole), st.sampled_from(paths(whole)), JSON)
)


@settings(max_examples=300, deadline=None)
@given(WITH_A_FAULT, st.sampled_from([(), ("--json",), ("--list",), ("--messages", "--artifacts")]))
def test_no_value_breaks_the_reader(fault: tuple[Any, tuple[Any, ...], Any], how: tuple[str, ...]) -> None:
    """With any value at any path of a document, it is shown without this value, or reported to contain no spans."""
    done = run_show(*how, "-", stdin=json.dumps(with_fault(*fault)).encode())
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert "\x1b" not in done.output
