"""Command ``otelflow show``: filters, output, and broken and large files."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otelflow_exporters._trace.file_index import Index, Source, UnreadableFile
from otelflow_exporters._trace.filters import as_moment, as_seconds
from otelflow_exporters._trace.from_json import nanoseconds
from otelflow_exporters._trace.span import Event, Span, timestamp
from shown import NOON, SECOND, run_show, span, write


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """Three runs: one without errors, one that tolerated a failure, one that failed."""
    flow = {"otelflow.flow.name": "nightly"}
    return write(
        tmp_path / "runs.jsonl",
        span(1, 1, name="nightly", attributes={**flow, "otelflow.status": "completed"}),
        span(1, 2, 1, 0.1, 0.5, name="load", attributes={**flow, "customer": "A-1", "rows": 3, "dry": True}),
        span(2, 2, 1, 10, 11, name="load", status="error", status_message="disk full", attributes=flow),
        span(2, 1, None, 10, 13, name="nightly", attributes=flow),
        span(3, 1, None, 20, 20.25, name="hourly", status="error", resource={"service.name": "shop"}),
    )


def test_trees_one_below_another(runs: str) -> None:
    """Runs are in the order of their start, each with its time and id."""
    result = run_show(runs)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second, third = result.stdout.split("\n\n")
    assert first.splitlines()[0].endswith(f"  {1:032x}")
    assert first.splitlines()[2].startswith("└─ load")
    assert "✗ disk full" in second
    assert third.splitlines()[1].startswith("hourly")


@pytest.mark.parametrize(
    ("words", "traces"),
    [
        ([], [1, 2, 3]),
        (["--flow", "nightly"], [1, 2]),
        (["--flow", "hour*"], [3]),
        (["--flow", "hour*", "--flow", "nightly"], [1, 2, 3]),
        (["--status", "error"], [2, 3]),
        (["--status", "failed"], [3]),
        (["--status", "completed"], [1, 2]),
        (["--status", "cancelled"], []),
        (["--min-duration", "1s"], [1, 2]),
        (["--min-duration", "500ms", "--max-duration", "2"], [1]),
        (["--attribute", "customer"], [1]),
        (["--attribute", "customer=A-*", "--attribute", "rows=3"], [1]),
        (["--attribute", "dry=true"], [1]),
        (["--attribute", "customer=B-*"], []),
        (["--attribute", "service.name=shop"], [3]),
        (["--since", "2026-11-23T12:00:05Z"], [2, 3]),
        (["--until", "2026-11-23T12:00:05Z"], [1]),
        (["--trace", f"{2:032x}"], [2]),
        (["--last", "1"], [3]),
        (["--flow", "nightly", "--last", "1"], [2]),
    ],
)
def test_filters(runs: str, words: list[str], traces: list[int]) -> None:
    """A filter selects runs; all spans of a run are shown."""
    result = run_show(runs, "--json", *words)
    assert result.exit_code == 0
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted({document["trace_id"] for document in documents}) == [f"{number:032x}" for number in traces]
    assert len(documents) == sum({1: 2, 2: 2, 3: 1}[number] for number in traces)
    assert ("no run matches; 3 runs read" in result.stderr) is (not traces)


def test_what_json_prints_can_be_shown_again(runs: str) -> None:
    """Piped into a second command, the JSON gives the same trees."""
    lines = run_show(runs, "--json").stdout
    assert run_show("-", stdin=lines.encode()).stdout == run_show(runs).stdout


def test_a_line_a_run(runs: str) -> None:
    """The line has time, id, sign, duration, name and number of spans."""
    lines = run_show(runs, "--list").stdout.splitlines()
    assert [line.split("  ", 2)[2] for line in lines] == [
        "✓    1.00 s  nightly  (2 spans)",
        "✓    3.00 s  nightly  (2 spans, 1 failed)",
        "✗  250.0 ms  hourly  (1 span, 1 failed)",
    ]


def test_messages_and_artifacts_on_request(tmp_path: Path) -> None:
    """They are below their span."""
    events = [
        Event(
            "otelflow.message", NOON, {"otelflow.message.text": "3 rows\x1b[2J", "otelflow.message.severity": "WARNING"}
        ),
        Event("otelflow.artifact", NOON, {"otelflow.artifact.key": "rows", "otelflow.artifact.data": '{"n": 3}'}),
        Event("otelflow.artifact", NOON, {"otelflow.artifact.key": "cut", "otelflow.artifact.data": '{"n": '}),
        Event("otelflow.result", NOON, {"otelflow.result.key": "sum", "otelflow.result.description": "6"}),
    ]
    path = write(tmp_path / "run.jsonl", span(1, 1, events=events))
    lines = ["! 3 rows�[2J", '▪ rows: {"n": 3}', '▪ cut: {"n": ', "= sum: 6"]
    assert run_show(path, "--messages", "--artifacts").stdout.splitlines()[2:] == lines
    assert run_show(path, "--messages").stdout.splitlines()[2:] == lines[:1]
    assert len(run_show(path).stdout.splitlines()) == 2


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_torn_line_is_skipped_and_reported(tmp_path: Path, where: str) -> None:
    """A process that is killed while it writes leaves such a line. Zeros and blank lines are ignored."""
    lines = [json.dumps(span(1, number, None if number == 1 else 1).to_json()) for number in (1, 2)]
    torn = '{"resourceSpans": [{"sco'
    lines.insert({"first": 0, "middle": 1, "last": 2}[where], torn)
    path = tmp_path / "torn.jsonl"
    path.write_text("\n\0\0\n" + "\n".join(lines))
    result = run_show(str(path), "--list")
    assert result.exit_code == 0
    assert "(2 spans)" in result.stdout
    assert result.stderr == f"otelflow show: 1 broken line of {path} skipped\n"


@pytest.mark.parametrize("content", [b"hello\n", b"\x89PNG\r\n\x1a\n", b"[1, 2]", b'{"a": 1}\n', b"[" * 100_000])
def test_a_file_without_spans_is_an_error(tmp_path: Path, content: bytes) -> None:
    """The command prints one line and ends with status 1. An empty file is not an error."""
    path = tmp_path / "other"
    path.write_bytes(content)
    result = run_show(str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{path} contains no spans: it is neither OTLP JSON nor Jaeger JSON." in result.stderr
    path.write_bytes(b"")
    result = run_show(str(path))
    assert (result.exit_code, result.stderr) == (0, "otelflow show: no run matches; 0 runs read\n")


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    """The error contains the system's reason."""
    with pytest.raises(UnreadableFile, match="cannot be read: Is a directory"):
        Source(str(tmp_path))


