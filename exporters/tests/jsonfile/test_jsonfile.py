"""The JSON file exporter: what is in its lines, and how it is set up."""

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
from otelflow_exporters._jsonfile.otlp_json import lines_of
from otelflow_exporters.jsonfile import JsonFileSpanExporter

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE

Make = Callable[..., JsonFileSpanExporter]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make an exporter to ``spans.jsonl`` in a folder of this test, with settings by the last word of their names."""

    def made(**more: str) -> JsonFileSpanExporter:
        for name, value in {"path": str(tmp_path / "spans.jsonl"), **more}.items():
            monkeypatch.setenv(f"OTELFLOW_EXPORTER_JSONFILE_{name.upper()}", value)
        return JsonFileSpanExporter()

    return made


def span(name: Any = "work", number: int = 1, **more: Any) -> ReadableSpan:
    spanned = {"start_time": 1, "end_time": 2, **more}
    return ReadableSpan(name, SpanContext(1, number, False, TraceFlags(1)), **spanned)


def names(path: Path) -> list[str]:
    """Names of the spans in a file, all lines of which must be whole."""
    assert path.read_bytes().endswith(b"\n")
    return [
        each["name"]
        for line in path.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for each in scope["spans"]
    ]


def parsed(line: bytes) -> ExportTraceServiceRequest:
    """The message that a line of OTLP/JSON means: protobuf's own reader wants base64 where OTLP has hex."""

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


