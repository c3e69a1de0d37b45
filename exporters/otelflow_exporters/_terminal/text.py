"""Format lines for a terminal, a pipe or a file: aligned, encodable, and without control characters."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["BAR", "Line", "Style", "clean", "duration", "fit", "format_lines", "style_for", "terminal_columns", "width"]

BAR = 24
"""Width of the time axis in columns."""


@dataclass(frozen=True)
class Style:
    """How to print: with terminal colours, with messages, with artifacts and results, in which width, in ASCII only.

    ``columns`` is the width; None for any width.
    """

    colours: bool = False
    messages: bool = False
    columns: int | None = None
    ascii_only: bool = False
    artifacts: bool = False


@dataclass(frozen=True)
class Line:
    """One line: a label, and for a span its duration, its bar on the time axis (start and end, 0 to 1) and a note.

    ``is_error`` highlights the line.
    """

    label: str
    duration: str = ""
    bar: tuple[float, float] = (0, 0)
    note: str = ""
    is_error: bool = False

    def with_note(self, text: str) -> Line:
        """Return the line with ``text`` added to its note."""
        return replace(self, note=f"{self.note}  {text}".strip())


def style_for(out: Any, *, messages: bool = False, artifacts: bool = False) -> Style:
    """Return the style for the stream ``out``. Only a terminal gets colours and a width."""
    is_terminal = bool(out.isatty())
    colours = is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Style(colours, messages, terminal_columns(out), not _can_encode_bars(out), artifacts)


def terminal_columns(out: Any) -> int | None:
    """Return the width of a terminal; None for a pipe or a file, where lines are not truncated."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def _can_encode_bars(out: Any) -> bool:
    try:
        "├━✗▪".encode(getattr(out, "encoding", None) or "utf-8")  # a logging proxy has no encoding
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit: ``7 µs``, ``7.0 ms``, ``7.00 s``, ``7.0 min``, ``7.0 h``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clean(text: str, max_chars: int = 160) -> str:
    """Return the text as one line of printable characters: text from spans must not move the terminal's cursor."""
    printable = "".join(" " if char in "\r\n\t" else char for char in text[: max_chars + 1])
    if not printable.isprintable():
        printable = "".join(char if unicodedata.category(char) not in ("Cc", "Cf", "Cs") else "�" for char in printable)
    return printable if len(printable) <= max_chars else printable[: max_chars - 1] + "…"


def format_lines(lines: Sequence[Line], style: Style) -> list[str]:
    """Return the lines as text, with aligned durations and bars."""
    widest = max((width(line.label) for line in lines if line.duration), default=0)
    return [_format_line(line, widest, style) for line in lines]


_ASCII = str.maketrans("├└│─━✗×µ…·⊘▪", "|`|-=xxu~-o#")
"""Replacements for outputs in ASCII. Any other character becomes a question mark."""


_MAYBE_WIDE = re.compile("[\u1100-\u115f\u2300-\u23ff\u25fd\u25fe\u2600-\u27bf\u2b00-\u2bff\u2e80-\U0010ffff]")
"""The ranges that contain all wide characters (Unicode's EastAsianWidth.txt).

To look up the width of each character costs more than to print it."""


def width(text: str) -> int:
    """Return the width of ``text`` in columns: two for a wide character."""
    if _MAYBE_WIDE.search(text) is None:
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _bar(begin: float, end: float) -> str:
    first = min(BAR - 1, max(0, int(begin * BAR)))
    last = min(BAR, max(first + 1, round(end * BAR)))
    return " " * first + "━" * (last - first) + " " * (BAR - last)


def _format_line(line: Line, widest: int, style: Style) -> str:
    if not line.duration:
        return fit(line.label, style.columns, style)
    label = line.label + " " * (widest - width(line.label))
    head = fit(f"{label}  {line.duration:>9}  ", None, style)
    bar = fit(_bar(*line.bar), None, style)
    note = fit(line.note, None if style.columns is None else style.columns - width(head) - BAR - 2, style)
    if not style.colours:
        return f"{head}{bar}  {note}".rstrip()
    bar_colour, note_colour = (31, 31) if line.is_error else (36, 2)
    return f"{head}\x1b[{bar_colour}m{bar}\x1b[0m  " + (f"\x1b[{note_colour}m{note}\x1b[0m" if note else "")


def fit(text: str, columns: int | None, style: Style) -> str:
    """Truncate ``text`` to that many columns, and replace characters that the output cannot encode."""
    if style.ascii_only:
        text = text.translate(_ASCII).encode("ascii", "replace").decode()
    if columns is None or width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + ("~" if style.ascii_only else "…")