def test_a_page_is_only_for_its_owner(runs: str, tmp_path: Path) -> None:
    """Spans may contain private data. An error names a path that cannot be written."""
    page = tmp_path / "run.html"
    assert run_show(runs, "--html", str(page), "--flow", "hourly").exit_code == 0
    assert page.stat().st_mode & 0o777 == 0o600
    assert '"hourly"' in page.read_text()
    assert '"nightly"' not in page.read_text()
    assert run_show(runs, "--html", "-", "--flow", "hourly").stdout == page.read_text()
    result = run_show(runs, "--html", str(tmp_path / "no" / "run.html"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory." in result.stderr


def test_incomplete_traces_are_shown(tmp_path: Path) -> None:
    """All spans are shown: without a root, without an end, and in cycles of parents."""
    path = write(
        tmp_path / "run.jsonl",
        span(1, 2, 1, name="child of nobody"),
        span(1, 3, None, 0, None, name="never ended"),
        span(2, 1, 2, name="circle a"),
        span(2, 2, 1, name="circle b"),
        span(3, 1, 1, name="own parent"),
    )
    text = run_show(path).stdout
    for name in ("child of nobody", "never ended", "circle a", "circle b", "own parent"):
        assert text.count(name) == 1
    assert "not ended" in text


def test_memory_follows_the_largest_trace_not_the_file(tmp_path: Path) -> None:
    """A file of many traces is indexed in a few hundred bytes each."""
    path = tmp_path / "many.jsonl"
    text = "x" * 2000
    with path.open("w") as out:
        for number in range(1, 3001):
            out.write(json.dumps(span(number, 1, attributes={"text": text}).to_json()) + "\n")
    size = os.path.getsize(path)
    index = Index([Source(str(path))])
    tracemalloc.start()
    try:
        index.read()
        held, _ = tracemalloc.get_traced_memory()
        span_count = sum(len(index.spans_of(trace)) for trace in index.traces.values())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        index.sources[0].close()
    assert span_count == len(index.traces) == 3000
    assert held / span_count < 1200
    assert peak < size / 2


def test_lengths_and_moments() -> None:
    """A duration has a unit; a time may be a duration before now. Other text is refused with an example."""
    assert [as_seconds(text) for text in ("250ms", "2s", "1.5 h", "3", "2d", "5m")] == [0.25, 2, 5400, 3, 172_800, 300]
    assert as_moment("2026-11-23T12:00:00.000000001Z") == NOON + 1
    assert as_moment("2026-11-23T13:00:00+01:00") == NOON
    assert abs(as_moment("1h") - (time.time_ns() - 3600 * SECOND)) < 60 * SECOND
    local = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))
    assert as_moment("2026-11-23T12:00") == int(local) * SECOND
    for text in ("soon", "2 weeks", ""):
        with pytest.raises(ValueError, match="Use"):
            as_moment(text)


