"""How a run ended that an exception left, and whether the exception began further in."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from otelflow._runs.callable_kind import CallableKind
from otelflow._values.traceback import cause_of

__all__ = ["DRIVERS", "came_from_inside", "status_of"]

DRIVERS: set[Any] = set()
"""Code objects of the functions that drive runs. Each has its run in a local variable named ``run``, and puts the run's
number in its place when an exception ended it: so a traceback tells through which runs the exception came, without
anything being written on it, and without holding the run, which holds the exception."""


def status_of(error: BaseException, shape: CallableKind) -> str:
    """How a run ended that ``error`` left: what only stops it is no failure."""
    if isinstance(error, Exception):
        return "failed"
    if isinstance(error, SystemExit):
        return "completed" if error.code in (None, 0) else "failed"
    if isinstance(error, GeneratorExit):
        return "cancelled" if shape is CallableKind.COROUTINE else "completed"
    # By name: asyncio's and trio's are both not Exceptions, and trio may not be installed.
    stops = isinstance(error, KeyboardInterrupt) or type(error).__name__ in ("CancelledError", "Cancelled")
    return "cancelled" if stops else "failed"


def came_from_inside(order: int, error: BaseException) -> bool:
    """Whether ``error`` passed through a run that began within the one of number ``order``: then it is recorded there.

    The traceback says so: it has the frames of the drivers that the error came through on its way. Kept on nothing,
    it cannot go stale: the same exception object raised again in another run is recorded again. One that came back
    from a worker process has lost its frames; its cause tells instead below which run it was recorded.
    """
    cause = cause_of(error)
    if cause is not None and hasattr(type(cause), "recorded_below") and cause.recorded_below >= order:
        return True  # asked of its class: a __getattr__ of the user's may raise
    own: TracebackType | None = error.__traceback__  # to look into its own frame would keep a copy, with the run in it
    traceback = None if own is None else own.tb_next
    while traceback is not None:
        if traceback.tb_frame.f_code in DRIVERS:
            inner = traceback.tb_frame.f_locals.get("run")
            if type(inner) is int and inner > order:
                return True
        traceback = traceback.tb_next
    return False
