"""Emit run events: to the span, the run's memory, the console, the history and the listeners.

All are fed from the same facts in the same call, so that what a listener saw and what the backend shows cannot differ:
each kind of event has its module (``start_stop``, ``message``, ``exception``, ``outputs``), and uses what is here.
Nothing in here raises into the run, but for KeyboardInterrupt of a listener.
"""

from __future__ import annotations

import logging
import time
from typing import Any, ClassVar, Protocol

from otelflow._events.run_memory import RunMemory
from otelflow._runtime import run_ids
from otelflow._runtime.drop_counts import AFTER_FORK, VALUES, after_end_reason, counts
from otelflow._runtime.log_once import log_once
from otelflow._runtime.stdout_capture import print_line
from otelflow._values.text import MAX_VALUE_BYTES, safe_str, truncate
from otelflow.context import RUN_KEY, get_current
from otelflow.events import FlowRunEventType, event_of
from otelflow.listeners import flow_events

__all__ = ["At", "Emitter", "console", "console_line", "notify", "origin_of", "short", "truncate_counted"]

At = tuple[int, str]
"""When and where something was said that was said elsewhere: ns since 1970, and the name of the function."""


class Emitter(Protocol):
    """What this package needs of a run; :class:`otelflow._runs.run.Run` is one."""

    _START: ClassVar[FlowRunEventType]
    _STOP: ClassVar[FlowRunEventType]
    _cut: int
    _direct: int
    _ended_ns: int
    _events: int
    _failure: tuple[str, str, str | None] | None
    _number: int
    _origin: Any
    _redacted: int
    _relay: Any
    _spec: Any
    _span: Any
    _started_ns: int
    _weight: int

    @property
    def error(self) -> BaseException | None: ...

    @property
    def return_value(self) -> Any: ...

    @property
    def status(self) -> str: ...

    @property
    def _journal(self) -> RunMemory: ...

    @property
    def _settings(self) -> Any: ...

    def _end_attributes(self) -> dict[str, Any]: ...

    def _task_number(self) -> tuple[str | None, int | None]: ...

    def _title(self) -> str: ...


_remember = flow_events.remember


def notify(
    event_type: FlowRunEventType, ns: int, origin: tuple[Any, ...], heard: Any, remembered: Any, level: int
) -> None:
    """To the history (which holds no values of the user's) and to the listeners. What is ``heard`` and ``remembered``
    are facts, which the payload is made of when it is read: see :func:`otelflow.events.event_of`."""
    _remember((event_type, ns, origin, remembered, level))
    if flow_events.event_listeners:
        flow_events.raise_event(event_of((event_type, ns, origin, heard, level)))


def truncate_counted(run: Emitter, text: str) -> str:
    """A text that is clean already, in the size that goes on a span."""
    kept, was_cut = truncate(text)
    if was_cut:
        run._cut += 1
        counts.add(VALUES)
    return kept


def origin_of(run: Emitter, what: str, at: At | None) -> Any:
    """The origin of what ``run`` was told to emit: its ids, and the function that told it to.

    None where the run has ended, or is a forked child's copy of one of its parent's: what comes then reaches nobody,
    and is counted. Asked as late as can be, with everything prepared: another thread may end the run at any moment.
    """
    origin = run._origin
    if run._ended_ns or origin is None:
        counts.add(after_end_reason(what))
        return None
    if at is not None:
        return (at[1], *origin[1:])
    if run_ids.forked and run_ids.is_inherited(run._number):
        counts.add(AFTER_FORK)
        return None
    inner: Any = get_current().get(RUN_KEY)
    if inner is None or inner is run:
        return origin
    told_by = inner._origin  # None where the context was carried on, and the run in it has ended
    return origin if told_by is None else (told_by[0], *origin[1:])


def short(text: str) -> str:
    """A text for the history, where no span wanted it: that holds nothing large."""
    return text if len(text) <= MAX_VALUE_BYTES else truncate(text)[0]


def _time_of_day(ns: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(ns // 1_000_000_000))}.{ns // 1_000_000 % 1000:03d}"


def console(text: str) -> None:
    """Print a line to the terminal that is no message itself."""
    try:
        print_line(text)
    except Exception as error:  # a closed stream, an encoding that lacks a character
        log_once("console", "Could not print to the standard output: %s", safe_str(error))


def console_line(ns: int, level: int, text: str) -> None:
    """Print a message to the terminal."""
    console(f"{_time_of_day(ns)} | {logging.getLevelName(level):<8} | {text}")
