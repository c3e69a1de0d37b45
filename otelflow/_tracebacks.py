"""An exception as text: the frames nearest to the error first to be kept, in bounded time.

The standard library's ``traceback.format_exception`` checks every source file on disk and marks columns: 80 to 180 µs,
more than everything else that a task costs. Here a source line comes from the line cache, without that check.
"""

from __future__ import annotations

import linecache
import textwrap
from types import TracebackType

from otelflow._naming import error_type
from otelflow._scrubbing import clean_source
from otelflow._values import MAX_VALUE_BYTES, cut, safe_str

__all__ = ["format_error"]

_OWN_FILES = __file__.removesuffix("_tracebacks.py")
"""Frames of otelflow itself are left out: they are in every traceback, and say nothing to whoever reads it."""
_HEAD = "Traceback (most recent call last):\n"
_MOST_FRAMES = 200
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def format_error(error: BaseException, limit: int = MAX_VALUE_BYTES, last: str = "") -> str:
    """The traceback of ``error`` as Python prints it, with the exceptions that led to it, in about ``limit`` bytes.
    ``last`` is its last line, where that is known to be clean."""
    text = _one(error, limit, last)
    seen = {id(error)}
    while True:
        cause = error.__cause__
        before, link = (cause, _CAUSE) if cause is not None else (error.__context__, _CONTEXT)
        if before is None or id(before) in seen or (cause is None and error.__suppress_context__):
            return text
        room = limit - len(text.encode("utf-8", "replace")) - len(link)
        if room < 200:  # not enough for an exception and a frame
            return text
        seen.add(id(before))
        text = _one(before, room) + link + text
        error = before


def _one(error: BaseException, limit: int, last: str = "") -> str:
    if not last or len(last) > limit // 8:  # characters of four bytes at most
        last, _ = cut(f"{error_type(error)}: {safe_str(error)}", max(64, limit // 2))
    room = limit - len(last.encode()) - len(_HEAD) - 40
    lines: list[str] = []
    frames, left_out = _innermost(error.__traceback__)
    for position, (frame, line_number) in enumerate(reversed(frames)):
        text = _frame_text(frame, line_number)
        room -= len(text.encode("utf-8", "replace"))
        if room < 0 and lines:
            left_out += len(frames) - position
            break
        lines.append(text)
    if left_out:
        lines.append(f"  [{left_out} more frames above]\n")
    return _HEAD + "".join(reversed(lines)) + last + "\n" + _added(error, room)


def _added(error: BaseException, room: int) -> str:
    """What stands below an exception: its notes, and the exceptions of a group, as far as there is room."""
    text = ""
    for note in getattr(error, "__notes__", None) or ():
        text += cut(f"{safe_str(note)}\n", max(64, room))[0]
    inner = getattr(error, "exceptions", None)
    for number, one in enumerate(inner if isinstance(inner, tuple) else (), 1):
        left = room - len(text)
        if left < 200 or not isinstance(one, BaseException):
            text += f"  [{len(inner) - number + 1} more exceptions]\n"  # type: ignore[arg-type]
            break
        text += f"  +---------------- {number} ----------------\n"
        text += textwrap.indent(_one(one, min(left, max(200, room // len(inner)))), "  | ")  # type: ignore[arg-type]
    return text


def _innermost(traceback: TracebackType | None) -> tuple[list[tuple[TracebackType, int]], int]:
    """The last frames of a traceback with their line numbers, and how many are left out."""
    frames: list[tuple[TracebackType, int]] = []
    left_out = 0
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
            frames.append((traceback, traceback.tb_lineno))
        traceback = traceback.tb_next
        if len(frames) > 2 * _MOST_FRAMES:
            del frames[:_MOST_FRAMES]
            left_out += _MOST_FRAMES
    return frames, left_out


def _frame_text(traceback: TracebackType, line_number: int) -> str:
    code = traceback.tb_frame.f_code
    text = f'  File "{code.co_filename}", line {line_number}, in {code.co_name}\n'
    source = linecache.getline(code.co_filename, line_number).strip()
    return f"{text}    {clean_source(source)[:200]}\n" if source else text
