"""What looking costs: the tree exporter against the SDK's console exporter, and ``otelflow show`` of a large file.

Run as ``python benchmarks/showing.py [--quick]``; prints JSON. CPU times of this process, interleaved rounds, medians.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otelflow_exporters._otlp_lines import lines_of
from otelflow_exporters._running import Running
from otelflow_exporters.tree import TreeSpanExporter

MEGABYTE = 1 << 20


def spans(traces: int, tasks: int) -> list[ReadableSpan]:
    """Ended spans as a flow makes them: a root, and tasks below it with some attributes and a message each."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("benchmark")
    for number in range(traces):
        with tracer.start_as_current_span("nightly", attributes={"otelflow.kind": "flow", "run": number}):
            for task in range(tasks):
                with tracer.start_as_current_span(f"step {task % 20}", attributes={"otelflow.kind": "task"}) as span:
                    span.add_event("otelflow.message", {"otelflow.message.text": f"{task} rows"})
    return list(kept.get_finished_spans())


def cpu(call: Callable[[], Any]) -> float:
    """Seconds of CPU that the call takes."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def exporters(rounds: int, made: Sequence[ReadableSpan]) -> dict[str, float]:
    """Microseconds a span of each, and the ratio."""
    out = io.StringIO()
    tree_s: list[float] = []
    console_s: list[float] = []
    before, sys.stderr = sys.stderr, out
    try:
        for _ in range(rounds):
            tree, console = TreeSpanExporter(), ConsoleSpanExporter(out=out)
            tree_s.append(cpu(partial(tree.export, made)))
            console_s.append(cpu(partial(console.export, made)))
            out.truncate(0)
    finally:
        sys.stderr = before
    tree_us, console_us = (statistics.median(one) / len(made) * 1e6 for one in (tree_s, console_s))
    return {"tree_us": round(tree_us, 2), "console_us": round(console_us, 2), "ratio": round(tree_us / console_us, 3)}


def live(rounds: int, tasks: int) -> dict[str, float]:
    """What the live tree adds to a span of the SDK, in microseconds and as a ratio: its processor is told of the start
    and of the end; the drawing is another thread's."""
    bare, watched = TracerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    watched.add_span_processor(_Watching())

    def run(tracer: Any) -> None:
        with tracer.start_as_current_span("nightly"):
            for _ in range(tasks):
                with tracer.start_as_current_span("step"):
                    pass

    bare_s: list[float] = []
    watched_s: list[float] = []
    for _ in range(rounds):
        bare_s.append(cpu(partial(run, bare.get_tracer("benchmark"))))
        watched_s.append(cpu(partial(run, watched.get_tracer("benchmark"))))
    ratio = statistics.median(after / before for before, after in zip(bare_s, watched_s, strict=True))
    added = (statistics.median(watched_s) - statistics.median(bare_s)) / tasks * 1e6
    return {"added_us": round(added, 2), "ratio": round(ratio, 3)}


class _Watching(SpanProcessor):
    """The live tree without its terminal."""

    def __init__(self) -> None:
        self._running = Running()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._running.started(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._running.ended(span)


_SHOW = """
import re, sys, time
from pathlib import Path
from otelflow_exporters._show import show
begin = time.monotonic()
show.main(sys.argv[1:], standalone_mode=False)
seconds = time.monotonic() - begin
# Not getrusage: its maximum begins with the process that forked this one.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], seconds, file=sys.stderr)
"""


def show(megabytes: int, tasks: int) -> dict[str, float]:
    """Memory and speed of ``otelflow show`` for a file of that size: the index, and one run of it printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.jsonl")
        traces = _write(path, megabytes * MEGABYTE, tasks)
        size = os.path.getsize(path)
        figures: dict[str, float] = {"megabytes": round(size / MEGABYTE), "traces": traces, "spans_a_trace": tasks + 1}
        for name, words in {"one_run": ["--last", "1"], "list": ["--list"]}.items():
            done = subprocess.run(
                [sys.executable, "-c", _SHOW, str(path), *words], capture_output=True, text=True, check=True
            )
            kilobytes, seconds = map(float, done.stderr.split()[-2:])
            figures[f"{name}_peak_mb"] = round(kilobytes / 1024)
            figures[f"{name}_mb_per_s"] = round(size / MEGABYTE / seconds, 1)
        empty = subprocess.run(
            [sys.executable, "-c", _SHOW, os.devnull], capture_output=True, text=True, check=True
        ).stderr
        figures["nothing_peak_mb"] = round(float(empty.split()[-2]) / 1024)
    return figures


def _write(path: Path, size: int, tasks: int) -> int:
    """Lines of OTLP JSON, a run each, with ids of their own; the number of runs."""
    line, _ = lines_of(spans(1, tasks))
    trace_id = json.loads(line.splitlines()[0])["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"].encode()
    number = 0
    with path.open("wb") as out:
        while out.tell() < size:
            number += 1
            out.write(line.replace(trace_id, b"%032x" % number))
    return number


def main() -> None:
    quick = "--quick" in sys.argv
    made = spans(20 if quick else 200, 50)
    figures = {
        "exporters": exporters(3 if quick else 9, made),
        "live": live(3 if quick else 9, 1000 if quick else 5000),
        "show_small_runs": show(20 if quick else 1024, 50),
        "show_large_runs": show(20 if quick else 1024, 20_000),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
