"""What looking costs: the tree exporter against the SDK's console exporter, and ``otelflow show`` of a large file.

Run as ``python benchmarks/cases/showing.py [--quick]``; prints JSON. CPU times of this process, medians of interleaved
rounds.
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
from otelflow_exporters._jsonfile.otlp_json import lines_of
from otelflow_exporters._trace.open_spans import OpenSpans
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


def exporters(rounds: int, made: Sequence[ReadableSpan]) -> str:
    """The ratio of CPU time a span."""
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
    return _ratio(tree_s, console_s)


def _ratio(ours: list[float], theirs: list[float]) -> str:
    """Median and spread of the ratios by round."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ±{statistics.pstdev(ratios):.2f}"


def live(rounds: int, tasks: int) -> str:
    """What the live tree adds to a span of the SDK: its processor is told of the start and of the end; the drawing is
    another thread's."""
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
    return _ratio(watched_s, bare_s)


class _Watching(SpanProcessor):
    """The live tree without its terminal."""

    def __init__(self) -> None:
        self._running = OpenSpans()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._running.started(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._running.ended(span)


_SHOW = """
import re, sys, time
from pathlib import Path
from otelflow_exporters.cli.show import show
begin = time.monotonic()
show.main(sys.argv[1:], standalone_mode=False)
seconds = time.monotonic() - begin
# Not getrusage: its maximum begins with the process that forked this one.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], seconds, file=sys.stderr)
"""


def show(megabytes: int, tasks: int) -> dict[str, str]:
    """Memory and speed of ``otelflow show`` for a file of that size: the index, and one run of it printed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.jsonl")
        traces = _write(path, megabytes * MEGABYTE, tasks)
        size = os.path.getsize(path)
        of = f"`otelflow show` of {size / MEGABYTE:.0f} MB, {traces:,} runs of {tasks + 1:,} spans"
        figures: dict[str, str] = {}
        for name, words in {"the last run": ["--last", "1"], "a line a run": ["--list"]}.items():
            peak, seconds = _shown(str(path), *words)
            figures[f"{of}, {name}: MB at most, MB/s"] = f"{peak:.0f}, {size / MEGABYTE / seconds:.0f}"
    return figures


def _shown(*words: str) -> tuple[float, float]:
    """Megabytes of memory at most, and seconds."""
    done = subprocess.run([sys.executable, "-c", _SHOW, *words], capture_output=True, text=True, check=True)
    kilobytes, seconds = map(float, done.stderr.split()[-2:])
    return kilobytes / 1024, seconds


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
    megabytes = 20 if quick else 1024
    figures = {
        "CPU of a span: `otelflow_tree`, to the SDK's console exporter": exporters(3 if quick else 9, made),
        "CPU of a span of the SDK: watched by the live tree, to unwatched": live(
            3 if quick else 9, 1000 if quick else 5000
        ),
        **show(megabytes, 50),
        **show(megabytes, 20_000),
        "`otelflow show` of an empty file: MB at most": f"{_shown(os.devnull)[0]:.0f}",
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
