"""The tree exporter: how it prints traces, also in programs that do not use otelflow."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags
from otelflow_exporters._terminal.render import render as render_spans
from otelflow_exporters._terminal.text import Style
from otelflow_exporters._trace.from_sdk import from_sdk
from otelflow_exporters.tree import TreeSpanExporter

SECOND = 10**9


def span(
    name: str, number: int, parent: int | None = None, begin: float = 0, end: float = 1, **more: Any
) -> ReadableSpan:
    """Create a span of trace 1. Times are in seconds."""

    def context(identity: int) -> SpanContext:
        return SpanContext(1, identity, False, TraceFlags(1))

    return ReadableSpan(
        name,
        context(number),
        None if parent is None else context(parent),
        start_time=int(begin * SECOND),
        end_time=int(end * SECOND),
        **more,
    )


def render(spans: list[ReadableSpan], style: Style) -> list[str]:
    """Return the lines for spans of the SDK."""
    return render_spans([from_sdk(span) for span in spans], style)


def error_status(text: str) -> Status:
    return Status(StatusCode.ERROR, text)


def test_a_trace_is_a_tree_on_one_time_axis() -> None:
    """Children are below their parents in the order of their start; bars show their times."""
    spans = [
        span("load", 3, 1, 1, 2, status=error_status("ValueError: no")),
        span("query", 4, 2, 0.25, 0.5),
        span("extract", 2, 1, 0, 1),
        span("nightly", 1, None, 0, 2),
    ]
    assert render(spans, Style()) == [
        "nightly         2.00 s  ━━━━━━━━━━━━━━━━━━━━━━━━",
        "├─ extract      1.00 s  ━━━━━━━━━━━━",
        "│  └─ query   250.0 ms     ━━━",
        "└─ load         1.00 s              ━━━━━━━━━━━━  ✗ ValueError: no",
    ]


def test_more_than_ten_equal_siblings_are_one_line() -> None:
    """It has the count, median, slowest and failures; the first failures have lines of their own."""
    spans = [span("root", 1, None, 0, 100)]
    for number in range(10_000):
        broken = {"status": error_status("OSError: full")} if number in (7, 8, 9, 10) else {}
        spans.append(span("step", number + 2, 1, number / 100, number / 100 + 0.01, **broken))
    lines = render(spans, Style())
    assert len(lines) == 6
    assert "step ×10000" in lines[1]
    assert "median 10.0 ms, slowest 10.0 ms, ✗ 4 failed" in lines[1]
    assert all("· step" in line and "✗ OSError: full" in line for line in lines[2:5])
    assert lines[5].strip() == "… 1 more failed"


def test_cancelled_runs_and_tasks_without_a_flow_are_marked() -> None:
    """The marks come from otelflow's attributes."""
    cancelled = span("a", 1, attributes={"otelflow.status": "cancelled"})
    orphan = span("b", 2, attributes={"otelflow.task.orphan": True})
    assert render([cancelled], Style())[0].endswith("⊘ cancelled")
    assert render([orphan], Style())[0].endswith("in no flow")


def test_lines_are_truncated_to_the_width_of_the_terminal() -> None:
    """A wide character counts as two columns."""
    spans = [span("root", 1), span("日本", 2, 1, status=error_status("x" * 500))]
    lines = render(spans, Style(columns=60))
    assert all(len(line) <= 58 + 2 for line in lines)
    assert lines[1].endswith("…")


def test_an_output_that_takes_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is drawn in ASCII."""
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    exporter = TreeSpanExporter()
    assert exporter.export([span("é", 2, 1), span("root", 1, status=error_status("no"))]) is SpanExportResult.SUCCESS
    monkeypatch.undo()
    assert raw.getvalue().decode().splitlines()[1].startswith("`- ?")
    assert "x no" in raw.getvalue().decode()


def test_text_from_spans_cannot_move_the_cursor() -> None:
    """Control characters are replaced; long names and errors are truncated."""
    (line,) = render([span("a\x1b[2Jb\nc" + "x" * 100, 1, status=error_status("e\r\x1b]0;title\x07"))], Style())
    assert "\x1b" not in line
    assert "\r" not in line
    assert "a�[2Jb c" in line
    assert "…" in line


def test_depth_is_no_limit() -> None:
    """A chain of 5,000 spans is printed without recursion."""
    spans = [span(f"s{number}", number + 1, number or None) for number in range(5000)]
    assert len(render(spans, Style())) == 5000


def test_a_trace_without_its_root_is_printed_at_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is marked. A second shutdown does nothing, and later spans are refused."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    exporter = TreeSpanExporter()
    assert exporter.export([span("child", 2, 1)]) is SpanExportResult.SUCCESS
    assert out.getvalue() == ""
    exporter.shutdown()
    exporter.shutdown()
    assert out.getvalue().count("(its root did not end in this process)") == 1
    assert exporter.export([span("late", 3)]) is SpanExportResult.FAILURE
    assert exporter.force_flush() is False


def test_messages_on_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """OTELFLOW_EXPORTER_TREE_MESSAGES enables messages, and _OUTPUT selects stdout."""
    monkeypatch.setenv("OTELFLOW_EXPORTER_TREE_MESSAGES", "true")
    monkeypatch.setenv("OTELFLOW_EXPORTER_TREE_OUTPUT", "stdout")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(TreeSpanExporter()))
    with provider.get_tracer("any").start_as_current_span("root") as root:
        root.add_event("otelflow.message", {"otelflow.message.text": "2 rows"})
    assert capsys.readouterr().out.splitlines()[1] == "· 2 rows"


def message(text: str, at: float) -> Event:
    """Create a message event. The time is in seconds."""
    return Event("otelflow.message", {"otelflow.message.text": text}, int(at * SECOND))


def test_a_continuation_span_is_merged_into_its_parent() -> None:
    """Its messages are listed with the parent's. Without the parent it is shown as a span."""
    continuation = {"otelflow.kind": "continuation"}
    spans = [
        span("talks (continued)", 3, 1, 0.5, 0.6, attributes=continuation, events=[message("second", 0.5)]),
        span("talks (continued)", 4, 1, 0.7, 0.8, attributes=continuation, events=[message("third", 0.7)]),
        span("talks", 1, None, 0, 1, events=[message("first", 0.1)]),
        span("step", 2, 1, 0, 1),
    ]
    lines = [line.split("  ")[0].strip() for line in render(spans, Style(messages=True))]
    assert lines == ["talks", "· first", "· second", "· third", "└─ step"]
    alone = render(spans[:1], Style(messages=True))
    assert [line.split("  ")[0].strip() for line in alone] == ["talks (continued)", "· second"]