class Counted(ReadableSpan):
    """A span whose limits left something out."""

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
    made = Counted(
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
    made.counts = draw(st.tuples(COUNTS, COUNTS, COUNTS))
    return made


_ERROR = Status(StatusCode.ERROR)


@settings(deadline=None, max_examples=60)
@given(st.lists(spans(), max_size=5))
def test_what_is_read_back_is_upstreams_message(batch: list[ReadableSpan]) -> None:
    """All kinds of values, events, links, statuses, states, scopes, resources and counts."""
    line, lost = lines_of(batch)
    assert lost == 0
    assert line.count(b"\n") == 1
    assert parsed(line) == encode_spans(batch)


def test_the_encoding_is_otlps() -> None:
    """Hex ids, 64-bit integers as text, integers for enums, base64, and words for what JSON has no number for."""
    attributes = {"i": 2**62, "f": 1.0, "nan": math.nan, "inf": math.inf, "minus": -math.inf, "b": b"\xff", "t": True}
    line, _ = lines_of([span(attributes=attributes, kind=SpanKind.CLIENT, status=Status(StatusCode.ERROR, "no"))])
    (only,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert only["traceId"] == "0" * 31 + "1"
    assert only["spanId"] == "0" * 15 + "1"
    assert only["startTimeUnixNano"] == "1"
    assert only["kind"] == 3
    assert only["status"] == {"message": "no", "code": 2}
    assert {each["key"]: each["value"] for each in only["attributes"]} == {
        "i": {"intValue": str(2**62)},
        "f": {"doubleValue": 1.0},
        "nan": {"doubleValue": "NaN"},
        "inf": {"doubleValue": "Infinity"},
        "minus": {"doubleValue": "-Infinity"},
        "b": {"bytesValue": "/w=="},
        "t": {"boolValue": True},
    }


def test_one_bad_span_does_not_take_the_others_with_it(make: Make, caplog: Any, tmp_path: Path) -> None:
    """It is counted, and logged once; force_flush is honest about it once."""
    exporter = make()
    bad = span(start_time=-1)
    assert exporter.export([span("a"), bad, span("b")]) is SUCCESS
    assert exporter.export([bad, span("c")]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a", "b", "c"]
    assert exporter.lost == 2
    assert [each.message for each in caplog.records if each.name == "otelflow"] == [
        "otelflow_jsonfile cannot encode a span, and leaves it out."
    ]
    assert exporter.force_flush() is False
    assert exporter.force_flush() is True
    assert exporter.export([bad]) is FAILURE
    assert exporter.export([]) is SUCCESS


def test_half_a_surrogate_pair_is_replaced(make: Make, tmp_path: Path, caplog: Any) -> None:
    """Names of files that are not UTF-8 end up in names, statuses and exceptions: the span is kept, counts and all."""
    caplog.set_level("CRITICAL", "opentelemetry")  # upstream's, of the attribute in the first try
    exporter = make()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_events=1))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    name = os.fsdecode(b"/tmp/\xff")
    tracer = provider.get_tracer("any")
    with contextlib.suppress(ValueError), tracer.start_as_current_span(name, attributes={"p": name}) as started:
        started.add_event("first")
        raise ValueError(name)
    (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
    (only,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert only["name"] == "/tmp/�"
    assert only["attributes"] == [{"key": "p", "value": {"stringValue": "/tmp/�"}}]
    assert "�" in only["status"]["message"]
    assert only["droppedEventsCount"] == 1
    assert exporter.lost == 0


def test_a_long_batch_is_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers have limits; a span that is longer by itself has its own line."""
    monkeypatch.setattr(otlp_json, "MOST_BYTES", 10_000)
    batch = [span(f"s{number}", number, attributes={"text": "é" * 1000}) for number in range(1, 10)]
    batch.append(span("long", 10, attributes={"text": "x" * 50_000}))
    batch.append(span("other", 11, resource=Resource({"service.name": "other"})))
    lines = lines_of(batch)[0].splitlines()
    assert [len(line) > 10_500 for line in lines].count(True) == 1
    assert len(lines) == 5
    merged = ExportTraceServiceRequest()
    for line in lines:
        merged.MergeFrom(parsed(line))
    got = [each for resource in merged.resource_spans for scope in resource.scope_spans for each in scope.spans]
    wanted = [each for resource in encode_spans(batch).resource_spans for each in resource.scope_spans[0].spans]
    assert got == wanted


def test_ten_megabytes_are_written_as_they_are(make: Make, tmp_path: Path) -> None:
    """The exporter writes what spans hold: bounding is for who makes them."""
    assert make().export([span(attributes={"big": "x" * 10_000_000})]) is SUCCESS
    assert (tmp_path / "spans.jsonl").stat().st_size > 10_000_000


def test_a_value_that_cannot_be_shown(make: Make, tmp_path: Path, caplog: Any) -> None:
    """A ``__str__`` that raises, and a number beyond 64 bits, cost that attribute and no more."""

    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no")

    caplog.set_level("CRITICAL", "opentelemetry")
    exporter = make()
    assert exporter.export([span(attributes={"rude": Rude(), "big": 2**70, "n": 1})]) is SUCCESS
    (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
    (only,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert only["attributes"] == [{"key": "n", "value": {"intValue": "1"}}]


def test_files_are_for_their_owner(tmp_path: Path, make: Make) -> None:
    """0600 in folders of 0700, whatever the umask; a variable says otherwise."""
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


def test_unset_it_writes_to_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was current when the exporter was made."""
    monkeypatch.chdir(tmp_path)
    exporter = JsonFileSpanExporter()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    exporter.export([span("a")])
    assert names(tmp_path / "otelflow.jsonl") == ["a"]
    assert repr(exporter) == f"<JsonFileSpanExporter path={str(tmp_path / 'otelflow.jsonl')!r} lost=0>"


WRONG = [
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


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_logged_and_ignored(name: str, value: str, make: Make, caplog: Any, tmp_path: Path) -> None:
    """The default is used, and spans are written."""
    exporter = make(**{name: value})
    (record,) = caplog.records
    assert record.message.startswith(f"OTELFLOW_EXPORTER_JSONFILE_{name.upper()}={value!r} is ignored: ")
    assert exporter._file == make(**{name: ""})._file
    assert exporter.export([span("a")]) is SUCCESS
    assert names(tmp_path / "spans.jsonl") == ["a"]


def test_after_shutdown_nothing_is_taken(make: Make, tmp_path: Path) -> None:
    """A second shutdown does nothing."""
    exporter = make()
    exporter.export([span("a")])
    assert exporter.force_flush()
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export([span("b")]) is FAILURE
    assert exporter.force_flush() is False
    assert names(tmp_path / "spans.jsonl") == ["a"]


def test_its_own_work_is_not_instrumented(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it writes, and no longer, instrumentation is suppressed."""
    seen = []

    def watched(data: bytes) -> None:
        seen.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
        raise OSError("full")

    exporter = make()
    monkeypatch.setattr(exporter._file, "append", watched)
    assert exporter.export([span()]) is FAILURE
    assert seen == [True]
    assert context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY) is None


def test_a_logging_handler_may_make_spans(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exporter has to say is said when it has no lock: a span of the handler's comes to export again."""
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
