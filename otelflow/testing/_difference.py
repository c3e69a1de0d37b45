"""Showing where an expected tree and what ran differ: side by side, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from otelflow.testing._match import fits, fits_name_of
from otelflow.testing._pattern import Expected
from otelflow.testing._text import expected_form, name_text, short_type

__all__ = ["difference"]

_MOST_LINES = 300


class _Shown:
    """A line of what ran; equal siblings in a row are one."""

    def __init__(self, run: Any, depth: int) -> None:
        self.run, self.depth, self.number = run, depth, 1

    def text_for(self, line: Expected | None) -> str:
        """The line, with those attributes that the expected one names."""
        failure = self.run._failure()
        text = "  " * self.depth + name_text(self.run.name)
        text += "" if failure is None else f"  !{short_type(failure.type)}"
        text += f"  x{self.number}" if self.number > 1 else ""
        if line is None or not line.attributes:
            return text
        attributes = self.run.span.attributes or {}
        return text + "  {" + ", ".join(f"{key}={attributes.get(key, '(none)')}" for key in line.attributes) + "}"


class _Row(NamedTuple):
    line: Expected | None
    shown: _Shown | None
    differs: bool


def difference(expected: Sequence[Expected], runs: Sequence[Any]) -> str:
    """The two trees side by side; lines that differ are marked with ``>``."""
    left, right = _flat(expected), _flat_runs(runs, 0)
    width = max([len(line.text) for line in left[:_MOST_LINES]] + [len("expected")]) + 4
    rows = [f"  {'expected':<{width}}what ran"]
    for line, shown, differs in _aligned(left[:_MOST_LINES], right[:_MOST_LINES]):
        before = "" if line is None else line.text
        after = "" if shown is None else shown.text_for(line)
        rows.append(f"{'>' if differs else ' '} {before:<{width}}{after}".rstrip())
    left_out = max(len(left), len(right)) - _MOST_LINES
    if left_out > 0:
        rows.append(f"  … {left_out} more lines")
    return "\n".join(rows)


def _flat(expected: Sequence[Expected]) -> list[Expected]:
    return [line for root in expected for line in (root, *_flat(root.children))]


def _flat_runs(runs: Sequence[Any], depth: int) -> list[_Shown]:
    shown: list[_Shown] = []
    last, top = None, None
    for run in runs:
        form = expected_form([run])
        if form == last and top is not None:
            top.number += 1
            continue
        last, top = form, _Shown(run, depth)
        shown += [top, *_flat_runs(run.children, depth + 1)]
    return shown


def _cost(line: Expected, shown: _Shown) -> float | None:
    """What it costs to put the two in one row: nothing where they agree; None where they have nothing in common."""
    if line.is_rest or line.depth != shown.depth or not fits_name_of(line, shown.run):
        return None
    return 0 if fits(line, shown.run) and line.times == shown.number else 1


def _aligned(left: list[Expected], right: list[_Shown]) -> list[_Row]:
    """Rows with the fewest differences: an edit distance, where ``...`` takes any lines at its level for nothing."""
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    step: list[list[str]] = [[""] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in range(len(left), -1, -1):
        for j in range(len(right), -1, -1):
            if i < len(left) or j < len(right):
                best[i][j], step[i][j] = min(_choices(left, right, i, j, best), key=lambda choice: choice[0])
    rows, i, j = [], 0, 0
    while i < len(left) or j < len(right):
        how = step[i][j]
        line, shown = (left[i] if how in "both rest left" else None), (right[j] if how in "both right taken" else None)
        if how == "both":
            rows.append(_Row(line, shown, bool(_cost(left[i], right[j]))))
        else:
            rows.append(_Row(line, shown, how in ("left", "right")))
        i, j = i + (line is not None), j + (shown is not None)
    return rows


def _choices(left: list[Expected], right: list[_Shown], i: int, j: int, best: Any) -> list[tuple[float, str]]:
    choices: list[tuple[float, str]] = []
    if i < len(left) and j < len(right):
        cost = _cost(left[i], right[j])
        if cost is not None:
            choices.append((cost + best[i + 1][j + 1], "both"))
    if i < len(left):
        choices.append((best[i + 1][j] + (0 if left[i].is_rest else 1), "rest" if left[i].is_rest else "left"))
    if j < len(right):
        taken = any(line.is_rest and line.depth <= right[j].depth for line in left[max(0, i - 1) : i + 1])
        choices.append((best[i][j + 1] + (0 if taken else 1), "taken" if taken else "right"))
    return choices
