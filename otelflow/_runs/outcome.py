"""Map an exception that ended a run to the run's status, and find out if the exception began in an inner run."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from otelflow._runs.callable_kind import CallableKind
from otelflow._values.traceback import cause_of

__all__ = ["DRIVERS", "began_in_inner_run", "status_of"]

DRIVERS: set[Any] = set()
"""Code objects of the functions that drive runs. Each has its run in a local variable ``run``, and replaces it with the
run's number when an exception ended it. So the traceback shows which runs the exception passed through. Nothing is
written on the exception, and no frame holds the run, which holds the exception."""


def status_of(error: BaseException, callable_kind: CallableKind) -> str:
    """Map an exception to a run status. Cancellation and normal exits are not failures."""
    if isinstance(error, Exception):
        return "failed"
    if isinstance(error, SystemExit):
        return "completed" if error.code in (None, 0) else "failed"
    if isinstance(error, GeneratorExit):
        return "cancelled" if callable_kind is CallableKind.COROUTINE else "completed"
    # By name: asyncio's and trio's classes are not subclasses of Exception, and trio may not be installed.
    stops = isinstance(error, KeyboardInterrupt) or type(error).__name__ in ("CancelledError", "Cancelled")
    return "cancelled" if stops else "failed"


def began_in_inner_run(number: int, error: BaseException) -> bool:
    """Return whether ``error`` passed through a run inside the run ``number``: then it is recorded there.

    The traceback shows that: it has the frames of the drivers that the error passed through. Nothing is stored, so
    nothing goes stale: the same exception object raised again in another run is recorded again. An exception from a
    worker process has lost its frames; its cause has the number of the run below which it was recorded.
    """
    cause = cause_of(error)
    if cause is not None and hasattr(type(cause), "recorded_below") and cause.recorded_below >= number:
        return True  # hasattr() on the class: the object's own __getattr__ may raise
    # f_locals of the caller's own frame would keep a copy of its locals, with the run: start at the next frame
    own_traceback: TracebackType | None = error.__traceback__
    traceback = None if own_traceback is None else own_traceback.tb_next
    while traceback is not None:
        if traceback.tb_frame.f_code in DRIVERS:
            inner_number = traceback.tb_frame.f_locals.get("run")
            if type(inner_number) is int and inner_number > number:
                return True
        traceback = traceback.tb_next
    return False
