"""The one door out: each event of a run becomes, here and only here, all that the world sees of it.

Span, memory, console, history and listeners are fed from the same facts in the same call, so that what a listener saw
and what the backend shows cannot differ. Nothing in here raises into the run, but for KeyboardInterrupt of a listener.
"""

from __future__ import annotations

import logging
import time
from typing import Any, ClassVar, Protocol

from opentelemetry.trace import Status, StatusCode

from otelflow import attributes as wire
from otelflow._events.run_memory import Journal
from otelflow._metrics.measurements import measures
from otelflow._runtime import clock, run_ids
from otelflow._runtime.drop_counts import AFTER_FORK, VALUES, after_end, counts
from otelflow._runtime.log_once import broken, log_once
from otelflow._runtime.names import error_type
from otelflow._runtime.stdout_capture import say
from otelflow._spans.span_events import is_wanted, put_event
from otelflow._spans.span_limits import weigh
from otelflow._values.attribute import attribute
from otelflow._values.scrub import take_redacted
from otelflow._values.text import MAX_VALUE_BYTES, cut, fit, is_plain, safe_str, whole, without_colours
from otelflow.context import RUN_KEY, get_current
from otelflow.events import FlowRunEventType, event_of
from otelflow.listeners import flow_events

__all__ = [
    "Emitter",
    "begun",
    "console",
    "console_line",
    "deliver",
    "ended_with",
    "fitted",
    "message",
    "origin_of",
    "short",
    "started",
    "stopped",
    "tell",
    "tell_completed",
    "tell_stop",
]

_INFO, _ERROR = logging.INFO, logging.ERROR
_FLOW_MESSAGE = FlowRunEventType.FLOW_MESSAGE  # a member of an Enum is not found at once
_NOTHING: dict[str, Any] = {}
_STATUSES = {status: {wire.STATUS: status} for status in ("completed", "failed", "cancelled")}
"""The attributes of the end that say no more than how it came: shared by all spans that end so."""
_TEXT, _SEVERITY = wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY
_LEVELS = {number: logging.getLevelName(number) for number in (10, 20, 30, 40, 50)}
_MESSAGE_BYTES = weigh({_TEXT: "", _SEVERITY: "CRITICAL"})


class Emitter(Protocol):
    """What this module needs of a run; :class:`otelflow._runs.run.Run` is one."""

    _START: ClassVar[FlowRunEventType]
    _STOP: ClassVar[FlowRunEventType]
    _cut: int
    _direct: int
    _ended_ns: int
    _events: int
    _failure: tuple[str, str, str | None] | None
    _order: int
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
    def _journal(self) -> Journal: ...

    @property
    def _settings(self) -> Any: ...

    def _end_attributes(self) -> dict[str, Any]: ...

    def _task_number(self) -> tuple[str | None, int | None]: ...

    def _title(self) -> str: ...


_remember = flow_events.remember


def deliver(
    event_type: FlowRunEventType, ns: int, origin: tuple[Any, ...], heard: Any, remembered: Any, level: int
) -> None:
    """To the history (which holds no values of the user's) and to the listeners. What is ``heard`` and ``remembered``
    are facts, which the payload is made of when it is read: see :func:`otelflow.events.event_of`."""
    _remember((event_type, ns, origin, remembered, level))
    if flow_events.event_listeners:
        flow_events.raise_event(event_of((event_type, ns, origin, heard, level)))


def started(run: Emitter) -> None:
    """A run began: its span carries the attributes of the start already."""
    if run._relay is not None:
        run._relay.started(run)
        return
    _remember((run._START, run._started_ns, run._origin, _NOTHING, _INFO))
    if measures.on or flow_events.event_listeners:
        begun(run)


def begun(run: Emitter) -> None:
    """Tell metrics and listeners that a run began."""
    if measures.on:
        _measure(run._origin)
    if flow_events.event_listeners:
        flow_events.raise_event(event_of((run._START, run._started_ns, run._origin, _NOTHING, _INFO)))


def _measure(origin: tuple[Any, ...]) -> None:
    if measures.sink is None:
        from otelflow._metrics.instruments import prepare  # loads the API's metrics: for who asked for them

        prepare()
    if origin[2] is None:  # only flows are counted while they run
        measures.started(origin)


def stopped(run: Emitter) -> None:
    """A run ended: its status and closing attributes on the span, and the event with its payload."""
    span = run._span
    if span is not None:
        _end_attributes(run, span)
    if run._relay is not None:
        run._relay.stopped(run)
    else:
        tell_stop(run)


def tell_stop(run: Emitter) -> None:
    """Tell history, metrics and listeners that a run ended."""
    error, ended, status = run.error, run._ended_ns, run.status
    duration_ns = ended - run._started_ns
    text = None
    if error is not None:
        text = run._failure[2] if run._failure else None
        if text is None:
            text = cut(safe_str(error))[0]
    if measures.on:
        measures.stopped(run._origin, status, duration_ns, error)
    _remember((run._STOP, ended, run._origin, (status, duration_ns, None, text), _INFO))
    if flow_events.event_listeners:
        facts = (status, duration_ns, run.return_value, error)
        flow_events.raise_event(event_of((run._STOP, ended, run._origin, facts, _INFO)))


def tell_completed(run: Emitter, value: Any) -> None:
    """:func:`tell_stop` of a run that ended with ``value``."""
    origin, began, ended = run._origin, run._started_ns, run._ended_ns
    if measures.on:
        measures.stopped(origin, "completed", ended - began, None)
    _remember((origin, began, ended))
    if flow_events.event_listeners:
        flow_events.raise_event(event_of((run._STOP, ended, origin, ("completed", ended - began, value, None), _INFO)))


