"""Where an expected tree and what ran differ: line by line, side by side; and the tree as it would be right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from otelflow.testing._expected_tree import Expected
from otelflow.testing._match import fits, fits_name_of, matches
from otelflow.testing._render import expected_form, name_text, short_type

__all__ = ["corrected", "difference"]

_MOST_ROWS = 300
_MOST_SIBLINGS = 200
_WIDEST = 64


class _Pair(NamedTuple):
    """A line and the equal siblings in a row that stand opposite to it; either may be missing."""

    line: Expected | None
    runs: list[Any]
    differs: bool
    below: list[_Pair]


def difference(expected: Sequence[Expected], runs: Sequence[Any]) -> str:
    """The two trees side by side; lines that differ are marked with ``>``."""
    rows = list(_rows(_aligned(expected, runs), 0))
    shown = rows[:_MOST_ROWS]
    width = min(_WIDEST, max([len(left) for _, left, _ in shown] + [len("expected")])) + 4
    lines = [f"  {'expected':<{width}}what ran"]
    for differs, left, right in shown:
        lines.append(f"{'>' if differs else ' '} {_shortened(left):<{width}}{right}".rstrip())
    if len(rows) > _MOST_ROWS:
        lines.append(f"  … {len(rows) - _MOST_ROWS} more lines")
    return "\n".join(lines)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _rows(pairs: Sequence[_Pair], depth: int) -> Iterator[tuple[bool, str, str]]:
    for pair in pairs:
        indent = "  " * depth
        left = "" if pair.line is None else indent + pair.line.line
        yield pair.differs, left, indent + _label(pair) if pair.runs else ""
        yield from _rows(pair.below, depth + 1)


def _label(pair: _Pair, name: str | None = None) -> str:
    """What ran, with those attributes that the expected line names."""
    run, line = pair.runs[0], pair.line
    failure = run._failure()
    text = name_text(run.name) if name is None else name
    text += "" if failure is None else f"  !{short_type(failure.type)}"
    text += f"  x{len(pair.runs)}" if len(pair.runs) > 1 else ""
    if line is None or not line.attributes:
        return text
    attributes = run.span.attributes or {}
    told = (f"{key}={_value(attributes, key, written)}" for key, written in line.attributes.items())
    return text + "  {" + ", ".join(told) + "}"


def _value(attributes: Any, key: str, written: str) -> str:
    if key not in attributes:
        return "(none)"
    text = str(attributes[key])
    return f'"{text}"' if written.startswith('"') or "," in text else text


def corrected(expected: Sequence[Expected], runs: Sequence[Any]) -> list[str]:
    """The expected tree as it would be right: what holds stays as it is written, the rest is what ran."""
    return list(_corrected(_aligned(expected, runs), 0))


def _corrected(pairs: Sequence[_Pair], depth: int) -> Iterator[str]:
    for pair in pairs:
        line, indent = pair.line, "  " * depth
        if line is None:
            yield from expected_form(pair.runs, depth) if pair.differs else ()  # else ... stands for it
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


def _aligned(lines: Sequence[Expected], runs: Sequence[Any]) -> list[_Pair]:
    """Pairs with the fewest differences among siblings, then among what is below each."""
    folded = groupby(runs, key=lambda run: "\n".join(expected_form([run])))
    groups = _in_written_order(lines, [list(group) for _, group in folded])
    cut_lines, cut_groups = lines[:_MOST_SIBLINGS], groups[:_MOST_SIBLINGS]
    pairs = _cheapest(cut_lines, cut_groups)
    pairs += [_only_expected(line) for line in lines[_MOST_SIBLINGS:]]
    return pairs + [_only_ran(group, True) for group in groups[_MOST_SIBLINGS:]]


def _in_written_order(lines: Sequence[Expected], groups: list[list[Any]]) -> list[list[Any]]:
    """Runs whose lines have ``~``, in the order of these lines: that they ran in another one is no difference."""
    free = list(groups)
    block = []
    for line in lines:
        if not line.in_any_order or line.is_rest:
            continue
        best = [group for group in free if _cost(line, group) == 0] or [g for g in free if _cost(line, g) is not None]
        if best:
            block.append(best[0])
            free.remove(best[0])
    if not block:
        return groups
    place = min(groups.index(group) for group in block)
    before = [group for group in groups[:place] if group in free]
    return [*before, *block, *(group for group in free if group not in before)]


def _cost(line: Expected, group: list[Any]) -> float | None:
    """What it costs to put the two in one row; None where they have nothing in common."""
    if line.is_rest or not fits_name_of(line, group[0]):
        return None
    if not fits(line, group[0]) or line.times != len(group):
        return 1
    return 0 if matches(line.children, group[0].children) else 0.5


def _cheapest(lines: Sequence[Expected], groups: Sequence[list[Any]]) -> list[_Pair]:
    """An edit distance, where ``...`` takes any siblings beside it for nothing. Of equal ways, one that pairs."""
    best = [[0.0] * (len(groups) + 1) for _ in range(len(lines) + 1)]
    step = [[""] * (len(groups) + 1) for _ in range(len(lines) + 1)]
    for i in range(len(lines), -1, -1):
        for j in range(len(groups), -1, -1):
            if i < len(lines) or j < len(groups):
                best[i][j], step[i][j] = min(_ways(lines, groups, i, j, best), key=lambda way: way[0])
    pairs: list[_Pair] = []
    i = j = 0
    while i < len(lines) or j < len(groups):
        how = step[i][j]
        if how == "pair":
            below = _aligned(lines[i].children, groups[j][0].children)
            pairs.append(_Pair(lines[i], groups[j], _cost(lines[i], groups[j]) == 1, below))
        elif how == "line":
            pairs.append(_only_expected(lines[i]))
        else:
            pairs.append(_only_ran(groups[j], how == "run"))
        i, j = i + (how in ("pair", "line")), j + (how != "line")
    return pairs


def _ways(
    lines: Sequence[Expected], groups: Sequence[list[Any]], i: int, j: int, best: list[list[float]]
) -> list[tuple[float, str]]:
    ways: list[tuple[float, str]] = []
    cost = _cost(lines[i], groups[j]) if i < len(lines) and j < len(groups) else None
    if cost is not None:
        ways.append((cost + best[i + 1][j + 1], "pair"))
    if i < len(lines):
        ways.append((best[i + 1][j] + (0 if lines[i].is_rest else 1), "line"))
    if j < len(groups):
        taken = any(line.is_rest for line in lines[max(0, i - 1) : i + 1])
        ways.append((best[i][j + 1] + (0 if taken else 1), "taken" if taken else "run"))
    return ways


def _only_expected(line: Expected) -> _Pair:
    return _Pair(line, [], not line.is_rest, [_only_expected(child) for child in line.children])


def _only_ran(group: list[Any], differs: bool) -> _Pair:
    folded = groupby(group[0].children, key=lambda run: "\n".join(expected_form([run])))
    return _Pair(None, group, differs, [_only_ran(list(below), differs) for _, below in folded])
