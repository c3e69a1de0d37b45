"""``make bench``: one table of ratios to the same span written by hand; see ``--help``.

Each group of rows is measured in separate processes and merged into ``results.json``. From that file, the command
writes ``RESULTS.md``, the README's table and the graph ``results.svg``.
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
"""The program and arguments of a group, if they are not the program with the group's name."""

README = HERE.parent / "README.md"


def measure_group(group: str, quick: bool) -> dict[str, Any]:
    """Run a group's program; return the JSON that it prints: ``{"rows": [...]}``, or values by name."""
    program, *arguments = PROGRAMS.get(group, (f"{group}.py",))
    command = [sys.executable, program, *arguments, *(["--quick"] if quick else [])]
    process = subprocess.run(
        command,
        cwd=HERE / "cases",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    output = json.loads(process.stdout.splitlines()[-1])
    return {"on": machine(), **(output if "rows" in output else {"values": output})}


def machine() -> str:
    """Return the processor, the system and the versions of the measurement."""
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
    """Write the results, and every file that is generated from them."""
    report.RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (HERE / "RESULTS.md").write_text(report.page(results), encoding="utf-8")
    (HERE / "results.svg").write_text(graph.draw(report.readme_rows(results)), encoding="utf-8")
    before, start, rest = README.read_text(encoding="utf-8").partition("<!-- bench -->\n")
    _, end, after = rest.partition("<!-- /bench -->")
    README.write_text(before + start + report.readme(results) + "\n" + end + after, encoding="utf-8")


def agreement(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return a line for each row with the ratios of two runs, and their difference."""
    lines = []
    for group in first:
        pairs = zip(first[group].get("rows", []), second[group].get("rows", []), strict=True)
        for before, after in pairs:
            if "ratio" in before and "ratio" in after:
                change = after["ratio"] / before["ratio"] - 1
                lines.append(f"{group}: {before['name']}: {before['ratio']:.3f}, {after['ratio']:.3f}, {change:+.1%}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure with few rounds: print, but write no files")
    parser.add_argument(
        "--only", metavar="GROUP,...", help=f"measure these groups, keep the others: {', '.join(report.GROUPS)}"
    )
    parser.add_argument("--twice", action="store_true", help="measure twice, and print how much the ratios differ")
    parser.add_argument("--write", action="store_true", help="measure nothing; rewrite the files from results.json")
    options = parser.parse_args()
    groups = [] if options.write else options.only.split(",") if options.only else list(report.GROUPS)
    new_results: dict[str, Any] = {}
    for group in groups:
        print(f"measuring: {report.GROUPS[group]}", file=sys.stderr, flush=True)
        new_results[group] = measure_group(group, options.quick)
    print(report.tables(new_results))
    if options.twice:
        print(
            "\n".join(["", *agreement(new_results, {group: measure_group(group, options.quick) for group in groups})])
        )
    if not options.quick:
        results = {**report.load(), **new_results}
        write({group: results[group] for group in report.GROUPS if group in results})


if __name__ == "__main__":
    main()
