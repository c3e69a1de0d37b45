"""Comparing an expected tree with what ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otelflow.testing._captured_run import fits_name
from otelflow.testing._expected_tree import Expected, same_value
from otelflow.testing._render import short_type

__all__ = ["fits", "fits_name_of", "matches"]


def fits(expected: Expected, run: Any) -> bool:
    """Whether ``run`` itself, without what is below, is what the line says."""
    if not fits_name_of(expected, run) or not _fits_error(expected.error, run):
        return False
    attributes = run.span.attributes or {}
    return all(key in attributes and same_value(attributes[key], value) for key, value in expected.attributes.items())


def fits_name_of(expected: Expected, run: Any) -> bool:
    """Whether ``run`` has the name of the line."""
    return fits_name(run.name, expected.name) if expected.is_pattern else bool(run.name == expected.name)


def _fits_error(wanted: str | None, run: Any) -> bool:
    failure = run._failure()
    if wanted is None or failure is None:
        return wanted is None and failure is None
    return fits_name(short_type(failure.type), wanted) or failure.type == wanted


class _Matcher:
    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bool] = {}

    def whole(self, expected: Expected, run: Any) -> bool:
        """Whether the run and all below it is what the line and all below it says."""
        key = (id(expected), id(run))
        if key not in self._known:
            self._known[key] = fits(expected, run) and self.rows(expected.children, run.children)
        return self._known[key]

    def rows(self, expected: Sequence[Expected], runs: Sequence[Any]) -> bool:
        """Whether siblings are what the lines say, in order. From the end to the start: which suffixes fit."""
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
        if any(line.is_rest for line in group):  # in any order, among any others
            return any(
                after[end] and self._places(group, runs[start:end]) for end in range(start + size, len(runs) + 1)
            )
        return after[start + size] and self._places(group, runs[start : start + size])

    def _places(self, group: list[Expected], runs: Sequence[Any]) -> bool:
        """Whether each line of a group finds its runs, whatever their order: a perfect matching of lines to runs."""
        lines = [line for line in group if not line.is_rest for _ in range(line.times)]
        if len(group) == 1:
            return all(self.whole(group[0], run) for run in runs)
        taken: dict[int, int] = {}
        return all(self._place(number, lines, runs, taken, set()) for number in range(len(lines)))

    def _place(
        self, number: int, lines: list[Expected], runs: Sequence[Any], taken: dict[int, int], seen: set[int]
    ) -> bool:
        """One more line gets a run, others changing theirs where they can (Kuhn's augmenting paths)."""
        for position, run in enumerate(runs):
            if position in seen or not self.whole(lines[number], run):
                continue
            seen.add(position)
            if position not in taken or self._place(taken[position], lines, runs, taken, seen):
                taken[position] = number
                return True
        return False


def _groups(expected: Sequence[Expected]) -> list[list[Expected]]:
    """Lines one by one, and those with ``~`` in a row together."""
    groups: list[list[Expected]] = []
    for line in expected:
        if line.in_any_order and groups and groups[-1][0].in_any_order:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [sorted(group, key=lambda line: line.is_rest) if len(group) > 1 else group for group in groups]


def matches(expected: Sequence[Expected], runs: Sequence[Any]) -> bool:
    """Whether what ran is what is expected."""
    return _Matcher().rows(expected, runs)
