"""``make bench``: one table of ratios to the same span written by hand; see ``--help``.

Each group of rows is measured in processes of its own and merged into ``results.json``, of which ``RESULTS.md``, the
README's table and the graph ``results.svg`` are made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "harness"))

import graph
import report

HERE = Path(__file__).parent
PROGRAMS = {
    "recording": ("cases.py", "recording"),
    "sampled-out": ("cases.py", "sampled-out"),
    "no-sdk": ("cases.py", "no-sdk"),
    "import": ("importing.py",),
}
"""What measures a group, where it is not the program of its name."""

README = HERE.parent / "README.md"


def measured(group: str, quick: bool) -> dict[str, Any]:
    """The JSON that a group's program prints: ``{"rows": [...]}``, or values by name."""
    program, *words = PROGRAMS.get(group, (f"{group}.py",))
    command = [sys.executable, program, *words, *(["--quick"] if quick else [])]
    done = subprocess.run(
        command,
        cwd=HERE / "cases",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {"on": machine(), **(found if "rows" in found else {"values": found})}


def machine() -> str:
    """What it is measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"{model}, {os.cpu_count()} cores (shared), {platform.system()}, Python {platform.python_version()}, "
        f"opentelemetry-sdk {version('opentelemetry-sdk')}, wrapt {version('wrapt')}"
    )


def write(results: dict[str, Any]) -> None:
    """The results, and all that is made of them."""
    report.RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(report.page(results), encoding="utf-8")
    (HERE / "results.svg").write_text(graph.drawn(report.shown(results)), encoding="utf-8")
    before, start, rest = README.read_text(encoding="utf-8").partition("<!-- bench -->\n")
    _, end, after = rest.partition("<!-- /bench -->")
    README.write_text(before + start + report.readme(results) + "\n" + end + after, encoding="utf-8")


def agreement(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """By how much the ratios of two runs differ."""
    lines = []
    for group in first:
        pairs = zip(first[group].get("rows", []), second[group].get("rows", []), strict=True)
        for one, other in pairs:
            if "ratio" in one and "ratio" in other:
                change = other["ratio"] / one["ratio"] - 1
                lines.append(f"{group}: {one['name']}: {one['ratio']:.3f}, {other['ratio']:.3f}, {change:+.1%}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a look, no result: prints, writes no files")
    parser.add_argument(
        "--only", metavar="GROUP,...", help=f"some groups, merged into the others: {', '.join(report.GROUPS)}"
    )
    parser.add_argument("--twice", action="store_true", help="measure twice, and say how far the two agree")
    parser.add_argument("--write", action="store_true", help="measure nothing; make the files of results.json anew")
    asked = parser.parse_args()
    groups = [] if asked.write else asked.only.split(",") if asked.only else list(report.GROUPS)
    found: dict[str, Any] = {}
    for group in groups:
        print(f"measuring: {report.GROUPS[group]}", file=sys.stderr, flush=True)
        found[group] = measured(group, asked.quick)
    print(report.tables(found))
    if asked.twice:
        print("\n".join(["", *agreement(found, {group: measured(group, asked.quick) for group in groups})]))
    if not asked.quick:
        results = {**report.load(), **found}
        write({group: results[group] for group in report.GROUPS if group in results})


if __name__ == "__main__":
    main()
