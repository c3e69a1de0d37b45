"""Make a test's output the same each time: ids that count from 1, a clock that steps, texts without paths."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otelflow._runtime import clock, run_ids
from otelflow.errors import OtelflowError

__all__ = ["STEP_NS", "deterministic_ids_and_clock", "stable_text"]

STEP_NS = 1_000_000
"""The step of the clock at each reading: a millisecond."""

_START_NS = 946_684_800_000_000_000  # 2000-01-01T00:00:00Z
_is_on = False


@contextmanager
def deterministic_ids_and_clock() -> Iterator[None]:
    """Within the block, in the whole process, count run ids from 1 and let each reading step the clock.

    Raise :class:`otelflow.errors.OtelflowError` within another such block: both would use the same ids.
    """
    global _is_on
    if _is_on:
        raise OtelflowError("A deterministic capture is active already. End it first, or use capture() without it.")
    numbers, now = run_ids._numbers, clock.now
    run_ids._numbers = itertools.count(1)
    clock.now = itertools.count(_START_NS, STEP_NS).__next__
    _is_on = True
    try:
        yield
    finally:
        run_ids._numbers, clock.now, _is_on = numbers, now, False


_FRAME = re.compile(r'File "(?:[^"]*[/\\])?([^"/\\]+)", line \d+')
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_RUN_ID = re.compile(r"\b(flow|task)_[0-9a-f]{28}\b")


def stable_text(text: str) -> str:
    """Return ``text`` with marks instead of what changes from run to run.

    These are folders, line numbers in tracebacks, memory addresses and run ids.
    """
    for name, folder in (("<tmp>", tempfile.gettempdir()), ("<cwd>", os.getcwd()), ("<home>", str(Path.home()))):
        if len(folder) > 1:
            text = text.replace(folder, name)
    text = _FRAME.sub(r'File "\1", line N', text)
    return _RUN_ID.sub(r"\1_N", _ADDRESS.sub("0x…", text))
