"""Render captured runs as text: as the lines of an expected tree, or as a report with more details."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

__all__ = ["expected_form", "failure_details", "name_text", "report"]

_NEEDS_QUOTES = re.compile(r'^\.\.\.$|^[~"!]|^\s|\s$|  |[*?]|\s(!\S+|x\d+|\{.*\})$|^$|[\x00-\x1f]')
_MAX_LINES = 200
_MAX_MESSAGES = 20


def name_text(name: str) -> str:
    """Return a name as in an expected tree: in quotes if it would otherwise have another meaning."""
    return json.dumps(name, ensure_ascii=False) if _NEEDS_QUOTES.search(name) else name


def short_type(error_type: str) -> str:
    """Return the last part of ``error.type``, as after ``!`` in an expected tree."""
    return error_type.rpartition(".")[2]


def _label(run: Any) -> str:
    failure = run._failure()
    return name_text(run.name) + ("" if failure is None else f"  !{short_type(failure.type)}")


def expected_form(runs: Iterable[Any], depth: int = 0) -> list[str]:
    """Return runs as the lines of an expected tree. Adjacent equal siblings are one line with ``xN``."""
    lines: list[str] = []
    blocks = [[_label(run), *expected_form(run.children, depth + 1)] for run in runs]
    for (label, *below), equal_blocks in groupby(blocks):
        number = len(list(equal_blocks))
        lines.append("  " * depth + label + (f"  x{number}" if number > 1 else ""))
        lines.extend(below)
    return lines


def report(runs: Iterable[Any]) -> str:
    """Return runs with durations, errors and messages. Adjacent equal siblings are folded; the length is bounded."""
    lines: list[str] = []
    _add_report_lines(list(runs), 0, lines)
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = [f"… {len(lines) - _MAX_LINES} more lines"]
    return "\n".join(lines) if lines else "(nothing)"


def _add_report_lines(runs: list[Any], depth: int, lines: list[str]) -> None:
    for _, group in groupby(runs, key=_shape):
        equal_runs = list(group)
        for folded in [equal_runs] if len(equal_runs) > 3 else [[run] for run in equal_runs]:
            lines.append("  " * depth + _line(folded))
            lines.extend(_message_lines(folded[0], depth + 1))
            _add_report_lines(folded[0].children, depth + 1, lines)


def _shape(run: Any) -> str:
    """Return a key of what siblings in one line have in common: names, errors with their texts, and descendants."""
    failures = [str(item._failure() or "") for item in (run, *run.descendants)]
    return "\n".join([*expected_form([run]), *failures])


def _line(runs: list[Any]) -> str:
    """Return the line of a run, or of several equal runs, with the shortest and the longest of their durations."""
    failure = runs[0]._failure()
    error = "" if failure is None else f"  !{_shortened(failure)}"
    durations = [run.duration for run in runs]
    time = "open"
    if None not in durations:
        ends = sorted({min(durations), max(durations)})
        time = f"{' to '.join(f'{seconds * 1000:.1f}' for seconds in ends)} ms"
    return f"{name_text(runs[0].name)}{error}{f'  x{len(runs)}' if len(runs) > 1 else ''}  ({time})"


def _message_lines(run: Any, depth: int) -> list[str]:
    messages = run.messages
    lines = ["  " * depth + f"· {message.severity} {_shortened(message)}" for message in messages[:_MAX_MESSAGES]]
    if len(messages) > _MAX_MESSAGES:
        lines.append("  " * depth + f"· … {len(messages) - _MAX_MESSAGES} more messages")
    return lines


def _shortened(text: str) -> str:
    line = str.__str__(text).replace("\n", "⏎")
    return line if len(line) <= 160 else f"{line[:159]}…"


def failure_details(among: Any) -> str:
    """Return what ran, for the message of a failed assertion: the tree of a capture, or of a run."""
    runs = getattr(among, "roots", None)
    getattr(among, "_capture", among).has_told = True
    return f"What ran:\n\n{report([among] if runs is None else runs)}\n"