@settings(deadline=None)
@given(st.integers(0, 4 * 10**18))
def test_timestamps_lose_nothing(moment: int) -> None:
    """A timestamp that is written and read again is the same."""
    assert nanoseconds(timestamp(moment)) == moment


def marked() -> list[Span]:
    """Create the spans of a process that died in the middle of a flow: markers, and a task that ended."""
    attributes = {"otelflow.flow.name": "nightly", "customer": "A-7"}
    started = {**attributes, "otelflow.kind": "started"}
    running = {**attributes, "otelflow.kind": "running", "otelflow.running.for": "2 h", "otelflow.progress.done": 3}
    return [
        span(1, 4, 1, 1.5, 1.5, name="nightly (running)", attributes=running),
        span(1, 2, 1, 0, 0, name="nightly (started)", attributes=started),
        span(1, 3, 1, 1, 2, name="load"),
    ]


def test_a_marker_stands_for_a_flow_that_has_not_ended(tmp_path: Path) -> None:
    """A tree, a list and a page show the flow as root, with the attributes of its markers."""
    path = write(tmp_path / "killed.jsonl", *marked())
    _, top, below = run_show(path).output.splitlines()
    assert top.split()[:2] == ["nightly", "…"]
    assert top.endswith("not ended")
    assert below.startswith("└─ load")
    assert run_show(path, "--list").output.endswith("?    2.00 s  nightly  (1 span)\n")
    page = tmp_path / "page.html"
    run_show(path, "--html", str(page))
    text = page.read_text()
    assert "nightly (" not in text
    assert '"otelflow.progress.done": 3' in text


def test_a_marker_of_a_flow_that_ended_is_not_shown(tmp_path: Path) -> None:
    """Its own span replaces the markers. ``--json`` prints every span, including markers."""
    root = span(1, 1, None, 0, 2, name="nightly", attributes={"otelflow.kind": "flow", "otelflow.status": "completed"})
    for order in (1, -1):
        path = write(tmp_path / f"whole{order}.jsonl", *[root, *marked()][::order])
        assert [line.split()[0] for line in run_show(path).output.splitlines()[1:]] == ["nightly", "└─"]
        assert run_show(path, "--list").output.endswith("✓    2.00 s  nightly  (2 spans)\n")
        assert len(run_show(path, "--json").output.splitlines()) == 4
