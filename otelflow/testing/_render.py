"""Captured runs as text: the lines that an expected tree is written in, and a fuller tree for a report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

__all__ = ["expected_form", "name_text", "report", "told"]

_NEEDS_QUOTES = re.compile(r'^\.\.\.$|^[~"!]|^\s|\s$|  |[*?]|\s(!\S+|x\d+|\{.*\})$|^$|[\x00-\x1f]')
_MOST_RUNS = 200
_MOST_MESSAGES = 20


def name_text(name: str) -> str:
    """A name as it is written in an expected tree: in quotes where it would be read as something else."""
    return json.dumps(name, ensure_ascii=False) if _NEEDS_QUOTES.search(name) else name


def short_type(error_type: str) -> str:
    """The last part of ``error.type``: what stands after ``!``."""
    return error_type.rpartition(".")[2]


def _label(run: Any) -> str:
    failure = run._failure()
    return name_text(run.name) + ("" if failure is None else f"  !{short_type(failure.type)}")


def expected_form(runs: Iterable[Any], depth: int = 0) -> list[str]:
    """Runs as the lines of an expected tree; equal siblings in a row are one line with ``xN``."""
    lines: list[str] = []
    blocks = [[_label(run), *expected_form(run.children, depth + 1)] for run in runs]
    for (label, *below), same in groupby(blocks):
        number = len(list(same))
        lines.append("  " * depth + label + (f"  x{number}" if number > 1 else ""))
        lines.extend(below)
    return lines


def report(runs: Iterable[Any]) -> str:
    """Runs with durations, errors and messages; equal siblings in a row are folded. Bounded."""
    lines: list[str] = []
    _report(list(runs), 0, lines)
    if len(lines) > _MOST_RUNS:
        lines[_MOST_RUNS:] = [f"… {len(lines) - _MOST_RUNS} more lines"]
    return "\n".join(lines) if lines else "(nothing)"


def _report(runs: list[Any], depth: int, lines: list[str]) -> None:
    for _, group in groupby(runs, key=_shape):
        same = list(group)
        for alike in [same] if len(same) > 3 else [[run] for run in same]:
            lines.append("  " * depth + _line(alike))
            lines.extend(_said(alike[0], depth + 1))
            _report(alike[0].children, depth + 1, lines)


def _shape(run: Any) -> str:
    """What siblings must have in common to be one line: names, errors with their texts, what is below."""
    failures = [str(one._failure() or "") for one in (run, *run.descendants)]
    return "\n".join([*expected_form([run]), *failures])


def _line(runs: list[Any]) -> str:
    """A run, or several that are alike, with the shortest and the longest of their durations."""
    failure = runs[0]._failure()
    what = "" if failure is None else f"  !{_cut(failure)}"
    durations = [run.duration for run in runs]
    time = "open"
    if None not in durations:
        ends = sorted({min(durations), max(durations)})
        time = f"{' to '.join(f'{seconds * 1000:.1f}' for seconds in ends)} ms"
    return f"{name_text(runs[0].name)}{what}{f'  x{len(runs)}' if len(runs) > 1 else ''}  ({time})"


def _said(run: Any, depth: int) -> list[str]:
    messages = run.messages
    lines = ["  " * depth + f"· {message.severity} {_cut(message)}" for message in messages[:_MOST_MESSAGES]]
    if len(messages) > _MOST_MESSAGES:
        lines.append("  " * depth + f"· … {len(messages) - _MOST_MESSAGES} more messages")
    return lines


def _cut(text: str) -> str:
    line = str.__str__(text).replace("\n", "⏎")
    return line if len(line) <= 160 else f"{line[:159]}…"


def told(among: Any) -> str:
    """What there was, for whoever asked for something else: the tree of a capture, or below a run."""
    runs = getattr(among, "roots", None)
    getattr(among, "_capture", among).has_told = True
    return f"What ran:\n\n{report([among] if runs is None else runs)}\n"
