"""The JSON file exporter: the encoding of its lines, and its settings."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from otelflow_exporters._jsonfile import otlp_json
from otelflow_exporters._jsonfile.otlp_json import encode_lines
from otelflow_exporters.jsonfile import JsonFileSpanExporter

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE

Make = Callable[..., JsonFileSpanExporter]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function that makes an exporter to ``spans.jsonl`` in a folder of this test. Settings are passed by the last
    words of their names."""

    def make_exporter(**options: str) -> JsonFileSpanExporter:
        for name, value in {"path": str(tmp_path / "spans.jsonl"), **options}.items():
            monkeypatch.setenv(f"OTELFLOW_EXPORTER_JSONFILE_{name.upper()}", value)
        return JsonFileSpanExporter()

    return make_exporter


def span(name: Any = "work", number: int = 1, **fields: Any) -> ReadableSpan:
    fields = {"start_time": 1, "end_time": 2, **fields}
    return ReadableSpan(name, SpanContext(1, number, False, TraceFlags(1)), **fields)


def names(path: Path) -> list[str]:
    """Return the names of the spans in a file. All its lines must be complete."""
    assert path.read_bytes().endswith(b"\n")
    return [
        span["name"]
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def parse(line: bytes) -> ExportTraceServiceRequest:
    """Parse a line of OTLP/JSON. protobuf's own parser expects base64 where OTLP has hex."""

    def as_protobuf(value: Any) -> Any:
        if isinstance(value, list):
            return [as_protobuf(item) for item in value]
        if isinstance(value, dict):
            ids = ("traceId", "spanId", "parentSpanId")
            return {
                key: base64.b64encode(bytes.fromhex(item)).decode() if key in ids else as_protobuf(item)
                for key, item in value.items()
            }
        return value

    return json_format.ParseDict(as_protobuf(json.loads(line)), ExportTraceServiceRequest())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS | st.binary()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
ATTRIBUTES = st.dictionaries(TEXTS, VALUES, max_size=4)
TIMES = st.integers(0, 2**64 - 1)
STATES = st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.sampled_from(["1", "a"]), max_size=2)
CONTEXTS = st.builds(
    lambda trace_id, span_id, remote, state: SpanContext(trace_id, span_id, remote, TraceFlags(1), TraceState(state)),
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    STATES.map(lambda state: list(state.items())),
)
COUNTS = st.integers(0, 2**32 - 1)


class CountedSpan(ReadableSpan):
    """A span with dropped attributes, events and links."""

    counts = (0, 0, 0)

    dropped_attributes = property(lambda self: self.counts[0])  # type: ignore[assignment]
    dropped_events = property(lambda self: self.counts[1])  # type: ignore[assignment]
    dropped_links = property(lambda self: self.counts[2])  # type: ignore[assignment]


RESOURCES = [Resource({}), Resource({"service.name": "shop", "n": 2}), Resource({"service.name": "x"}, "https://r/1")]
SCOPES = [
    None,
    InstrumentationScope("lib", "1.0"),
    InstrumentationScope("other", None, "https://s/1", {"é": [True, "x"]}),
]


@st.composite
def spans(draw: Any) -> ReadableSpan:
    span = CountedSpan(
        draw(TEXTS),
        draw(CONTEXTS),
        draw(st.none() | CONTEXTS),
        draw(st.sampled_from(RESOURCES)),
        draw(ATTRIBUTES),
        [
            Event(name, attributes, time)
            for name, attributes, time in draw(st.lists(st.tuples(TEXTS, ATTRIBUTES, TIMES)))
        ],
        [Link(to, attributes) for to, attributes in draw(st.lists(st.tuples(CONTEXTS, ATTRIBUTES), max_size=2))],
        draw(st.sampled_from(SpanKind)),
        status=draw(st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "no"), _ERROR])),
        start_time=draw(TIMES),
        end_time=draw(TIMES),
        instrumentation_scope=draw(st.sampled_from(SCOPES)),
    )
    span.counts = draw(st.tuples(COUNTS, COUNTS, COUNTS))
    return span


_ERROR = Status(StatusCode.ERROR)


