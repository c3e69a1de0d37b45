"""Flow of ``otelflow demo``: analyse a folder of Python files."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, TypedDict

from otelflow._runs.flow_and_task import Flow, Task
from otelflow.decorators import flow, task

__all__ = ["Facts", "analyse"]

_MAX_CONCURRENT = 8
_IGNORED_FOLDERS = {".git", ".venv", "__pycache__", "build", "node_modules"}


class Facts(TypedDict):
    """Facts about one parsed file."""

    path: str
    lines: int
    functions: int
    classes: int
    imports: list[str]


@task
def scan(folder: Path, this_task: Task | None = None) -> list[Path]:
    """Return all Python files below ``folder``."""
    files = sorted(path for path in folder.rglob("*.py") if not _IGNORED_FOLDERS & set(path.relative_to(folder).parts))
    if this_task is not None:
        this_task.log_info(f"{len(files)} files", folder=str(folder))
    return files


def _read_facts(path: Path) -> Facts:
    text = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text, str(path))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]
    return {
        "path": str(path),
        "lines": text.count("\n"),
        "functions": sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "imports": names,
    }


@task(raise_on_error=False)
async def parse(path: Path, gate: asyncio.Semaphore) -> Facts:
    """Return the facts of one file. The call returns None for a file that cannot be parsed; the flow continues."""
    async with gate:
        return await asyncio.to_thread(_read_facts, path)


@task(raise_on_error=False)
def read_coverage(folder: Path) -> str:
    """Return the coverage report. Usually there is none; the failure of this task is tolerated."""
    return (folder / "coverage.xml").read_text(encoding="utf-8")


@task
def summarise(facts: list[Facts], this_task: Task | None = None) -> dict[str, Any]:
    """Return totals. Record the largest files and the most imported modules as artifacts."""
    totals: dict[str, Any] = {
        "files": len(facts),
        "lines": sum(fact["lines"] for fact in facts),
        "functions": sum(fact["functions"] for fact in facts),
        "classes": sum(fact["classes"] for fact in facts),
    }
    largest = sorted(facts, key=lambda fact: -fact["lines"])[:5]
    imported = Counter(name.partition(".")[0] for fact in facts for name in fact["imports"])
    if this_task is not None:
        this_task.add_artifact("Largest files", "largest", [[f["path"], f["lines"]] for f in largest], "table")
        this_task.add_artifact("Most imported", "imports", dict(imported.most_common(8)), "json")
    return totals


@flow(name="analyse")
async def analyse(folder: str | Path, this_flow: Flow[Any] | None = None) -> dict[str, Any]:
    """Scan a folder, parse its files concurrently, and return the totals."""
    root = Path(folder)
    files = scan(root)
    gate = asyncio.Semaphore(_MAX_CONCURRENT)
    parsed = await asyncio.gather(*(parse(path, gate) for path in files))
    facts = [fact for fact in parsed if fact is not None]
    if read_coverage(root) is None:
        print("no coverage report: this task fails, which is tolerated, and the flow continues")
    totals = summarise(facts)
    if this_flow is not None:
        this_flow.add_flow_artifact("Totals", "totals", totals, "json")
        this_flow.add_flow_result("summary", _summary(totals, len(files) - len(facts)))
    return totals


def _summary(totals: dict[str, Any], not_parsed: int) -> str:
    files = f"{totals['files']} file{'' if totals['files'] == 1 else 's'}"
    return f"{totals['functions']} functions in {files}" + (f", {not_parsed} not parsed" if not_parsed else "")
