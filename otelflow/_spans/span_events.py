"""Put an event of a run on its span, within the span's bounds, emit it as a log record, or both.

``OTELFLOW_EVENTS`` says which: log records are where the span-event API is heading. The logs API is still private-named
in Python (``opentelemetry._logs``): it is loaded only when it is asked for.
"""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.trace import Span, set_span_in_context

from otelflow import attributes as wire
from otelflow._runtime.drop_counts import EVENTS, VALUES, counts
from otelflow._runtime.log_once import log_span_error
from otelflow._spans.event_overflow import HeldEvent, add_event, overflow_of
from otelflow._spans.span_limits import DIRECT_BYTES, MAX_EVENT_BYTES, direct_events, estimated_size
from otelflow._spans.tracer import SCOPE
from otelflow._values.scrub import take_redacted_count
from otelflow._version import __version__
from otelflow.config import OTELFLOW_EVENTS, choice_from_environment

__all__ = ["ON_LOGS", "ON_SPANS", "add_counted_event", "add_span_event", "finish_events", "has_audience", "log_event"]

_INFO = logging.INFO
_WHERE = choice_from_environment(OTELFLOW_EVENTS, ("span", "logs", "both"))
ON_SPANS = _WHERE != "logs"
ON_LOGS = _WHERE != "span"

_SEVERITIES = {10: (5, "DEBUG"), 20: (9, "INFO"), 30: (13, "WARN"), 40: (17, "ERROR"), 50: (21, "FATAL")}
"""OpenTelemetry's severity numbers and short names for the levels of :mod:`logging`. Logs data model, severity."""


def has_audience(run: Any) -> bool:
    """Whether anybody would see an event of ``run`` on a span or in a log: where nobody does, nothing is prepared."""
    span = run._span
    try:
        return (ON_SPANS and span is not None and span.is_recording()) or (ON_LOGS and run._relay is None)
    except Exception as error:
        log_span_error("is_recording", error)
        return False


def add_span_event(
    run: Any,
    name: str,
    attributes: dict[str, Any] | None,
    ns: int,
    body: object,
    level: int = _INFO,
    size: int = 0,
    prior: bool = True,
) -> bool:
    """The event on the run's span, as a log record, or both: ``OTELFLOW_EVENTS`` says where.

    ``attributes`` are None where it is not wanted; ``size`` is about their number of bytes, 0 where that is not known;
    ``prior`` events are the last to be left out. False where another thread ended the run before it was there.
    """
    if attributes is None:
        return not run._ended_ns
    if redacted := take_redacted_count():
        run._redacted += redacted
    return add_counted_event(run, name, attributes, ns, body, level, size, prior)


def add_counted_event(
    run: Any, name: str, attributes: dict[str, Any] | None, ns: int, body: object, level: int, size: int, prior: bool
) -> bool:
    """:func:`add_span_event` where what was redacted is counted already."""
    is_there = not run._ended_ns
    if attributes is None:
        return is_there
    size, span = size or estimated_size(attributes), run._span
    try:
        if ON_SPANS and span is not None and (not ON_LOGS or span.is_recording()):  # else it was asked when prepared
            number, weight = run._events, size
            if number:
                weight += run._weight
            else:
                run._weight, run._direct = 0, direct_events(span)
            run._events = number = number + 1
            if number <= run._direct and weight <= DIRECT_BYTES and size <= MAX_EVENT_BYTES:
                run._weight = weight
                add_event(span, name, attributes, ns)
                is_there = not run._ended_ns or _has(span, ns)
            else:
                is_there = _beyond(run, span, HeldEvent(name, attributes, ns, size, prior))
        if ON_LOGS and is_there and run._relay is None:
            log_event(span, name, body, {**_names(run), **attributes}, level, ns)
    except Exception as error:
        log_span_error("add_event", error)
    return is_there


def _has(span: Any, ns: int) -> bool:
    return any(event.timestamp == ns for event in getattr(span, "events", ()))


def _beyond(run: Any, span: Any, event: HeldEvent) -> bool:
    """What cannot go on the span just like that: a large event, or one that is too many."""
    if event.size > MAX_EVENT_BYTES:
        number = event.shorten()
        run._cut += number
        counts.add(VALUES, number)
    if run._events <= run._direct and run._weight + event.size <= DIRECT_BYTES:
        run._weight += event.size
        event.add_to(span)
        return not run._ended_ns or _has(span, event.ns)
    overflow = overflow_of(run, span)
    return overflow.add(event, run) and not (run._ended_ns and overflow.take_back(event))


def _names(run: Any) -> dict[str, str]:
    """What a log record is found by: its span may be in another place, or sampled out."""
    if run._origin is None:
        return {}
    _, (flow, _), task, _, _ = run._origin
    return {key: name for key, name in ((wire.FLOW_NAME, flow), (wire.TASK_NAME, task)) if name is not None}


def finish_events(run: Any, span: Any) -> None:
    """Before the span of a run ends: what waited goes on it, and it says how many events are not there."""
    overflow = getattr(run, "_overflow", None)  # of ``__dict__`` Python would make a dict, for good
    missing = 0
    if overflow is not None:
        missing = overflow.close(span, run)
        if run._cut:  # more may have been cut to make room
            span.set_attribute(wire.DROPPED_VALUES, run._cut)
    dropped = getattr(span, "dropped_events", 0)
    if isinstance(dropped, int) and dropped:
        counts.add(EVENTS, dropped)
        missing += dropped
    if missing:
        span.set_attribute(wire.DROPPED_EVENTS, missing)


def log_event(span: Span | None, name: str, body: object, attributes: dict[str, Any], severity: int, ns: int) -> None:
    """Emit a log record with the event's name, of the trace and span of ``span``; ``severity`` as in :mod:`logging`."""
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

    number = max((known for known in _SEVERITIES if known <= severity), default=10)
    record = LogRecord(
        timestamp=ns,
        context=None if span is None else set_span_in_context(span),
        severity_number=SeverityNumber(_SEVERITIES[number][0]),
        severity_text=_SEVERITIES[number][1],
        body=str(body),
        attributes=attributes,
        event_name=name,
    )
    get_logger(SCOPE, __version__).emit(record)
