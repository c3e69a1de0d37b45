"""What makes two runs of one test say the same: ids that count, a clock that steps, and texts without paths."""

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

__all__ = ["STEP_NS", "same_each_time", "stable_text"]

STEP_NS = 1_000_000
"""How far the stepping clock goes at each reading: a millisecond."""

_START_NS = 946_684_800_000_000_000  # 2000-01-01T00:00:00Z
_is_on = False


@contextmanager
def same_each_time() -> Iterator[None]:
    """Within this block, in the whole process, run ids count from 1 and each reading of the clock is a step later.

    Raises :class:`otelflow.errors.OtelflowError` inside another one: both would count on the same ids.
    """
    global _is_on
    if _is_on:
        raise OtelflowError("A deterministic capture is active already. End it first, or make this one without.")
    orders, now = run_ids._numbers, clock.now
    run_ids._numbers = itertools.count(1)
    clock.now = itertools.count(_START_NS, STEP_NS).__next__
    _is_on = True
    try:
        yield
    finally:
        run_ids._numbers, clock.now, _is_on = orders, now, False


_FRAME = re.compile(r'File "(?:[^"]*[/\\])?([^"/\\]+)", line \d+')
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_OUR_TIMES = re.compile(r"\b(flow|task)_[0-9a-f]{28}\b")


def stable_text(text: str) -> str:
    """``text`` without what differs from run to run: folders, line numbers of tracebacks, addresses, run ids."""
    for name, folder in (("<tmp>", tempfile.gettempdir()), ("<cwd>", os.getcwd()), ("<home>", str(Path.home()))):
        if len(folder) > 1:
            text = text.replace(folder, name)
    text = _FRAME.sub(r'File "\1", line N', text)
    return _OUR_TIMES.sub(r"\1_N", _ADDRESS.sub("0x…", text))