def test_a_gap_between_messages() -> None:
    """A line says how many events are missing."""
    gap = Event("otelflow.left_out", {"otelflow.dropped.events": 873}, SECOND // 2)
    spans = [span("talks", 1, None, 0, 1, events=[message("first", 0.1), gap, message("last", 0.9)])]
    assert [line.strip() for line in render(spans, Style(messages=True))[1:]] == [
        "· first",
        "… 873 events left out",
        "· last",
    ]


def test_a_closed_stream_does_not_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """``export`` does not raise; it returns ``FAILURE``."""
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert TreeSpanExporter().export([span("root", 1)]) is SpanExportResult.FAILURE
    monkeypatch.undo()


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many traces or spans, the oldest trace is printed. If there is only one, further spans are counted."""
    monkeypatch.setattr("otelflow_exporters.tree._MAX_TRACES", 3)
    monkeypatch.setattr("otelflow_exporters.tree._MAX_SPANS", 4)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    exporter = TreeSpanExporter()
    for trace in range(2, 7):
        context = SpanContext(trace, 2, False, TraceFlags(1))
        parent = SpanContext(trace, 1, False, TraceFlags(1))
        exporter.export([ReadableSpan(f"child {trace}", context, parent, start_time=0, end_time=1)])
    assert out.getvalue().count("its root has not ended yet") == 2
    exporter.export([span("c", number, 1) for number in range(3, 10)])
    assert out.getvalue().count("its root has not ended yet") == 5
    exporter.export([span("root", 1)])
    assert "(3 spans left out)" in out.getvalue()
    assert (exporter._span_count, len(exporter._traces)) == (0, 0)


PLAIN = """
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
_OTelSDKConfigurator().configure()
from opentelemetry import trace
tracer = trace.get_tracer("plain")
with tracer.start_as_current_span("request"):
    with tracer.start_as_current_span("query"):
        pass
"""


def test_in_a_program_that_does_not_use_otelflow() -> None:
    """OpenTelemetry's own configuration finds the exporter by OTEL_TRACES_EXPORTER. In a pipe it prints plain text."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    settings = {"OTEL_TRACES_EXPORTER": "otelflow_tree", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    result = subprocess.run(
        [sys.executable, "-c", PLAIN],
        env={**variables, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = result.stderr.splitlines()
    assert lines[0].startswith("request ")
    assert lines[1].startswith("└─ query ")
    assert "\x1b" not in result.stderr


def test_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no colours with NO_COLOR, and none outside a terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    TreeSpanExporter().export([span("root", 1, status=error_status("no"))])
    assert "\x1b[31m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    before = out.getvalue()
    TreeSpanExporter().export([span("root", 1, status=error_status("no"))])
    assert "\x1b" not in out.getvalue().removeprefix(before)


def test_the_end_of_a_foreign_root_prints_the_trace() -> None:
    """A root whose parent is in another process is a root here."""
    collected = InMemorySpanExporter()
    assert collected.export([]) is SpanExportResult.SUCCESS
    remote = SpanContext(1, 99, True, TraceFlags(1))
    out = io.StringIO()
    exporter = TreeSpanExporter()
    exporter._output = lambda: out  # type: ignore[method-assign]
    exporter.export([ReadableSpan("server", SpanContext(1, 2, False, TraceFlags(1)), remote, start_time=0, end_time=1)])
    assert "server" in out.getvalue()


def test_markers_are_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """A tree does not contain the markers of its flow. If the flow never ended, the flow replaces them."""
    attributes = {"otelflow.flow.name": "nightly", "otelflow.kind": "started"}
    marker = span("nightly (started)", 2, 1, 0, 0, attributes=attributes)
    exporter = TreeSpanExporter()
    exporter.export([marker, span("load", 3, 1), span("nightly", 1, None, 0, 2)])
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["nightly", "└─"]
    exporter.export([marker, span("load", 3, 1)])
    exporter.shutdown()
    first, second = capsys.readouterr().err.splitlines()
    assert first.split()[:2] == ["nightly", "…"]
    assert "its root did not end in this process" in first
    assert second.startswith("└─ load")
