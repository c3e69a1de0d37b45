"""Measure the tree exporter against the SDK's console exporter, the live tree, and ``otelflow show`` of a large file.

Run as ``python benchmarks/cases/showing.py [--quick]``; prints JSON. Values are CPU times of this process, medians of
interleaved rounds.
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
from otelflow_exporters._jsonfile.otlp_json import encode_lines
from otelflow_exporters._trace.open_spans import OpenSpans
from otelflow_exporters.tree import TreeSpanExporter

MEGABYTE = 1 << 20


def spans(traces: int, tasks: int) -> list[ReadableSpan]:
    """Return ended spans like those of flows: a root, and tasks below it with an attribute and a message each."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("benchmark")
    for number in range(traces):
        with tracer.start_as_current_span("nightly", attributes={"otelflow.kind": "flow", "run": number}):
            for task in range(tasks):
                with tracer.start_as_current_span(f"step {task % 20}", attributes={"otelflow.kind": "task"}) as span:
                    span.add_event("otelflow.message", {"otelflow.message.text": f"{task} rows"})
    return list(memory.get_finished_spans())


def cpu(call: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def exporters(rounds: int, ended: Sequence[ReadableSpan]) -> str:
    """Return the ratio of CPU time of the tree exporter to the console exporter."""
    out = io.StringIO()
    tree_s: list[float] = []
    console_s: list[float] = []
    before, sys.stderr = sys.stderr, out
    try:
        for _ in range(rounds):
            tree, console = TreeSpanExporter(), ConsoleSpanExporter(out=out)
            tree_s.append(cpu(partial(tree.export, ended)))
            console_s.append(cpu(partial(console.export, ended)))
            out.truncate(0)
    finally:
        sys.stderr = before
    return _ratio(tree_s, console_s)


def _ratio(ours: list[float], theirs: list[float]) -> str:
    """Return the median and the spread of the ratios of each round."""
    ratios = [our_seconds / their_seconds for our_seconds, their_seconds in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ±{statistics.pstdev(ratios):.2f}"


def live(rounds: int, tasks: int) -> str:
    """Return the ratio of CPU time of a span of the SDK with the live tree to one without.

    Only the hooks of its processor are measured; another thread draws the tree.
    """
    bare, watched = TracerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    watched.add_span_processor(_LiveTreeProcessor())

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
    return _ratio(watched_s, bare_s)


class _LiveTreeProcessor(SpanProcessor):
    """The hooks of the live tree, without its terminal."""

    def __init__(self) -> None:
        self._running = OpenSpans()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._running.add(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._running.remove(span)


_SHOW = """
import re, sys, time
from pathlib import Path
from otelflow_exporters.cli.show import show
start = time.monotonic()
show.main(sys.argv[1:], standalone_mode=False)
seconds = time.monotonic() - start
# Not getrusage: its maximum includes the process that forked this one.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], seconds, file=sys.stderr)
"""


def show(megabytes: int, tasks: int) -> dict[str, str]:
    """Return memory and speed of ``otelflow show`` for a file of that size: to print the last run, and to list runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.jsonl")
        traces = _write(path, megabytes * MEGABYTE, tasks)
        size = os.path.getsize(path)
        title = f"`otelflow show` of {size / MEGABYTE:.0f} MB, {traces:,} runs of {tasks + 1:,} spans"
        figures: dict[str, str] = {}
        for name, options in {"the last run": ["--last", "1"], "a line a run": ["--list"]}.items():
            peak, seconds = _run_show(str(path), *options)
            figures[f"{title}, {name}: MB at most, MB/s"] = f"{peak:.0f}, {size / MEGABYTE / seconds:.0f}"
    return figures


def _run_show(*arguments: str) -> tuple[float, float]:
    """Return the peak memory in megabytes, and the seconds."""
    process = subprocess.run([sys.executable, "-c", _SHOW, *arguments], capture_output=True, text=True, check=True)
    kilobytes, seconds = map(float, process.stderr.split()[-2:])
    return kilobytes / 1024, seconds


def _write(path: Path, size: int, tasks: int) -> int:
    """Write runs as OTLP JSON, each with its own trace id; return the number of runs."""
    line, _ = encode_lines(spans(1, tasks))
    trace_id = json.loads(line.splitlines()[0])["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"].encode()
    number = 0
    with path.open("wb") as out:
        while out.tell() < size:
            number += 1
            out.write(line.replace(trace_id, b"%032x" % number))
    return number


def main() -> None:
    quick = "--quick" in sys.argv
    ended = spans(20 if quick else 200, 50)
    megabytes = 20 if quick else 1024
    figures = {
        "CPU of a span: `otelflow_tree`, to the SDK's console exporter": exporters(3 if quick else 9, ended),
        "CPU of a span of the SDK: watched by the live tree, to unwatched": live(
            3 if quick else 9, 1000 if quick else 5000
        ),
        **show(megabytes, 50),
        **show(megabytes, 20_000),
        "`otelflow show` of an empty file: MB at most": f"{_run_show(os.devnull)[0]:.0f}",
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
