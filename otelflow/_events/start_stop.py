"""Report the start and the end of a run: on its span, and to history, metrics and listeners."""

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
_NO_PAYLOAD: dict[str, Any] = {}
_STATUSES = {status: {wire.STATUS: status} for status in ("completed", "failed", "cancelled")}
"""The end attributes of runs that have only a status, by status: one dict, shared by all their spans."""
_remember = flow_events.remember


def on_start(run: Emitter) -> None:
    """Report that a run has begun. Its span has the start attributes already."""
    if run._recorder is not None:
        run._recorder.record_start(run)
        return
    _remember((run._START, run._started_ns, run._origin, _NO_PAYLOAD, _INFO))
    if measures.on or flow_events.event_listeners:
        notify_started(run)


def notify_started(run: Emitter) -> None:
    """Notify metrics and listeners that a run has begun."""
    if measures.on:
        _measure_start(run._origin)
    if flow_events.event_listeners:
        flow_events.raise_event(event_of((run._START, run._started_ns, run._origin, _NO_PAYLOAD, _INFO)))


def _measure_start(origin: tuple[Any, ...]) -> None:
    if measures.sink is None:
        from otelflow._metrics.instruments import prepare  # loads the metrics API: only if metrics are on

        prepare()
    if origin[2] is None:  # only flows are counted while they run
        measures.note_start(origin)


def on_stop(run: Emitter) -> None:
    """Report that a run has ended: set status and end attributes on its span, and notify history and listeners."""
    span = run._span
    if span is not None:
        _set_end_attributes(run, span)
    if run._recorder is not None:
        run._recorder.record_stop(run)
    else:
        notify_stopped(run)


def notify_stopped(run: Emitter) -> None:
    """Notify history, metrics and listeners that a run has ended."""
    error, ended_ns, status = run.error, run._ended_ns, run.status
    duration_ns = ended_ns - run._started_ns
    text = None
    if error is not None:
        text = run._failure[2] if run._failure else None
        if text is None:
            text = scrub_and_truncate(safe_str(error))[0]
    if measures.on:
        measures.note_end(run._origin, status, duration_ns, error)
    _remember((run._STOP, ended_ns, run._origin, (status, duration_ns, None, text), _INFO))
    if flow_events.event_listeners:
        payload = (status, duration_ns, run.return_value, error)
        flow_events.raise_event(event_of((run._STOP, ended_ns, run._origin, payload, _INFO)))


def notify_completed(run: Emitter, value: Any) -> None:
    """Notify history, metrics and listeners that a run has ended with ``value``: the short form of
    :func:`notify_stopped`."""
    origin, started_ns, ended_ns = run._origin, run._started_ns, run._ended_ns
    if measures.on:
        measures.note_end(origin, "completed", ended_ns - started_ns, None)
    _remember((origin, started_ns, ended_ns))
    if flow_events.event_listeners:
        flow_events.raise_event(
            event_of((run._STOP, ended_ns, origin, ("completed", ended_ns - started_ns, value, None), _INFO))
        )


def _set_end_attributes(run: Emitter, span: Any) -> None:
    try:
        if not span.is_recording():
            return
        attributes, description = end_attributes_and_failure(run)
        if hasattr(type(span), "conclude"):  # a lean span, which takes clean attributes without checking them
            span.conclude(attributes, description)
        else:
            if description is not None:
                span.set_status(Status(StatusCode.ERROR, description))
            span.set_attributes(attributes)
    except Exception as error:
        log_span_error("set_attributes", error)


def end_attributes_and_failure(run: Emitter) -> tuple[dict[str, Any], str | None]:
    """Return a run's end attributes, and the description of its failure (None unless it failed)."""
    own_attributes, description = run._end_attributes(), None
    attributes = {**_STATUSES[run.status], **own_attributes} if own_attributes else _STATUSES[run.status]
    if run.status == "failed" and run.error is not None:
        kind, description, _ = run._failure or _describe_failure(run, run.error)
        attributes = {**attributes, wire.ERROR_TYPE: kind}
    if run._truncated:
        attributes = {**attributes, wire.DROPPED_VALUES: run._truncated}
    if run._redacted:
        attributes = {**attributes, wire.REDACTED: run._spec.attributes.get(wire.REDACTED, 0) + run._redacted}
    return attributes, description


def _describe_failure(run: Emitter, error: BaseException) -> tuple[str, str, None]:
    """Return the same as ``run._failure`` for an exception that began in an inner run."""
    take_redacted_count()
    kind = error_type(error)
    description, _ = scrub_and_truncate(f"{kind}: {safe_str(error)}")
    run._redacted += take_redacted_count()
    return kind, description, None
