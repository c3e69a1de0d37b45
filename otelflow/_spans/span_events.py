"""Add a run's event to its span, within the span's limits, emit it as a log record, or both.

The setting ``OTELFLOW_EVENTS`` selects which: OpenTelemetry plans to replace span events by log records. In Python the
logs API still has a private name (``opentelemetry._logs``), so it is loaded only if log records are selected.
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
_TARGET = choice_from_environment(OTELFLOW_EVENTS, ("span", "logs", "both"))
ON_SPANS = _TARGET != "logs"
ON_LOGS = _TARGET != "span"

_SEVERITIES = {10: (5, "DEBUG"), 20: (9, "INFO"), 30: (13, "WARN"), 40: (17, "ERROR"), 50: (21, "FATAL")}
"""OpenTelemetry's severity number and short name for each level of :mod:`logging` (logs data model, severity)."""


def has_audience(run: Any) -> bool:
    """Return whether an event of ``run`` would reach a span or a log. If not, callers do not prepare its attributes."""
    span = run._span
    try:
        return (ON_SPANS and span is not None and span.is_recording()) or (ON_LOGS and run._recorder is None)
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
    has_priority: bool = True,
) -> bool:
    """Add the event to the run's span, emit it as a log record, or both, as ``OTELFLOW_EVENTS`` selects.

    ``attributes`` is None if nothing is to be recorded. ``size`` is their approximate size in bytes, 0 if unknown.
    Events with ``has_priority`` are left out last. Returns False if another thread ended the run before the event was
    recorded.
    """
    if attributes is None:
        return not run._ended_ns
    if redacted := take_redacted_count():
        run._redacted += redacted
    return add_counted_event(run, name, attributes, ns, body, level, size, has_priority)


def add_counted_event(
    run: Any,
    name: str,
    attributes: dict[str, Any] | None,
    ns: int,
    body: object,
    level: int,
    size: int,
    has_priority: bool,
) -> bool:
    """Add an event like :func:`add_span_event`; the caller has counted the redacted values already."""
    is_recorded = not run._ended_ns
    if attributes is None:
        return is_recorded
    size, span = size or estimated_size(attributes), run._span
    try:
        if ON_SPANS and span is not None and (not ON_LOGS or span.is_recording()):  # else has_audience() has checked
            number, weight = run._events, size
            if number:
                weight += run._event_bytes
            else:
                run._event_bytes, run._direct_limit = 0, direct_events(span)
            run._events = number = number + 1
            if number <= run._direct_limit and weight <= DIRECT_BYTES and size <= MAX_EVENT_BYTES:
                run._event_bytes = weight
                add_event(span, name, attributes, ns)
                is_recorded = not run._ended_ns or _has_event(span, ns)
            else:
                is_recorded = _add_beyond_limit(run, span, HeldEvent(name, attributes, ns, size, has_priority))
        if ON_LOGS and is_recorded and run._recorder is None:
            log_event(span, name, body, {**_name_attributes(run), **attributes}, level, ns)
    except Exception as error:
        log_span_error("add_event", error)
    return is_recorded


def _has_event(span: Any, ns: int) -> bool:
    return any(event.timestamp == ns for event in getattr(span, "events", ()))


def _add_beyond_limit(run: Any, span: Any, event: HeldEvent) -> bool:
    """Add a large event, or one beyond the number or bytes that go on the span immediately."""
    if event.size > MAX_EVENT_BYTES:
        number = event.shorten()
        run._truncated += number
        counts.add(VALUES, number)
    if run._events <= run._direct_limit and run._event_bytes + event.size <= DIRECT_BYTES:
        run._event_bytes += event.size
        event.add_to(span)
        return not run._ended_ns or _has_event(span, event.ns)
    overflow = overflow_of(run, span)
    return overflow.add(event, run) and not (run._ended_ns and overflow.withdraw(event))


def _name_attributes(run: Any) -> dict[str, str]:
    """Return the names that identify a log record: its span may be stored elsewhere, or sampled out."""
    if run._origin is None:
        return {}
    _, (flow, _), task, _, _ = run._origin
    return {key: name for key, name in ((wire.FLOW_NAME, flow), (wire.TASK_NAME, task)) if name is not None}


def finish_events(run: Any, span: Any) -> None:
    """Add the waiting events to the run's span, which is about to end, and set the number of missing events."""
    overflow = getattr(run, "_overflow", None)  # reading ``__dict__`` would create a dict that stays
    missing = 0
    if overflow is not None:
        missing = overflow.close(span, run)
        if run._truncated:  # the overflow may have truncated more values to make room
            span.set_attribute(wire.DROPPED_VALUES, run._truncated)
    dropped = getattr(span, "dropped_events", 0)
    if isinstance(dropped, int) and dropped:
        counts.add(EVENTS, dropped)
        missing += dropped
    if missing:
        span.set_attribute(wire.DROPPED_EVENTS, missing)


def log_event(span: Span | None, name: str, body: object, attributes: dict[str, Any], severity: int, ns: int) -> None:
    """Emit a log record for the event, in the trace of ``span``. ``severity`` is a level of :mod:`logging`."""
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

    level = max((level for level in _SEVERITIES if level <= severity), default=10)
    record = LogRecord(
        timestamp=ns,
        context=None if span is None else set_span_in_context(span),
        severity_number=SeverityNumber(_SEVERITIES[level][0]),
        severity_text=_SEVERITIES[level][1],
        body=str(body),
        attributes=attributes,
        event_name=name,
    )
    get_logger(SCOPE, __version__).emit(record)
