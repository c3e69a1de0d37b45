"""Format an exception as text in bounded time. The frames nearest to the error are kept first.

The standard library's ``traceback.format_exception`` checks every source file on disk and marks columns. That takes 80
to 180 µs, more than everything else in a task. Here a source line comes from the line cache without that check. The
text of a frame is cached, as a place that failed once often fails again. The line cache is read each time, so a line is
never older here than there.
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
"""Return the cause of an exception, even if its class redefines ``__cause__``."""

_OWN_FILES = os.path.dirname(os.path.dirname(__file__)) + os.sep
"""Frames of otelflow itself are left out: they are in every traceback, and do not help the reader."""
_HEAD = "Traceback (most recent call last):\n"
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def format_error(error: BaseException, limit: int = MAX_VALUE_BYTES, last_line: str = "") -> str:
    """Return the traceback of ``error`` as Python prints it, with its causes and contexts, in about ``limit`` bytes.

    ``last`` is the last line, if the caller knows that it is clean.
    """
    try:
        text = _format_single(error, limit, last_line)
        seen_ids: set[int] = set()
        while True:
            cause = cause_of(error)
            earlier, separator = (cause, _CAUSE) if cause is not None else (error.__context__, _CONTEXT)
            if earlier is None or (cause is None and error.__suppress_context__):
                return text
            seen_ids.add(id(error))
            room = limit - _utf8_size(text) - len(separator)
            if id(earlier) in seen_ids or room < 200:  # too little for an exception and a frame
                return text
            text = _format_single(earlier, room) + separator + text
            error = earlier
    except Exception as problem:  # a full stack, a class that redefines __context__
        return f"<the traceback could not be read: {type(problem).__name__}>\n{last_line}\n"


def _format_single(error: BaseException, limit: int, last: str = "") -> str:
    if not last or len(last) > limit // 8:  # a character has at most four bytes
        last, _ = scrub_and_truncate(f"{error_type(error)}: {safe_str(error)}", max(64, limit // 2))
    room = limit - _utf8_size(last) - len(_HEAD) - 40
    frames, traceback = [], error.__traceback__
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
            frames.append(traceback)
        traceback = traceback.tb_next
    text = omission = ""
    while frames:
        innermost = frames.pop()
        code, line_number = innermost.tb_frame.f_code, innermost.tb_lineno
        source = scrub_source(_source_line(code.co_filename, line_number))
        frame_text, size = _frame_text(code.co_filename, line_number, code.co_name, source)
        room -= size
        if room < 0 and text:
            omission = f"  [{len(frames) + 1} more frames above]\n"
            break
        text = frame_text + text
    try:
        is_plain = not hasattr(error, "__notes__") and not hasattr(error, "exceptions")
    except Exception:  # a __getattr__ of the user: see _sequence_attribute
        is_plain = False
    return f"{_HEAD}{omission}{text}{last}\n{'' if is_plain else _format_notes_and_group(error, room)}"


def _source_line(filename: str, line_number: int) -> str:
    """Return a source line as ``linecache.getline`` does, which needs three calls for a line in its cache."""
    cache_entry = linecache.cache.get(filename, ())
    if len(cache_entry) > 1 and 0 < line_number <= len(cache_entry[2]):  # one field: the file is not read yet
        return cache_entry[2][line_number - 1]
    return linecache.getline(filename, line_number)


def _format_notes_and_group(error: BaseException, room: int) -> str:
    """Format the notes of an exception and the exceptions of a group, as far as there is room."""
    text = ""
    notes = _sequence_attribute(error, "__notes__")
    for number, note in enumerate(notes):
        room_left = room - _utf8_size(text)
        if room_left < 64 and number:
            text += f"[{len(notes) - number} more notes]\n"
            break
        text += scrub_and_truncate(f"{safe_str(note)}\n", max(64, room_left))[0]
    members = _sequence_attribute(error, "exceptions")
    for number, member in enumerate(members, 1):
        room_left = room - _utf8_size(text)
        if room_left < 200 or not isinstance(member, BaseException):
            text += f"  [{len(members) - number + 1} more exceptions]\n"
            break
        text += f"  +---------------- {number} ----------------\n"
        text += textwrap.indent(_format_single(member, min(room_left, max(200, room // len(members)))), "  | ")
    return text


def _sequence_attribute(error: BaseException, name: str) -> Sequence[Any]:
    """Return the attribute ``name`` if it is a list or tuple; else an empty tuple.

    A class of the user may have a ``__getattr__`` that raises.
    """
    try:
        value = getattr(error, name, ())
    except Exception:
        return ()
    return value if isinstance(value, list | tuple) else ()


@lru_cache(maxsize=1024)
def _frame_text(filename: str, line_number: int, name: str, source: str) -> tuple[str, int]:
    """Return the text of a frame, with its clean source line, and its size in bytes."""
    text = f'  File "{filename}", line {line_number}, in {name}\n'
    source = source.strip()
    text = encodable_text(f"{text}    {source[:200]}\n" if source else text)
    return text, _utf8_size(text)


def _utf8_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
