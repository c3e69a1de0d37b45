"""Compare an expected tree with what ran: show both side by side, and compute the corrected tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from otelflow.testing._expected_tree import Expected
from otelflow.testing._match import fits, fits_name_of, matches
from otelflow.testing._render import expected_form, name_text, short_type

__all__ = ["corrected", "difference"]

_MAX_ROWS = 300
_MAX_SIBLINGS = 200
_MAX_WIDTH = 64


class _Pair(NamedTuple):
    """A line and the adjacent equal siblings shown next to it. Either may be missing."""

    line: Expected | None
    runs: list[Any]
    differs: bool
    below: list[_Pair]


def difference(expected: Sequence[Expected], runs: Sequence[Any]) -> str:
    """Return the two trees side by side. Lines that differ are marked with ``>``."""
    rows = list(_rows(_align(expected, runs), 0))
    first_rows = rows[:_MAX_ROWS]
    width = min(_MAX_WIDTH, max([len(left) for _, left, _ in first_rows] + [len("expected")])) + 4
    lines = [f"  {'expected':<{width}}what ran"]
    for differs, left, right in first_rows:
        lines.append(f"{'>' if differs else ' '} {_shortened(left):<{width}}{right}".rstrip())
    if len(rows) > _MAX_ROWS:
        lines.append(f"  … {len(rows) - _MAX_ROWS} more lines")
    return "\n".join(lines)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_WIDTH else f"{text[: _MAX_WIDTH - 1]}…"


def _rows(pairs: Sequence[_Pair], depth: int) -> Iterator[tuple[bool, str, str]]:
    for pair in pairs:
        indent = "  " * depth
        left = "" if pair.line is None else indent + pair.line.line
        yield pair.differs, left, indent + _label(pair) if pair.runs else ""
        yield from _rows(pair.below, depth + 1)


def _label(pair: _Pair, name: str | None = None) -> str:
    """Return a run as a line, with the attributes that the expected line names."""
    run, line = pair.runs[0], pair.line
    failure = run._failure()
    text = name_text(run.name) if name is None else name
    text += "" if failure is None else f"  !{short_type(failure.type)}"
    text += f"  x{len(pair.runs)}" if len(pair.runs) > 1 else ""
    if line is None or not line.attributes:
        return text
    attributes = run.span.attributes or {}
    pairs = (f"{key}={_value(attributes, key, value)}" for key, value in line.attributes.items())
    return text + "  {" + ", ".join(pairs) + "}"


def _value(attributes: Any, key: str, expected_value: str) -> str:
    if key not in attributes:
        return "(none)"
    text = str(attributes[key])
    return f'"{text}"' if expected_value.startswith('"') or "," in text else text


def corrected(expected: Sequence[Expected], runs: Sequence[Any]) -> list[str]:
    """Return the corrected tree: lines that match stay unchanged, the others become what ran."""
    return list(_corrected(_align(expected, runs), 0))


def _corrected(pairs: Sequence[_Pair], depth: int) -> Iterator[str]:
    for pair in pairs:
        line, indent = pair.line, "  " * depth
        if line is None:
            yield from expected_form(pair.runs, depth) if pair.differs else ()  # otherwise a "..." line covers it
        elif line.is_rest:
            yield indent + line.line
        elif pair.runs and pair.differs:
            name = line.name if line.is_pattern else None
            yield indent + ("~ " if line.in_any_order else "") + _label(pair, name)
            yield from _corrected(pair.below, depth + 1)
        elif pair.runs:
            yield indent + line.line
            yield from _corrected(pair.below, depth + 1)


# --- which line belongs to which run ---------------------------------------------------------------------------------


def _align(lines: Sequence[Expected], runs: Sequence[Any]) -> list[_Pair]:
    """Return the pairs with the fewest differences among siblings, then among their children."""
    folded = groupby(runs, key=lambda run: "\n".join(expected_form([run])))
    groups = _in_written_order(lines, [list(group) for _, group in folded])
    pairs = _cheapest_alignment(lines[:_MAX_SIBLINGS], groups[:_MAX_SIBLINGS])
    pairs += [_only_expected(line) for line in lines[_MAX_SIBLINGS:]]
    return pairs + [_only_ran(group, True) for group in groups[_MAX_SIBLINGS:]]


def _in_written_order(lines: Sequence[Expected], groups: list[list[Any]]) -> list[list[Any]]:
    """Sort the runs of ``~`` lines in the order of these lines: that they ran in another order is not a difference."""
    unused = list(groups)
    block = []
    for line in lines:
        if not line.in_any_order or line.is_rest:
            continue
        candidates = [group for group in unused if _cost(line, group) == 0]
        candidates = candidates or [group for group in unused if _cost(line, group) is not None]
        if candidates:
            block.append(candidates[0])
            unused.remove(candidates[0])
    if not block:
        return groups
    position = min(groups.index(group) for group in block)
    before = [group for group in groups[:position] if group in unused]
    return [*before, *block, *(group for group in unused if group not in before)]


def _cost(line: Expected, group: list[Any]) -> float | None:
    """Return the cost of showing the two in one row; None if their names differ."""
    if line.is_rest or not fits_name_of(line, group[0]):
        return None
    if not fits(line, group[0]) or line.times != len(group):
        return 1
    return 0 if matches(line.children, group[0].children) else 0.5


def _cheapest_alignment(lines: Sequence[Expected], groups: Sequence[list[Any]]) -> list[_Pair]:
    """Align by edit distance. ``...`` matches any adjacent siblings at no cost; of equal costs, prefer a pair."""
    cost = [[0.0] * (len(groups) + 1) for _ in range(len(lines) + 1)]
    steps = [[""] * (len(groups) + 1) for _ in range(len(lines) + 1)]
    for i in range(len(lines), -1, -1):
        for j in range(len(groups), -1, -1):
            if i < len(lines) or j < len(groups):
                cost[i][j], steps[i][j] = min(_steps(lines, groups, i, j, cost), key=lambda step: step[0])
    pairs: list[_Pair] = []
    i = j = 0
    while i < len(lines) or j < len(groups):
        step = steps[i][j]
        if step == "pair":
            below = _align(lines[i].children, groups[j][0].children)
            pairs.append(_Pair(lines[i], groups[j], _cost(lines[i], groups[j]) == 1, below))
        elif step == "line":
            pairs.append(_only_expected(lines[i]))
        else:
            pairs.append(_only_ran(groups[j], step == "run"))
        i, j = i + (step in ("pair", "line")), j + (step != "line")
    return pairs


def _steps(
    lines: Sequence[Expected], groups: Sequence[list[Any]], i: int, j: int, cost: list[list[float]]
) -> list[tuple[float, str]]:
    """Return the possible steps at line ``i`` and group ``j``, each with the total cost from there to the end."""
    steps: list[tuple[float, str]] = []
    pair_cost = _cost(lines[i], groups[j]) if i < len(lines) and j < len(groups) else None
    if pair_cost is not None:
        steps.append((pair_cost + cost[i + 1][j + 1], "pair"))
    if i < len(lines):
        steps.append((cost[i + 1][j] + (0 if lines[i].is_rest else 1), "line"))
    if j < len(groups):
        is_covered = any(line.is_rest for line in lines[max(0, i - 1) : i + 1])
        steps.append((cost[i][j + 1] + (0 if is_covered else 1), "covered" if is_covered else "run"))
    return steps


def _only_expected(line: Expected) -> _Pair:
    return _Pair(line, [], not line.is_rest, [_only_expected(child) for child in line.children])


def _only_ran(group: list[Any], differs: bool) -> _Pair:
    folded = groupby(group[0].children, key=lambda run: "\n".join(expected_form([run])))
    return _Pair(None, group, differs, [_only_ran(list(below), differs) for _, below in folded])
