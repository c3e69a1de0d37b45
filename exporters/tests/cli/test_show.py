"""``otelflow show``: files of three kinds, whole, broken and large."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otelflow_exporters._trace.file_index import Index, Source, UnreadableFile
from otelflow_exporters._trace.filters import as_moment, as_seconds
from otelflow_exporters._trace.from_json import nanoseconds
from otelflow_exporters._trace.span import Event, Span, timestamp
from shown import NOON, SECOND, shown, span, write


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """Three runs: one that is well, one with a failure that was tolerated, one that failed."""
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
    """In the order of their start, each with its time and id."""
    done = shown(runs)
    assert (done.exit_code, done.stderr) == (0, "")
    first, second, third = done.stdout.split("\n\n")
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
    """They choose runs; a run is shown whole."""
    done = shown(runs, "--json", *words)
    assert done.exit_code == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted({one["trace_id"] for one in found}) == [f"{number:032x}" for number in traces]
    assert len(found) == sum({1: 2, 2: 2, 3: 1}[number] for number in traces)
    assert ("nothing fits; there are 3 runs" in done.stderr) is (not traces)


def test_what_json_prints_can_be_shown_again(runs: str) -> None:
    """A pipe of two: the same trees come out."""
    lines = shown(runs, "--json").stdout
    assert shown("-", stdin=lines.encode()).stdout == shown(runs).stdout


def test_a_line_a_run(runs: str) -> None:
    """Time, id, sign, duration, name and number of spans."""
    lines = shown(runs, "--list").stdout.splitlines()
    assert [line.split("  ", 2)[2] for line in lines] == [
        "✓    1.00 s  nightly  (2 spans)",
        "✓    3.00 s  nightly  (2 spans, 1 failed)",
        "✗  250.0 ms  hourly  (1 span, 1 failed)",
    ]


def test_messages_and_artifacts_on_request(tmp_path: Path) -> None:
    """Below the span that said them."""
    events = [
        Event(
            "otelflow.message", NOON, {"otelflow.message.text": "3 rows\x1b[2J", "otelflow.message.severity": "WARNING"}
        ),
        Event("otelflow.artifact", NOON, {"otelflow.artifact.key": "rows", "otelflow.artifact.data": '{"n": 3}'}),
        Event("otelflow.artifact", NOON, {"otelflow.artifact.key": "cut", "otelflow.artifact.data": '{"n": '}),
        Event("otelflow.result", NOON, {"otelflow.result.key": "sum", "otelflow.result.description": "6"}),
    ]
    path = write(tmp_path / "run.jsonl", span(1, 1, events=events))
    said = ["! 3 rows�[2J", '▪ rows: {"n": 3}', '▪ cut: {"n": ', "= sum: 6"]
    assert shown(path, "--messages", "--artifacts").stdout.splitlines()[2:] == said
    assert shown(path, "--messages").stdout.splitlines()[2:] == said[:1]
    assert len(shown(path).stdout.splitlines()) == 2


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_torn_line_is_passed_over_and_said(tmp_path: Path, where: str) -> None:
    """As a process leaves it that was killed while it wrote; zeros and blank lines are nothing."""
    lines = [json.dumps(span(1, number, None if number == 1 else 1).to_json()) for number in (1, 2)]
    torn = '{"resourceSpans": [{"sco'
    lines.insert({"first": 0, "middle": 1, "last": 2}[where], torn)
    path = tmp_path / "torn.jsonl"
    path.write_text("\n\0\0\n" + "\n".join(lines))
    done = shown(str(path), "--list")
    assert done.exit_code == 0
    assert "(2 spans)" in done.stdout
    assert done.stderr == f"otelflow show: 1 line of {path} could not be read, and passed over\n"


@pytest.mark.parametrize("content", [b"hello\n", b"\x89PNG\r\n\x1a\n", b"[1, 2]", b'{"a": 1}\n', b"[" * 100_000])
def test_what_holds_no_spans(tmp_path: Path, content: bytes) -> None:
    """One line, and 1; an empty file is no mistake."""
    path = tmp_path / "other"
    path.write_bytes(content)
    done = shown(str(path))
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"{path} holds no spans: no OTLP JSON, no JSON of Jaeger's." in done.stderr
    path.write_bytes(b"")
    done = shown(str(path))
    assert (done.exit_code, done.stderr) == (0, "otelflow show: nothing fits; there are 0 runs\n")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """Said with the reason of the system."""
    with pytest.raises(UnreadableFile, match="cannot be read: Is a directory"):
        Source(str(tmp_path))


def test_a_page_is_only_for_its_owner(runs: str, tmp_path: Path) -> None:
    """What spans say may be private. A path that cannot be written is said."""
    page = tmp_path / "run.html"
    assert shown(runs, "--html", str(page), "--flow", "hourly").exit_code == 0
    assert page.stat().st_mode & 0o777 == 0o600
    assert '"hourly"' in page.read_text()
    assert '"nightly"' not in page.read_text()
    assert shown(runs, "--html", "-", "--flow", "hourly").stdout == page.read_text()
    done = shown(runs, "--html", str(tmp_path / "no" / "run.html"))
    assert done.exit_code == 1
    assert "cannot be written: No such file or directory." in done.stderr


def test_traces_that_are_not_whole(tmp_path: Path) -> None:
    """No root, no end, parents that are one another's: all spans are shown."""
    path = write(
        tmp_path / "run.jsonl",
        span(1, 2, 1, name="child of nobody"),
        span(1, 3, None, 0, None, name="never ended"),
        span(2, 1, 2, name="circle a"),
        span(2, 2, 1, name="circle b"),
        span(3, 1, 1, name="own parent"),
    )
    text = shown(path).stdout
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
        seen = sum(len(index.spans_of(trace)) for trace in index.traces.values())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        index.sources[0].close()
    assert seen == len(index.traces) == 3000
    assert held / seen < 1200
    assert peak < size / 2


