"""Match an expected tree with what ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otelflow.testing._captured_run import fits_name
from otelflow.testing._expected_tree import Expected, same_value
from otelflow.testing._render import short_type

__all__ = ["fits", "fits_name_of", "matches"]


def fits(expected: Expected, run: Any) -> bool:
    """Return whether ``run`` matches the line, without the runs below it."""
    if not fits_name_of(expected, run) or not _fits_error(expected.error, run):
        return False
    attributes = run.span.attributes or {}
    return all(key in attributes and same_value(attributes[key], value) for key, value in expected.attributes.items())


def fits_name_of(expected: Expected, run: Any) -> bool:
    """Return whether the name of ``run`` matches the line."""
    return fits_name(run.name, expected.name) if expected.is_pattern else bool(run.name == expected.name)


def _fits_error(error: str | None, run: Any) -> bool:
    failure = run._failure()
    if error is None or failure is None:
        return error is None and failure is None
    return fits_name(short_type(failure.type), error) or failure.type == error


class _Matcher:
    """Matches subtrees, and caches the result for each line and run."""

    def __init__(self) -> None:
        self._results: dict[tuple[int, int], bool] = {}

    def fits_subtree(self, expected: Expected, run: Any) -> bool:
        """Return whether the run and all runs below it match the line and all lines below it."""
        key = (id(expected), id(run))
        if key not in self._results:
            self._results[key] = fits(expected, run) and self.fits_siblings(expected.children, run.children)
        return self._results[key]

    def fits_siblings(self, expected: Sequence[Expected], runs: Sequence[Any]) -> bool:
        """Return whether siblings match the lines, in order.

        Work from the last line to the first: ``reachable[i]`` says whether the runs from ``i`` on match the lines done.
        """
        groups = _groups(expected)
        reachable = [False] * len(runs) + [True]
        for group in reversed(groups):
            if group[0].is_rest:
                furthest = max((end for end, fits_here in enumerate(reachable) if fits_here), default=-1)
                reachable = [start <= furthest for start in range(len(runs) + 1)]
            else:
                size = sum(line.times for line in group if not line.is_rest)
                reachable = [self._fits_from(group, runs, start, size, reachable) for start in range(len(runs) + 1)]
        return reachable[0]

    def _fits_from(self, group: list[Expected], runs: Sequence[Any], start: int, size: int, after: list[bool]) -> bool:
        if start + size > len(runs):
            return False
        if any(line.is_rest for line in group):  # in any order, and among other runs
            return any(
                after[end] and self._assign_all(group, runs[start:end]) for end in range(start + size, len(runs) + 1)
            )
        return after[start + size] and self._assign_all(group, runs[start : start + size])

    def _assign_all(self, group: list[Expected], runs: Sequence[Any]) -> bool:
        """Return whether each line of a group can have its own runs, in any order: a perfect matching."""
        lines = [line for line in group if not line.is_rest for _ in range(line.times)]
        if len(group) == 1:
            return all(self.fits_subtree(group[0], run) for run in runs)
        line_of_run: dict[int, int] = {}
        return all(self._assign(number, lines, runs, line_of_run, set()) for number in range(len(lines)))

    def _assign(
        self, number: int, lines: list[Expected], runs: Sequence[Any], line_of_run: dict[int, int], visited: set[int]
    ) -> bool:
        """Assign a run to one more line, moving other lines to other runs if necessary (Kuhn's augmenting paths)."""
        for position, run in enumerate(runs):
            if position in visited or not self.fits_subtree(lines[number], run):
                continue
            visited.add(position)
            if position not in line_of_run or self._assign(line_of_run[position], lines, runs, line_of_run, visited):
                line_of_run[position] = number
                return True
        return False


def _groups(expected: Sequence[Expected]) -> list[list[Expected]]:
    """Return the lines in groups: adjacent lines with ``~`` together, each other line by itself."""
    groups: list[list[Expected]] = []
    for line in expected:
        if line.in_any_order and groups and groups[-1][0].in_any_order:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [sorted(group, key=lambda line: line.is_rest) if len(group) > 1 else group for group in groups]


def matches(expected: Sequence[Expected], runs: Sequence[Any]) -> bool:
    """Return whether the runs match the expected tree."""
    return _Matcher().fits_siblings(expected, runs)
