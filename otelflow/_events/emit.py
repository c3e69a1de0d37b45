"""Emit run events: to the span, the run's memory, the console, the history and the listeners.

One call sends the same facts to all of them, so listeners and the backend cannot see different events. Each kind of
event has a module of its own (``start_stop``, ``message``, ``exception``, ``outputs``), built on the functions here.
Nothing here raises into the run, except a listener's KeyboardInterrupt.
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

__all__ = [
    "At",
    "Emitter",
    "console",
    "console_line",
    "history_text",
    "notify",
    "origin_of",
    "truncate_counted",
]

At = tuple[int, str]
"""Time and place of an event that another process recorded: ns since 1970, and the qualified name of the function."""


class Emitter(Protocol):
    """Protocol: the members of a run that this package uses. :class:`otelflow._runs.run.Run` implements it."""

    _START: ClassVar[FlowRunEventType]
    _STOP: ClassVar[FlowRunEventType]
    _truncated: int
    _direct_limit: int
    _ended_ns: int
    _events: int
    _failure: tuple[str, str, str | None] | None
    _number: int
    _origin: Any
    _redacted: int
    _recorder: Any
    _spec: Any
    _span: Any
    _started_ns: int
    _event_bytes: int

    @property
    def error(self) -> BaseException | None: ...

    @property
    def return_value(self) -> Any: ...

    @property
    def status(self) -> str: ...

    @property
    def _target_memory(self) -> RunMemory: ...

    @property
    def _settings(self) -> Any: ...

    def _end_attributes(self) -> dict[str, Any]: ...

    def _task_number(self) -> tuple[str | None, int | None]: ...

    def _title(self) -> str: ...


_remember = flow_events.remember


def notify(
    event_type: FlowRunEventType, ns: int, origin: tuple[Any, ...], payload: Any, history_payload: Any, level: int
) -> None:
    """Append an event to the history and send it to the listeners.

    ``payload`` is for listeners. ``history_payload`` is for the history, which holds no values of the user's. Both are
    tuples of facts; the event builds its data from them when it is read: see :func:`otelflow.events.event_of`.
    """
    _remember((event_type, ns, origin, history_payload, level))
    if flow_events.event_listeners:
        flow_events.raise_event(event_of((event_type, ns, origin, payload, level)))


def truncate_counted(run: Emitter, text: str) -> str:
    """Truncate clean text to the largest size of a span value, and count the truncation."""
    truncated, was_cut = truncate(text)
    if was_cut:
        run._truncated += 1
        counts.add(VALUES)
    return truncated


def origin_of(run: Emitter, kind: str, at: At | None) -> Any:
    """Return the origin of an event of ``run``: the run's ids, and the function that emitted the event.

    Return None, and count the dropped event, if the run has ended, or if this process is a forked child and the run
    belongs to the parent. Call this last, when the event is prepared: another thread may end the run at any moment.
    """
    origin = run._origin
    if run._ended_ns or origin is None:
        counts.add(after_end_reason(kind))
        return None
    if at is not None:
        return (at[1], *origin[1:])
    if run_ids.is_forked_child and run_ids.is_inherited(run._number):
        counts.add(AFTER_FORK)
        return None
    current: Any = get_current().get(RUN_KEY)
    if current is None or current is run:
        return origin
    inner_origin = current._origin  # None if the context outlived the run in it
    return origin if inner_origin is None else (inner_origin[0], *origin[1:])


def history_text(text: str) -> str:
    """Truncate a text that is on no span, for the history: the history holds no large values."""
    return text if len(text) <= MAX_VALUE_BYTES else truncate(text)[0]


def _time_of_day(ns: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(ns // 1_000_000_000))}.{ns // 1_000_000 % 1000:03d}"


def console(text: str) -> None:
    """Print a line to the terminal, without making a message of it."""
    try:
        print_line(text)
    except Exception as error:  # a closed stream, or an encoding without a character of the text
        log_once("console", "Could not print to the standard output: %s", safe_str(error))


def console_line(ns: int, level: int, text: str) -> None:
    """Print a message to the terminal."""
    console(f"{_time_of_day(ns)} | {logging.getLevelName(level):<8} | {text}")
