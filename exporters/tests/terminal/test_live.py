"""The live tree in a real terminal: what it shows, and that the program's own lines stay unchanged."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags
from otelflow_exporters._terminal.live_tree import LiveTree, Row, is_possible, rows
from otelflow_exporters._trace.open_spans import OpenSpans

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are for Unix", allow_module_level=True)

from terminal import Session

HEAD = """
import logging, os, sys, threading, time
logging.basicConfig()
from otelflow import configure, flow, task
configure("live", exporters=["otelflow_tree"])
"""

BUSY = (
    HEAD
    + """
@task(raise_on_error=False)
def load(number, this_task=None):
    time.sleep(0.05)
    if number % 4 == 0:
        raise OSError("disk full")

@task
def slow():
    time.sleep(0.7)

@flow
def nightly(this_flow=None):
    slow()
    for number in range(12):
        load(number)
        this_flow.progress(number + 1, 12)
        print("line", number)
        if number == 5:
            logging.warning("half-way")
            print("unfinished ...", end="", flush=True)
            time.sleep(0.5)
            print(" finished")
            print("a long line " * 20)
    time.sleep(0.4)

nightly().execute()
print("after")
"""
)


def test_running_spans_are_shown_and_printed_lines_stay() -> None:
    """Elapsed times, counts and progress appear while it runs. At the end, the program's lines and the tree remain."""
    session = Session(BUSY)
    assert session.finish() == 0
    assert any("nightly" in picture and "slow" in picture and " s" in picture for picture in session.pictures)
    assert any(
        "✓ " in picture and "✗ " in picture and " of 12" in picture and "━" in picture for picture in session.pictures
    )
    unfinished = [picture for picture in session.pictures if picture.endswith("unfinished ...")]
    assert unfinished, "an unfinished line is not drawn over"
    lines = session.everything().strip().splitlines()
    printed = [f"line {number}" for number in range(6)] + ["WARNING:root:half-way", "unfinished ... finished"]
    assert lines[:8] == printed
    assert "".join(lines[8:11]).replace(" ", "") == "alongline" * 20
    assert lines[11:17] == [f"line {number}" for number in range(6, 12)]
    tail = lines[17:]
    assert sorted(line.split("  ")[0] for line in tail if line.startswith(("nightly", "after"))) == [
        "after",
        "nightly",
    ]
    assert sum("load ×12" in line for line in tail) == 1
    assert not any(spinner in line for line in lines for spinner in "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
    assert not session.cursor_is_hidden


ASKS = (
    HEAD
    + """
@flow
def asks():
    time.sleep(0.5)
    name = input("name? ")
    print("hello", name)

asks().execute()
"""
)


def test_a_question_is_not_drawn_over() -> None:
    """While ``input`` waits, the prompt and the typed text stay on the screen."""
    session = Session(ASKS)
    session.read_until(lambda screen: "name?" in screen)
    session.send("Ada")
    session.read_until(lambda screen: screen.endswith("name? Ada"))
    session.send("\n")
    assert session.finish() == 0
    assert session.everything().strip().splitlines()[:2] == ["name? Ada", "hello Ada"]


@pytest.mark.parametrize("setting", [{"NO_COLOR": "1"}, {"CI": "true"}, {"OTELFLOW_EXPORTER_TREE_LIVE": "false"}])
def test_settings_that_disable_the_live_tree(setting: dict[str, str]) -> None:
    """Only the ended trace is printed as a tree."""
    session = Session(BUSY, **setting)
    assert session.finish() == 0
    assert " of 12" not in "".join(session.pictures)
    assert "load ×12" in session.everything()
    if setting != {"OTELFLOW_EXPORTER_TREE_LIVE": "false"}:
        assert b"\x1b[2K" not in session.raw


def test_a_pipe_is_plain_text() -> None:
    """The output has no escape sequence."""
    import programs

    result = programs.run(BUSY, head="")
    assert result.returncode == 0
    assert "\x1b" not in result.stderr + result.stdout
    assert "load ×12" in result.stderr


RAISES = (
    HEAD
    + """
@flow
def breaks():
    time.sleep(0.6)
    raise RuntimeError("no rows")

breaks().execute()
"""
)


def test_an_exception_leaves_a_terminal_that_works() -> None:
    """The traceback is complete, the picture is removed, the cursor is visible."""
    session = Session(RAISES)
    assert session.finish() == 1
    text = session.everything()
    assert text.strip().startswith("Traceback (most recent call last):")
    assert text.count("RuntimeError: no rows") == 2  # the traceback, the tree
    assert "⠋" not in text
    assert not session.cursor_is_hidden


HANGS = (
    HEAD
    + """
@flow
def hangs():
    time.sleep(60)

hangs().execute()
"""
)


@pytest.mark.parametrize("end", ["ctrl-c", "terminate"])
def test_ended_from_outside(end: str) -> None:
    """After Ctrl-C and SIGTERM during a picture, the cursor is visible: it is never hidden."""
    session = Session(HANGS)
    session.read_until(lambda screen: "hangs" in screen)
    if end == "ctrl-c":
        session.send("\x03")
        assert session.finish() in (1, 130, -signal.SIGINT)
        assert "KeyboardInterrupt" in session.everything()
    else:
        session.terminate()
        assert session.finish() == -signal.SIGTERM
    assert not session.cursor_is_hidden


FORKS = (
    HEAD
    + """
@flow
def forks():
    time.sleep(0.5)
    for _ in range(5):
        pid = os.fork()
        if not pid:
            print("offspring")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        time.sleep(0.1)

forks().execute()
"""
)


def test_a_forked_child_prints_and_draws_nothing() -> None:
    """It has a new lock, and its streams have their own ``write`` again."""
    session = Session(FORKS)
    assert session.finish() == 0
    assert session.everything().count("offspring") == 5  # not "child": Python's warning about forks contains that word
    assert "forks" in session.everything()


SPAWNS = """
import multiprocessing, sys, time
from otelflow_exporters._terminal.live_tree import is_possible

def child(queue):
    queue.put(is_possible(sys.stderr))

if __name__ == "__main__":
    queue = multiprocessing.get_context("fork").Queue()
    process = multiprocessing.get_context("fork").Process(target=child, args=(queue,))
    process.start()
    print("parent", is_possible(sys.stderr), "child", queue.get())
    process.join()
"""


def test_only_the_parent_of_a_pool_draws() -> None:
    """Two processes that draw on one terminal would overwrite each other."""
    session = Session(SPAWNS)
    assert session.finish() == 0
    assert session.everything().strip() == "parent True child False"


PLAIN = """
import time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otelflow_exporters.tree import TreeSpanExporter
exporter = TreeSpanExporter()
provider = TracerProvider()
provider.add_span_processor(exporter.span_processor())
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("plain")
with tracer.start_as_current_span("import") as span:
    for number in range(10):
        span.set_attributes({"otelflow.progress.done": number, "otelflow.progress.total": 10})
        with tracer.start_as_current_span("row"):
            time.sleep(0.1)
"""


def test_in_a_program_that_does_not_use_otelflow() -> None:
    """Its own provider has the processor; two attributes contain the progress."""
    session = Session(PLAIN)
    assert session.finish() == 0
    assert any(" of 10" in picture and "import" in picture for picture in session.pictures)
    assert "row" in session.everything()


# --- the model --------------------------------------------------------------------------------------------------------

SECOND = 10**9


class Started:
    """A span as a processor's ``on_start`` receives it."""

    def __init__(self, number: int, parent: int | None = None, name: str = "", **attributes: Any) -> None:
        self.context = SpanContext(1, number, False, TraceFlags(1))
        self.parent = None if parent is None else SpanContext(1, parent, False, TraceFlags(1))
        self.name, self.start_time, self.attributes = name or f"s{number}", number, attributes


def ended(number: int) -> ReadableSpan:
    return ReadableSpan("s", SpanContext(1, number, False, TraceFlags(1)))


def test_open_children_of_an_ended_span_move_to_its_parent() -> None:
    """A thread that outlives its task is shown below the next open span."""
    running = OpenSpans()
    for picture in (Started(1), Started(2, 1), Started(3, 2)):
        running.add(picture)
    running.remove(ended(2))
    assert [row.label for row in rows(running, SECOND, 10)] == ["s1", "   s2", "   s3"]
    running.remove(ended(1))
    assert [row.label for row in rows(running, SECOND, 10)] == ["s3"]
    running.remove(ended(3))
    assert not running


def test_many_at_once_are_one_line() -> None:
    """No picture is higher than the terminal."""
    running = OpenSpans()
    running.add(Started(1, name="root"))
    for number in range(2, 102):
        running.add(Started(number, 1, "step"))
    assert [row.label for row in rows(running, SECOND, 10)] == ["root", "   step ×100"]
    for number in range(200, 300):
        running.add(Started(number))
    visible_rows = rows(running, SECOND, 10)
    assert len(visible_rows) == 10
    assert visible_rows[-1].label.startswith("… and ")


def test_numbers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open spans and names beyond the limits are counted, not kept."""
    monkeypatch.setattr("otelflow_exporters._trace.open_spans._MAX_OPEN", 3)
    monkeypatch.setattr("otelflow_exporters._trace.open_spans._MAX_NAMES", 2)
    running = OpenSpans()
    running.add(Started(1))
    for number in range(2, 10):
        running.add(Started(number, 1))
        running.remove(ended(number))
    (top,) = running.roots.values()
    assert top.ended_counts == {"s2": [1, 0], "s3": [1, 0], "others": [6, 0]}
    for number in range(20, 30):
        running.add(Started(number))
    assert running.dropped == 8


def test_short_runs_do_not_flicker_and_progress_is_checked() -> None:
    """A span that has just started is not shown, and an invalid progress is ignored."""
    running = OpenSpans()
    invalid = {"otelflow.progress.done": "a", "otelflow.progress.total": 0}
    running.add(Started(1, **invalid))
    assert rows(running, SECOND // 10, 10) == []
    assert rows(running, SECOND + 1, 10) == [Row("s1", 1.0, 0, 0, None)]


def test_only_on_a_terminal_of_pythons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no live tree on a replaced stream, such as a test runner's."""
    assert not is_possible(sys.stderr)
    from otelflow_exporters.tree import TreeSpanExporter

    assert TreeSpanExporter().span_processor() is None
    provider = TracerProvider(shutdown_on_exit=False)
    provider.shutdown()
    assert os.environ.get("OTELFLOW_EXPORTER_TREE_LIVE") is None


def test_markers_are_not_counted() -> None:
    """A marker below a running flow does not count as a task."""
    tree = LiveTree(io.TextIOWrapper(io.BytesIO()))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(tree)
    tracer = provider.get_tracer("test")
    tree._wake_up.set()  # nothing is drawn here
    try:
        with tracer.start_as_current_span("nightly"):
            tracer.start_span("nightly (started)", attributes={"otelflow.kind": "started"}).end()
            tracer.start_span("load").end()
            (row, _) = rows(tree._running, time.time_ns() + 10**9, 10)
    finally:
        tree.shutdown()
    assert (row.label, row.done) == ("nightly", 1)
