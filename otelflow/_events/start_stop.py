"""Tell of the start and end of a run: on its span, and to history, metrics and listeners."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.trace import Status, StatusCode

from otelflow import attributes as wire
from otelflow._events.emit import Emitter
from otelflow._metrics.measurements import measures
from otelflow._runtime.log_once import log_span_error
from otelflow._runtime.names import error_type
from otelflow._values.scrub import take_redacted_count
from otelflow._values.text import safe_str, scrub_and_truncate
from otelflow.events import event_of
from otelflow.listeners import flow_events

__all__ = ["end_attributes_and_failure", "notify_completed", "notify_started", "notify_stopped", "on_start", "on_stop"]

_INFO = logging.INFO
_NOTHING: dict[str, Any] = {}
_STATUSES = {status: {wire.STATUS: status} for status in ("completed", "failed", "cancelled")}
"""The attributes of the end that say no more than how it came: shared by all spans that end so."""
_remember = flow_events.remember


def on_start(run: Emitter) -> None:
    """A run began: its span carries the attributes of the start already."""
    if run._relay is not None:
        run._relay.started(run)
        return
    _remember((run._START, run._started_ns, run._origin, _NOTHING, _INFO))
    if measures.on or flow_events.event_listeners:
        notify_started(run)


def notify_started(run: Emitter) -> None:
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


def on_stop(run: Emitter) -> None:
    """A run ended: its status and closing attributes on the span, and the event with its payload."""
    span = run._span
    if span is not None:
        _end_attributes(run, span)
    if run._relay is not None:
        run._relay.stopped(run)
    else:
        notify_stopped(run)


def notify_stopped(run: Emitter) -> None:
    """Tell history, metrics and listeners that a run ended."""
    error, ended, status = run.error, run._ended_ns, run.status
    duration_ns = ended - run._started_ns
    text = None
    if error is not None:
        text = run._failure[2] if run._failure else None
        if text is None:
            text = scrub_and_truncate(safe_str(error))[0]
    if measures.on:
        measures.stopped(run._origin, status, duration_ns, error)
    _remember((run._STOP, ended, run._origin, (status, duration_ns, None, text), _INFO))
    if flow_events.event_listeners:
        facts = (status, duration_ns, run.return_value, error)
        flow_events.raise_event(event_of((run._STOP, ended, run._origin, facts, _INFO)))


def notify_completed(run: Emitter, value: Any) -> None:
    """:func:`notify_stopped` of a run that ended with ``value``."""
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
        made, description = end_attributes_and_failure(run)
        if hasattr(type(span), "conclude"):  # a lean one, which takes what is known to be clean
            span.conclude(made, description)
        else:
            if description is not None:
                span.set_status(Status(StatusCode.ERROR, description))
            span.set_attributes(made)
    except Exception as error:
        log_span_error("set_attributes", error)


def end_attributes_and_failure(run: Emitter) -> tuple[dict[str, Any], str | None]:
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
    take_redacted_count()
    kind = error_type(error)
    description, _ = scrub_and_truncate(f"{kind}: {safe_str(error)}")
    run._redacted += take_redacted_count()
    return kind, description, None
