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
    shapes = [("\n".join(expected_form([run])), run) for run in runs]
    for _, group in groupby(shapes, key=lambda pair: pair[0]):
        same = [run for _, run in group]
        folded = len(same) > 3
        for run in same[:1] if folded else same:
            lines.append("  " * depth + _line(run, len(same) if folded else 1))
            lines.extend(_said(run, depth + 1))
            _report(run.children, depth + 1, lines)


def _line(run: Any, number: int) -> str:
    duration = run.duration
    time = "open" if duration is None else f"{duration * 1000:.1f} ms"
    failure = run._failure()
    what = "" if failure is None else f"  !{_cut(failure)}"
    return f"{name_text(run.name)}{f'  x{number}' if number > 1 else ''}{what}  ({time})"


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
    return f"What ran:\n\n{report([among] if runs is None else runs)}\n"
