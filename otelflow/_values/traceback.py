"""An exception as text: the frames nearest to the error first to be kept, in bounded time.

The standard library's ``traceback.format_exception`` checks every source file on disk and marks columns: 80 to 180 µs,
more than everything else that a task costs. Here a source line comes from the line cache, without that check, and what
was made of a frame is kept: a place that failed once mostly fails again. The line cache is asked each time, so that a
line is never older here than there.
"""

from __future__ import annotations

import linecache
import os
import textwrap
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from otelflow._runtime.names import error_type
from otelflow._values.scrub import scrub_source
from otelflow._values.text import MAX_VALUE_BYTES, encodable_text, safe_str, scrub_and_truncate

__all__ = ["cause_of", "format_error"]

cause_of: Callable[[BaseException], Any] = vars(BaseException)["__cause__"].__get__
"""The cause of an exception, whatever its class makes of that name."""

_OWN_FILES = os.path.dirname(os.path.dirname(__file__)) + os.sep
"""Frames of otelflow itself are left out: they are in every traceback, and say nothing to whoever reads it."""
_HEAD = "Traceback (most recent call last):\n"
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def format_error(error: BaseException, limit: int = MAX_VALUE_BYTES, last: str = "") -> str:
    """The traceback of ``error`` as Python prints it, with the exceptions that led to it, in about ``limit`` bytes.
    ``last`` is its last line, where that is known to be clean."""
    try:
        text = _one(error, limit, last)
        seen: set[int] = set()
        while True:
            cause = cause_of(error)
            before, link = (cause, _CAUSE) if cause is not None else (error.__context__, _CONTEXT)
            if before is None or (cause is None and error.__suppress_context__):
                return text
            seen.add(id(error))
            room = limit - _size(text) - len(link)
            if id(before) in seen or room < 200:  # not enough for an exception and a frame
                return text
            text = _one(before, room) + link + text
            error = before
    except Exception as problem:  # a full stack, a class that makes something else of __context__
        return f"<the traceback could not be read: {type(problem).__name__}>\n{last}\n"


def _one(error: BaseException, limit: int, last: str = "") -> str:
    if not last or len(last) > limit // 8:  # characters of four bytes at most
        last, _ = scrub_and_truncate(f"{error_type(error)}: {safe_str(error)}", max(64, limit // 2))
    room = limit - _size(last) - len(_HEAD) - 40
    frames, traceback = [], error.__traceback__
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
            frames.append(traceback)
        traceback = traceback.tb_next
    text = more = ""
    while frames:
        innermost = frames.pop()
        code, line_number = innermost.tb_frame.f_code, innermost.tb_lineno
        source = scrub_source(_source(code.co_filename, line_number))
        shown, size = _frame_text(code.co_filename, line_number, code.co_name, source)
        room -= size
        if room < 0 and text:
            more = f"  [{len(frames) + 1} more frames above]\n"
            break
        text = shown + text
    try:
        is_plain = not hasattr(error, "__notes__") and not hasattr(error, "exceptions")
    except Exception:  # a __getattr__ of the user's: see _several
        is_plain = False
    return f"{_HEAD}{more}{text}{last}\n{'' if is_plain else _added(error, room)}"


def _source(filename: str, line_number: int) -> str:
    """As ``linecache.getline``, which takes three calls to find what it has."""
    kept = linecache.cache.get(filename, ())
    if len(kept) > 1 and 0 < line_number <= len(kept[2]):  # one field: a file that is not read yet
        return kept[2][line_number - 1]
    return linecache.getline(filename, line_number)


def _added(error: BaseException, room: int) -> str:
    """What stands below an exception: its notes, and the exceptions of a group, as far as there is room."""
    text = ""
    notes = _several(error, "__notes__")
    for number, note in enumerate(notes):
        left = room - _size(text)
        if left < 64 and number:
            text += f"[{len(notes) - number} more notes]\n"
            break
        text += scrub_and_truncate(f"{safe_str(note)}\n", max(64, left))[0]
    inner = _several(error, "exceptions")
    for number, one in enumerate(inner, 1):
        left = room - _size(text)
        if left < 200 or not isinstance(one, BaseException):
            text += f"  [{len(inner) - number + 1} more exceptions]\n"
            break
        text += f"  +---------------- {number} ----------------\n"
        text += textwrap.indent(_one(one, min(left, max(200, room // len(inner)))), "  | ")
    return text


def _several(error: BaseException, name: str) -> Sequence[Any]:
    """What stands under ``name``, where that is a list or tuple. A class of the user's may have a ``__getattr__``, and
    that may raise."""
    try:
        found = getattr(error, name, ())
    except Exception:
        return ()
    return found if isinstance(found, list | tuple) else ()


@lru_cache(maxsize=1024)
def _frame_text(filename: str, line_number: int, name: str, source: str) -> tuple[str, int]:
    """What stands for a frame, with its clean line of source, and its size in bytes."""
    text = f'  File "{filename}", line {line_number}, in {name}\n'
    source = source.strip()
    text = encodable_text(f"{text}    {source[:200]}\n" if source else text)
    return text, _size(text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
