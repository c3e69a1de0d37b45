"""Emit a message of a run: a log message or a printed line."""

from __future__ import annotations

import logging
from typing import Any

from otelflow import attributes as wire
from otelflow._events.emit import At, Emitter, console_line, history_text, notify, origin_of, truncate_counted
from otelflow._runtime import clock
from otelflow._runtime.drop_counts import VALUES, after_end_reason, counts
from otelflow._spans.span_events import add_counted_event, has_audience
from otelflow._spans.span_limits import estimated_size
from otelflow._values.attribute import to_attribute
from otelflow._values.scrub import take_redacted_count
from otelflow._values.text import is_clean, safe_str, scrub_long, strip_ansi
from otelflow.events import FlowRunEventType

__all__ = ["MessageFacts", "emit_message", "send_message"]

_ERROR = logging.ERROR
_FLOW_MESSAGE = FlowRunEventType.FLOW_MESSAGE  # here, because looking up a member of an Enum is slow
_TEXT, _SEVERITY = wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY
_LEVELS = {number: logging.getLevelName(number) for number in (10, 20, 30, 40, 50)}
_MESSAGE_BYTES = estimated_size({_TEXT: "", _SEVERITY: "CRITICAL"})


def emit_message(
    run: Emitter, level: int, message: object, attributes: dict[str, Any] | None = None, at: At | None = None
) -> None:
    """Emit a log message or a printed line: to the span, memory, console, history and listeners."""
    config = run._settings
    if not config.logging_enabled or level < config.log_level:
        return
    raw = message if type(message) is str else safe_str(message)
    ns = clock.now() if at is None else at[0]
    size = 0
    if attributes or not is_clean(raw):
        take_redacted_count()  # reset: the count may be from another text that this thread scrubbed
        text = strip_ansi(raw)
        scrubbed = scrub_long(text)
        if scrubbed != text:
            raw = text = scrubbed
        event_attributes = _message_attributes(run, text, level, attributes) if has_audience(run) else None
        if event_attributes is not None:
            run._redacted += take_redacted_count()
        truncated = history_text(text) if event_attributes is None else event_attributes[_TEXT]
    else:  # clean: the text needs no change, and nothing was redacted
        text = truncated = raw
        event_attributes = (
            {_TEXT: raw, _SEVERITY: _LEVELS.get(level) or logging.getLevelName(level)} if has_audience(run) else None
        )
        if raw.isascii():
            size = _MESSAGE_BYTES + len(raw)
    send_message(run, config, (level, raw, text, truncated, attributes), event_attributes, ns, at, size)


MessageFacts = tuple[int, str, str, str, "dict[str, Any] | None"]
"""A message: level, original text, text without colours, text truncated for a span, and attributes."""


def send_message(
    run: Emitter,
    config: Any,
    facts: MessageFacts,
    event_attributes: dict[str, Any] | None,
    ns: int,
    at: At | None,
    size: int,
) -> None:
    """Send a clean message to the span, memory, console, history and listeners.

    ``event_attributes`` are those of its event, None if no event is recorded. ``size`` is their number of bytes, 0 if
    unknown.
    """
    level, raw, text, truncated, attributes = facts
    origin = origin_of(run, "message", at)
    if origin is None:
        return
    if not add_counted_event(run, wire.MESSAGE_EVENT, event_attributes, ns, truncated, level, size, level >= _ERROR):
        counts.add(after_end_reason("message"))
        return
    if config.log_to_memory:
        run._target_memory.add_message((text, level, ns, raw, attributes or None, *run._task_number()))
    if config.log_to_console:
        console_line(ns, level, raw)
    if run._recorder is not None:
        run._recorder.record_event(run, "message", ns, origin[0], (level, raw, attributes))
        return
    notify(_FLOW_MESSAGE, ns, origin, (raw, text), (truncated, truncated), level)


def _message_attributes(run: Emitter, text: str, level: int, extra: dict[str, Any] | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        _TEXT: truncate_counted(run, text),
        _SEVERITY: _LEVELS.get(level) or logging.getLevelName(level),
    }
    if extra:
        for key, value in extra.items():
            attributes[key], was_cut = to_attribute(key, value)
            if was_cut:
                run._truncated += 1
                counts.add(VALUES)
    return attributes
