"""Generate tables from ``results.json``: ``RESULTS.md``, the README's part of it, and the terminal's output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results.json"

GROUPS = {
    "recording": "Recording",
    "sampled-out": "Sampled out",
    "no-sdk": "No SDK installed",
    "processes": "4 processes at once",
    "threads": "2 threads at once, by the clock",
    "peers": "Peers, each to by hand in an environment of its own",
    "wire": "End to end: a span made and sent to a receiver in a process of its own",
    "import": "Import",
    "memory": "Memory kept, bytes",
    "kit": "Test kit, CPU ms (goal: <= 2)",
    "instrumenting": "`instrument()`",
    "metrics": "Metrics",
    "backend": "Jaeger, by the Collector",
    "shop": "The example shop, 8 orders at a time, ratio",
    "showing": "Seeing it without a backend",
    "page": "One page",
    "jsonfile": "100,000 spans to a file of OTLP JSON lines",
}
"""The title of each group of rows, in the order of the page."""

GOALS = {
    "recording": {
        "task": 0.25,
        "task, a method": 0.25,
        "async task": 0.25,
        "task, stack depth 5": 0.25,
        "task, stack depth 500": 0.25,
        "async task, stack depth 500": 0.25,
        "task, number 10 of a flow": 0.25,
        "task, number 1,000,000 of a flow": 0.25,
        "task + message": 0.4,
        "task + artifact": 0.4,
        "task that raises": 0.15,
        "transparent flow": 1.0,
        "deferred flow": 1.0,
    },
    "sampled-out": {"task": 0.3, "async task": 0.3},
    "no-sdk": {"task": 0.4, "async task": 0.4},
    "wire": {
        "OTLP/HTTP": 0.2,
        "OTLP/HTTP, the exporter alone": 0.2,
        "OTLP/gRPC": 0.2,
        "OTLP/gRPC, the exporter alone": 0.2,
    },
    "import": {"otelflow over api + wrapt": 1.2},
}
"""The largest ratio to the span by hand that is the goal of a row."""

SHOWN = {
    "recording": (
        *("by hand", "the SDK's minimal form", "task", "task, a method", "async task"),
        *("task + message", "task + artifact", "task that raises"),
    ),
    "sampled-out": ("task",),
    "no-sdk": ("task",),
    "peers": None,
    "wire": ("OTLP/HTTP", "OTLP/gRPC"),
}
"""The rows that the README and its graph show, by group; None for all rows."""


def load() -> dict[str, Any]:
    """Return the last results, by group."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return results


def readme_rows(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows for the README, by group."""
    groups = {}
    for group, names in SHOWN.items():
        rows = results.get(group, {}).get("rows", [])
        groups[group] = [row for row in rows if (names is None or row["name"] in names) and "ratio" in row]
    return {group: rows for group, rows in groups.items() if rows}


def _line(group: str, row: dict[str, Any]) -> str:
    if "ratio" not in row:
        return f"| {row['name']} | {row.get('value', row.get('skipped'))} | | | |"
    goal = GOALS.get(group, {}).get(row["name"])
    micros = f"{row['micros']:,.2f}" if "micros" in row else ""
    goal_text = "" if goal is None else f"<= {goal}" + ("" if row["ratio"] <= goal else " (missed)")
    return f"| {row['name']} | {micros} | {row['ratio']:.2f} | ±{row['spread']:.2f} | {goal_text} |"


def _rows(group: str, rows: list[dict[str, Any]]) -> list[str]:
    head = f"| {GROUPS[group]} | µs of CPU | ratio to by hand | spread | goal |"
    return [head, "| --- | --- | --- | --- | --- |", *(_line(group, row) for row in rows)]


def _values(group: str, values: dict[str, Any]) -> list[str]:
    return [f"| {GROUPS[group]} | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in values.items())]


def tables(results: dict[str, Any]) -> str:
    """Return the tables of all groups, as Markdown."""
    parts = []
    for group in GROUPS:
        result = results.get(group)
        if result:
            lines = _rows(group, result["rows"]) if "rows" in result else _values(group, result["values"])
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def machines(results: dict[str, Any]) -> str:
    """Return a line for each machine that the results come from."""
    names = sorted({result["on"] for result in results.values()})
    return "\n".join(f"Measured on {name}." for name in names)


ABOUT = """\
Written by `make bench` from `results.json`. µs are process CPU on a machine as fast as this one was in the middle of
the run; the ratio, to the same span written by hand in the same run, is the figure to look at. The spread is half the
distance between the quartiles of the rounds. Two runs agree within 10 % (`bench.py --twice` says how far): with a dozen
programs wanting this machine's 2 cores it was 0.7 to 6.2 %, and 1 to 5 % for the peers. What does not move with the
machine: [INSTRUCTIONS.md](INSTRUCTIONS.md).
"""


def page(results: dict[str, Any]) -> str:
    """Return the text of ``RESULTS.md``."""
    return f"# Results of `make bench`\n\n{ABOUT}\n{tables(results)}\n\n{machines(results)}\n"


def readme(results: dict[str, Any]) -> str:
    """Return the table in the README."""
    return "\n\n".join("\n".join(_rows(group, rows)) for group, rows in readme_rows(results).items())
