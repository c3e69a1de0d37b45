"""``make bench``: one table of ratios to the same span written by hand, written to ``benchmarks/RESULTS.md``.

Each kind of telemetry is measured in a process of its own, its cases in interleaved rounds; what has to be counted in
memory or in whole processes (kept memory, import time) is measured beside. ``--quick`` is a look, not a result: it
prints and leaves the committed table alone. All samples go to ``benchmarks/samples.json`` for pyperf.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyperf

HERE = Path(__file__).parent
MODES = ("recording", "sampled-out", "no-sdk")
GOALS = {
    ("recording", "task"): 1.0,
    ("recording", "async task"): 1.0,
    ("recording", "task, one listener"): 1.2,
    ("recording", "task that raises"): 0.5,
    ("recording", "task, stack depth 5"): 1.0,
    ("recording", "task, stack depth 500"): 1.0,
    ("recording", "task in a pool of threads"): 1.3,
    ("recording", "task number 10 of a flow"): 1.0,
    ("recording", "task number 100,000 of a flow"): 1.0,
    ("sampled-out", "task"): 0.8,
    ("sampled-out", "async task"): 0.8,
    ("no-sdk", "task"): 0.7,
    ("no-sdk", "async task"): 0.7,
    ("import", "otelflow over api + wrapt"): 1.5,
}


def child(*arguments: str) -> Any:
    """The JSON that another program of this folder prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=HERE, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def import_ratio(times: int) -> tuple[float, float]:
    """``import otelflow`` over ``import opentelemetry.trace, wrapt``: median of ``times`` processes, and its spread."""
    program = (
        "import time; a = time.process_time(); import opentelemetry.trace, wrapt; b = time.process_time(); "
        "import otelflow; c = time.process_time(); print((c - a) / (b - a))"
    )
    ratios = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(times)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), (high - low) / 2


def keep(samples: dict[str, list[float]]) -> None:
    """All samples in pyperf's format, in ``benchmarks/samples.json``: for ``pyperf stats``, ``hist`` and others."""
    benchmarks = []
    for name, seconds in samples.items():
        run = pyperf.Run(seconds, metadata={"name": name, "unit": "second"}, collect_metadata=False)
        benchmarks.append(pyperf.Benchmark([run]))
    pyperf.BenchmarkSuite(benchmarks).dump(str(HERE / "samples.json"), replace=True)


def machine() -> str:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    from importlib.metadata import version

    return (
        f"{model}, {os.cpu_count()} cores (shared), {platform.system()}, Python {platform.python_version()}, "
        f"opentelemetry-sdk {version('opentelemetry-sdk')}, wrapt {version('wrapt')}"
    )


def rows(quick: bool) -> list[tuple[str, str, float, float]]:
    """Mode, name, ratio, spread of everything that is measured."""
    flags = ["--quick"] if quick else []
    made: list[tuple[str, str, float, float]] = []
    samples: dict[str, list[float]] = {}
    for mode in MODES:
        for row in child("cases.py", mode, *flags)["rows"]:
            made.append((mode, row["name"], *row["ratio"]))
            samples |= {f"{mode}: {row['name']}": row["ours"], f"{mode}: {row['name']}, by hand": row["hand"]}
    keep(samples)
    made.append(("import", "otelflow over api + wrapt", *import_ratio(5 if quick else 25)))
    return made


def table(measured: list[tuple[str, str, float, float]]) -> list[str]:
    """The rows as Markdown."""
    lines = ["| telemetry | what | ratio to by hand | spread | goal |", "| --- | --- | --- | --- | --- |"]
    for mode, name, ratio, spread in measured:
        goal = GOALS.get((mode, name))
        lines.append(f"| {mode} | {name} | {ratio:.2f} | ±{spread:.2f} | {f'<= {goal}' if goal else ''} |")
    return lines


def main() -> None:
    quick = "--quick" in sys.argv
    lines = table(rows(quick))
    beside = {
        "memory.py": "memory | bytes",
        "kit.py": "test kit | CPU ms (goal: <= 2)",
        "instrumenting.py": "`instrument()` |",
        "metrics.py": "metrics |",
        "backend.py": "Jaeger, by the Collector |",
        "shop.py": "the example shop, 8 orders at a time | ratio",
        "showing.py": "seeing it without a backend |",
        "page.py": "one page |",
        "jsonfile.py": "100,000 spans to a file of OTLP JSON lines |",
    }
    for program, what in beside.items():
        measured = child(program, *(["--quick"] if quick else []))
        lines += ["", f"| {what} |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in measured.items())]
    print("\n".join(lines))
    print(f"\nMeasured on {machine()}.")
    if not quick:
        text = "# Results of `make bench`\n\n" + "\n".join(lines) + f"\n\nMeasured on {machine()}.\n"
        (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