def test_lengths_and_moments() -> None:
    """With a unit, or how long ago; anything else is refused with an example."""
    assert [as_seconds(text) for text in ("250ms", "2s", "1.5 h", "3", "2d", "5m")] == [0.25, 2, 5400, 3, 172_800, 300]
    assert as_moment("2026-11-23T12:00:00.000000001Z") == NOON + 1
    assert as_moment("2026-11-23T13:00:00+01:00") == NOON
    assert abs(as_moment("1h") - (time.time_ns() - 3600 * SECOND)) < 60 * SECOND
    local = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))
    assert as_moment("2026-11-23T12:00") == int(local) * SECOND
    for text in ("soon", "2 weeks", ""):
        with pytest.raises(ValueError, match="Use"):
            as_moment(text)


@given(st.integers(0, 4 * 10**18))
def test_timestamps_lose_nothing(moment: int) -> None:
    """Written and read again."""
    assert nanoseconds(timestamp(moment)) == moment


def marked() -> list[Span]:
    """What a process leaves that died in the middle of a flow: markers and a task that ended."""
    known = {"otelflow.flow.name": "nightly", "customer": "A-7"}
    started = {**known, "otelflow.kind": "started"}
    running = {**known, "otelflow.kind": "running", "otelflow.running.for": "2 h", "otelflow.progress.done": 3}
    return [
        span(1, 4, 1, 1.5, 1.5, name="nightly (running)", attributes=running),
        span(1, 2, 1, 0, 0, name="nightly (started)", attributes=started),
        span(1, 3, 1, 1, 2, name="load"),
    ]


def test_a_marker_stands_for_a_flow_that_has_not_ended(tmp_path: Path) -> None:
    """The flow is the top of the tree, with what is known of it, in a tree, in a list and on a page."""
    path = write(tmp_path / "killed.jsonl", *marked())
    _, top, below = shown(path).output.splitlines()
    assert top.split()[:2] == ["nightly", "…"]
    assert top.endswith("not ended")
    assert below.startswith("└─ load")
    assert shown(path, "--list").output.endswith("?    2.00 s  nightly  (1 span)\n")
    page = tmp_path / "page.html"
    shown(path, "--html", str(page))
    text = page.read_text()
    assert "nightly (" not in text
    assert '"otelflow.progress.done": 3' in text


def test_a_marker_of_a_flow_that_ended_is_not_shown(tmp_path: Path) -> None:
    """What its own span says is all there is to say; --json has each span as it is."""
    root = span(1, 1, None, 0, 2, name="nightly", attributes={"otelflow.kind": "flow", "otelflow.status": "completed"})
    for order in (1, -1):
        path = write(tmp_path / f"whole{order}.jsonl", *[root, *marked()][::order])
        assert [line.split()[0] for line in shown(path).output.splitlines()[1:]] == ["nightly", "└─"]
        assert shown(path, "--list").output.endswith("✓    2.00 s  nightly  (2 spans)\n")
        assert len(shown(path, "--json").output.splitlines()) == 4