def _end_attributes(run: Emitter, span: Any) -> None:
    try:
        if not span.is_recording():
            return
        made, description = ended_with(run)
        if hasattr(type(span), "conclude"):  # a lean one, which takes what is known to be clean
            span.conclude(made, description)
        else:
            if description is not None:
                span.set_status(Status(StatusCode.ERROR, description))
            span.set_attributes(made)
    except Exception as error:
        broken("set_attributes", error)


def ended_with(run: Emitter) -> tuple[dict[str, Any], str | None]:
    """The attributes of the end, and what went wrong: None where nothing did."""
    more, description = run._end_attributes(), None
    made = {**_STATUSES[run.status], **more} if more else _STATUSES[run.status]
    if run.status == "failed" and run.error is not None:
        kind, description, _ = run._failure or _described(run, run.error)
        made = {**made, wire.ERROR_TYPE: kind}
    if run._cut:
        made = {**made, wire.DROPPED_VALUES: run._cut}
    if run._redacted:
        made = {**made, wire.REDACTED: run._spec.attributes.get(wire.REDACTED, 0) + run._redacted}
    return made, description


def _described(run: Emitter, error: BaseException) -> tuple[str, str, None]:
    """As ``run._failure``, of an exception that began in a run within."""
    take_redacted()
    kind = error_type(error)
    description, _ = cut(f"{kind}: {safe_str(error)}")
    run._redacted += take_redacted()
    return kind, description, None


def fitted(run: Emitter, text: str) -> str:
    """A text that is clean already, in the size that goes on a span."""
    kept, was_cut = fit(text)
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
        counts.add(after_end(what))
        return None
    if at is not None:
        return (at[1], *origin[1:])
    if run_ids.forked and run_ids.is_inherited(run._order):
        counts.add(AFTER_FORK)
        return None
    inner: Any = get_current().get(RUN_KEY)
    if inner is None or inner is run:
        return origin
    told_by = inner._origin  # None where the context was carried on, and the run in it has ended
    return origin if told_by is None else (told_by[0], *origin[1:])


At = tuple[int, str]
"""When and where something was said that was said elsewhere: ns since 1970, and the name of the function."""


def message(
    run: Emitter, level: int, given: object, attributes: dict[str, Any] | None = None, at: At | None = None
) -> None:
    """A log message or printed line: span event, memory, console, history, listeners."""
    config = run._settings
    if not config.logging_enabled or level < config.log_level:
        return
    raw = given if type(given) is str else safe_str(given)
    ns = clock.now() if at is None else at[0]
    size = 0
    if attributes or not is_plain(raw):
        take_redacted()  # of what was cleaned elsewhere on this thread
        text = without_colours(raw)
        cleaned = whole(text)
        if cleaned != text:
            raw = text = cleaned
        made = _message_attributes(run, text, level, attributes) if is_wanted(run) else None
        if made is not None:
            run._redacted += take_redacted()
        shown = short(text) if made is None else made[_TEXT]
    else:  # nothing is to be done to it, and so nothing was
        text = shown = raw
        made = {_TEXT: raw, _SEVERITY: _LEVELS.get(level) or logging.getLevelName(level)} if is_wanted(run) else None
        if raw.isascii():
            size = _MESSAGE_BYTES + len(raw)
    tell(run, config, (level, raw, text, shown, attributes), made, ns, at, size)


Facts = tuple[int, str, str, str, "dict[str, Any] | None"]
"""A message: its level, the text as it was given, without colours, and in the size that goes on a span; attributes."""


def tell(
    run: Emitter, config: Any, said: Facts, made: dict[str, Any] | None, ns: int, at: At | None, size: int
) -> None:
    """A message that is clean already, to all that it goes to. ``made`` is what its event shows, None where none is
    wanted; of ``size`` bytes, 0 where that is not known."""
    level, raw, text, shown, attributes = said
    origin = origin_of(run, "message", at)
    if origin is None:
        return
    if not put_event(run, wire.MESSAGE_EVENT, made, ns, shown, level, size, level >= _ERROR):
        counts.add(after_end("message"))
        return
    if config.log_to_memory:
        run._journal.add_message((text, level, ns, raw, attributes or None, *run._task_number()))
    if config.log_to_console:
        console_line(ns, level, raw)
    if run._relay is not None:
        run._relay.said(run, "message", ns, origin[0], (level, raw, attributes))
        return
    deliver(_FLOW_MESSAGE, ns, origin, (raw, text), (shown, shown), level)


def _message_attributes(run: Emitter, text: str, level: int, extra: dict[str, Any] | None) -> dict[str, Any]:
    made: dict[str, Any] = {_TEXT: fitted(run, text), _SEVERITY: _LEVELS.get(level) or logging.getLevelName(level)}
    if extra:
        for key, value in extra.items():
            made[key], was_cut = attribute(key, value)
            if was_cut:
                run._cut += 1
                counts.add(VALUES)
    return made


def short(text: str) -> str:
    """A text for the history, where no span wanted it: that holds nothing large."""
    return text if len(text) <= MAX_VALUE_BYTES else fit(text)[0]


def _time_of_day(ns: int) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(ns // 1_000_000_000))}.{ns // 1_000_000 % 1000:03d}"


def console(text: str) -> None:
    """Print a line to the terminal that is no message itself."""
    try:
        say(text)
    except Exception as error:  # a closed stream, an encoding that lacks a character
        log_once("console", "Could not print to the standard output: %s", safe_str(error))


def console_line(ns: int, level: int, text: str) -> None:
    """Print a message to the terminal."""
    console(f"{_time_of_day(ns)} | {logging.getLevelName(level):<8} | {text}")