@settings(deadline=None, max_examples=60)
@given(st.lists(spans(), max_size=5))
def test_parsed_lines_equal_upstreams_message(batch: list[ReadableSpan]) -> None:
    """With all kinds of values, events, links, statuses, states, scopes, resources and counts."""
    line, lost = encode_lines(batch)
    assert lost == 0
    assert line.count(b"\n") == 1
    assert parse(line) == encode_spans(batch)


def test_the_encoding_follows_otlp() -> None:
    """Hex ids, 64-bit integers as text, integers for enums, base64, and names for numbers that JSON does not have."""
    attributes = {"i": 2**62, "f": 1.0, "nan": math.nan, "inf": math.inf, "minus": -math.inf, "b": b"\xff", "t": True}
    line, _ = encode_lines([span(attributes=attributes, kind=SpanKind.CLIENT, status=Status(StatusCode.ERROR, "no"))])
    (only,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert only["traceId"] == "0" * 31 + "1"
    assert only["spanId"] == "0" * 15 + "1"
    assert only["startTimeUnixNano"] == "1"
    assert only["kind"] == 3
    assert only["status"] == {"message": "no", "code": 2}
    assert {pair["key"]: pair["value"] for pair in only["attributes"]} == {
        "i": {"intValue": str(2**62)},
        "f": {"doubleValue": 1.0},
        "nan": {"doubleValue": "NaN"},
        "inf": {"doubleValue": "Infinity"},
        "minus": {"doubleValue": "-Infinity"},
        "b": {"bytesValue": "/w=="},
        "t": {"boolValue": True},
    }


def test_a_span_that_cannot_be_encoded_is_lost_alone(make: Make, caplog: Any, tmp_path: Path) -> None:
    """It is counted, and logged once. The next force_flush returns False."""
    exporter = make()
    bad = span(start_time=-1)
    assert exporter.export([span("a"), bad, span("b")]) is SUCCESS
    assert exporter.export([bad, span("c")]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a", "b", "c"]
    assert exporter.lost == 2
    assert [record.message for record in caplog.records if record.name == "otelflow"] == [
        "otelflow_jsonfile cannot encode a span; it is lost."
    ]
    assert exporter.force_flush() is False
    assert exporter.force_flush() is True
    assert exporter.export([bad]) is FAILURE
    assert exporter.export([]) is SUCCESS


def test_a_lone_surrogate_is_replaced(make: Make, tmp_path: Path, caplog: Any) -> None:
    """File names that are not UTF-8 appear in names, statuses and exceptions. The span is written with its counts."""
    caplog.set_level("CRITICAL", "opentelemetry")  # upstream logs the attribute at the first try
    exporter = make()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_events=1))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    name = os.fsdecode(b"/tmp/\xff")
    tracer = provider.get_tracer("any")
    with contextlib.suppress(ValueError), tracer.start_as_current_span(name, attributes={"p": name}) as current:
        current.add_event("first")
        raise ValueError(name)
    (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
    (only,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert only["name"] == "/tmp/�"
    assert only["attributes"] == [{"key": "p", "value": {"stringValue": "/tmp/�"}}]
    assert "�" in only["status"]["message"]
    assert only["droppedEventsCount"] == 1
    assert exporter.lost == 0


def test_a_long_batch_is_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers have limits. A single span above the limit has its own line."""
    monkeypatch.setattr(otlp_json, "MAX_LINE_BYTES", 10_000)
    batch = [span(f"s{number}", number, attributes={"text": "é" * 1000}) for number in range(1, 10)]
    batch.append(span("long", 10, attributes={"text": "x" * 50_000}))
    batch.append(span("other", 11, resource=Resource({"service.name": "other"})))
    lines = encode_lines(batch)[0].splitlines()
    assert [len(line) > 10_500 for line in lines].count(True) == 1
    assert len(lines) == 5
    merged = ExportTraceServiceRequest()
    for line in lines:
        merged.MergeFrom(parse(line))
    actual = [span for resource in merged.resource_spans for scope in resource.scope_spans for span in scope.spans]
    expected = [span for resource in encode_spans(batch).resource_spans for span in resource.scope_spans[0].spans]
    assert actual == expected


def test_ten_megabytes_are_written_unchanged(make: Make, tmp_path: Path) -> None:
    """The exporter does not truncate: limits belong where spans are made."""
    assert make().export([span(attributes={"big": "x" * 10_000_000})]) is SUCCESS
    assert (tmp_path / "spans.jsonl").stat().st_size > 10_000_000


def test_a_value_that_cannot_be_encoded(make: Make, tmp_path: Path, caplog: Any) -> None:
    """If ``__str__`` raises, or a number exceeds 64 bits, only that attribute is lost."""

    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("no")

    caplog.set_level("CRITICAL", "opentelemetry")
    exporter = make()
    assert exporter.export([span(attributes={"unprintable": Unprintable(), "big": 2**70, "n": 1})]) is SUCCESS
    (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
    (only,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert only["attributes"] == [{"key": "n", "value": {"intValue": "1"}}]


def test_files_are_private(tmp_path: Path, make: Make) -> None:
    """0600 in folders of 0700 by default, regardless of the umask. A variable sets other permissions."""
    before = os.umask(0)
    try:
        make(path=str(tmp_path / "a" / "b" / "spans.jsonl")).export([span()])
        os.umask(0o077)
        make(path=str(tmp_path / "c" / "spans.jsonl"), mode="640").export([span()])
    finally:
        os.umask(before)

    def mode(*names: str) -> int:
        return tmp_path.joinpath(*names).stat().st_mode & 0o777

    assert (mode("a"), mode("a", "b"), mode("a", "b", "spans.jsonl")) == (0o700, 0o700, 0o600)
    assert mode("a", "b", "spans.jsonl.lock") == 0o600
    assert (mode("c"), mode("c", "spans.jsonl")) == (0o750, 0o640)


def test_the_default_file_is_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that was current when the exporter was made."""
    monkeypatch.chdir(tmp_path)
    exporter = JsonFileSpanExporter()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    exporter.export([span("a")])
    assert names(tmp_path / "otelflow.jsonl") == ["a"]
    assert repr(exporter) == f"<JsonFileSpanExporter path={str(tmp_path / 'otelflow.jsonl')!r} lost=0>"


INVALID = [
    ("max_bytes", "lots"),
    ("max_bytes", "-1"),
    ("max_age", "1.5"),
    ("keep", "²"),
    ("fsync", "always"),
    ("mode", "999"),
    ("mode", "0"),
    ("mode", "4600"),
    ("mode", "200"),
]


@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_setting_is_logged_and_ignored(
    name: str, value: str, make: Make, caplog: Any, tmp_path: Path
) -> None:
    """The default is used, and spans are written."""
    exporter = make(**{name: value})
    (record,) = caplog.records
    assert record.message.startswith(f"OTELFLOW_EXPORTER_JSONFILE_{name.upper()} must be ")
    assert record.message.endswith(f"; got {value!r}. Using the default.")
    assert exporter._file == make(**{name: ""})._file
    assert exporter.export([span("a")]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a"]


def test_after_shutdown_no_span_is_accepted(make: Make, tmp_path: Path) -> None:
    """A second shutdown does nothing."""
    exporter = make()
    exporter.export([span("a")])
    assert exporter.force_flush()
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export([span("b")]) is FAILURE
    assert exporter.force_flush() is False
    assert names(tmp_path / "spans.jsonl") == ["a"]


def test_instrumentation_is_suppressed_during_a_write(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is suppressed while the exporter writes, and not afterwards."""
    flags = []

    def append(data: bytes) -> None:
        flags.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
        raise OSError("full")

    exporter = make()
    monkeypatch.setattr(exporter._file, "append", append)
    assert exporter.export([span()]) is FAILURE
    assert flags == [True]
    assert context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY) is None


def test_a_logging_handler_may_make_spans(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter logs without holding its lock, because the handler's span calls export again."""
    exporter = make()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(exporter._file, "append", lambda data: (_ for _ in ()).throw(OSError("full")))

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            provider.get_tracer("log").start_span("logged").end()

    handler = Handler()
    logging.getLogger("otelflow").addHandler(handler)
    try:
        assert exporter.export([span()]) is FAILURE
    finally:
        logging.getLogger("otelflow").removeHandler(handler)
    assert exporter.lost == 2
    assert trace.get_current_span() is trace.INVALID_SPAN
