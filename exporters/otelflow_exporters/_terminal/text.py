"""Lines for a terminal, a pipe or a file: columns that fit, characters that it takes, nothing that moves its cursor."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["BAR", "Line", "Style", "clean", "columns_of", "duration", "fitting", "laid_out", "style_for", "width"]

BAR = 24
"""Columns of the time axis."""


@dataclass(frozen=True)
class Style:
    """How to print: with terminal colours, with the text of message events, with artifacts and results, in how many
    columns (None: any number), and whether the output takes ASCII only."""

    colours: bool = False
    messages: bool = False
    columns: int | None = None
    ascii_only: bool = False
    artifacts: bool = False


@dataclass(frozen=True)
class Line:
    """One line: a label, and for a span its duration, its part of the time axis (from, to, each of 0 to 1) and a note.
    ``loud``: it has to be seen."""

    label: str
    duration: str = ""
    bar: tuple[float, float] = (0, 0)
    note: str = ""
    loud: bool = False

    def with_note(self, more: str) -> Line:
        """The same line with ``more`` at its end."""
        return replace(self, note=f"{self.note}  {more}".strip())


def style_for(out: Any, *, messages: bool = False, artifacts: bool = False) -> Style:
    """What fits the stream ``out``: colours and a width for a terminal only."""
    is_terminal = bool(out.isatty())
    colours = is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Style(colours, messages, columns_of(out), not _takes_bars(out), artifacts)


def columns_of(out: Any) -> int | None:
    """The width of a terminal; None for a pipe or a file, where nothing has to be cut."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def _takes_bars(out: Any) -> bool:
    try:
        "├━✗▪".encode(getattr(out, "encoding", None) or "utf-8")  # a logging proxy has none
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def duration(seconds: float) -> str:
    """Seconds in a unit that reads well: ``7 µs``, ``7.0 ms``, ``7.00 s``, ``7.0 min``, ``7.0 h``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clean(text: str, longest: int = 160) -> str:
    """One line of printable text: what a span says must not move the cursor of whoever reads it."""
    shown = "".join(" " if char in "\r\n\t" else char for char in text[: longest + 1])
    if not shown.isprintable():
        shown = "".join(char if unicodedata.category(char) not in ("Cc", "Cf", "Cs") else "�" for char in shown)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def laid_out(lines: Sequence[Line], style: Style) -> list[str]:
    """The lines as text, durations and bars below one another."""
    widest = max((width(line.label) for line in lines if line.duration), default=0)
    return [_text(line, widest, style) for line in lines]


_ASCII = str.maketrans("├└│─━✗×µ…·⊘▪", "|`|-=xxu~-o#")
"""For outputs that take no other characters; what else there is becomes a question mark."""


_MAYBE_WIDE = re.compile("[\u1100-\u115f\u2300-\u23ff\u25fd\u25fe\u2600-\u27bf\u2b00-\u2bff\u2e80-\U0010ffff]")
"""Where all wide characters are (Unicode's EastAsianWidth.txt); to ask of each costs more than to print it."""


def width(text: str) -> int:
    """Columns that ``text`` takes: two for a wide character."""
    if _MAYBE_WIDE.search(text) is None:
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _bar(begin: float, end: float) -> str:
    first = min(BAR - 1, max(0, int(begin * BAR)))
    last = min(BAR, max(first + 1, round(end * BAR)))
    return " " * first + "━" * (last - first) + " " * (BAR - last)


def _text(line: Line, widest: int, style: Style) -> str:
    if not line.duration:
        return fitting(line.label, style.columns, style)
    label = line.label + " " * (widest - width(line.label))
    head = fitting(f"{label}  {line.duration:>9}  ", None, style)
    bar = fitting(_bar(*line.bar), None, style)
    note = fitting(line.note, None if style.columns is None else style.columns - width(head) - BAR - 2, style)
    if not style.colours:
        return f"{head}{bar}  {note}".rstrip()
    bar_colour, note_colour = (31, 31) if line.loud else (36, 2)
    return f"{head}\x1b[{bar_colour}m{bar}\x1b[0m  " + (f"\x1b[{note_colour}m{note}\x1b[0m" if note else "")


def fitting(text: str, columns: int | None, style: Style) -> str:
    """``text`` in that many columns, in characters that the output takes."""
    if style.ascii_only:
        text = text.translate(_ASCII).encode("ascii", "replace").decode()
    if columns is None or width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + ("~" if style.ascii_only else "…")
