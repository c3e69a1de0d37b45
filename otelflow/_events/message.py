"""Emit a message of a run: a log message or a printed line."""

from __future__ import annotations

import logging
from typing import Any

from otelflow import attributes as wire
from otelflow._events.emit import At, Emitter, console_line, notify, origin_of, short, truncate_counted
from otelflow._runtime import clock
from otelflow._runtime.drop_counts import VALUES, after_end_reason, counts
from otelflow._spans.span_events import add_counted_event, has_audience
from otelflow._spans.span_limits import estimated_size
from otelflow._values.attribute import to_attribute
from otelflow._values.scrub import take_redacted_count
from otelflow._values.text import is_clean, safe_str, scrub_long, strip_ansi
from otelflow.events import FlowRunEventType

__all__ = ["Facts", "emit_message", "send_message"]

_ERROR = logging.ERROR
_FLOW_MESSAGE = FlowRunEventType.FLOW_MESSAGE  # a member of an Enum is not found at once
_TEXT, _SEVERITY = wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY
_LEVELS = {number: logging.getLevelName(number) for number in (10, 20, 30, 40, 50)}
_MESSAGE_BYTES = estimated_size({_TEXT: "", _SEVERITY: "CRITICAL"})


def emit_message(
    run: Emitter, level: int, given: object, attributes: dict[str, Any] | None = None, at: At | None = None
) -> None:
    """A log message or printed line: span event, memory, console, history, listeners."""
    config = run._settings
    if not config.logging_enabled or level < config.log_level:
        return
    raw = given if type(given) is str else safe_str(given)
    ns = clock.now() if at is None else at[0]
    size = 0
    if attributes or not is_clean(raw):
        take_redacted_count()  # of what was cleaned elsewhere on this thread
        text = strip_ansi(raw)
        cleaned = scrub_long(text)
        if cleaned != text:
            raw = text = cleaned
        made = _message_attributes(run, text, level, attributes) if has_audience(run) else None
        if made is not None:
            run._redacted += take_redacted_count()
        shown = short(text) if made is None else made[_TEXT]
    else:  # nothing is to be done to it, and so nothing was
        text = shown = raw
        made = {_TEXT: raw, _SEVERITY: _LEVELS.get(level) or logging.getLevelName(level)} if has_audience(run) else None
        if raw.isascii():
            size = _MESSAGE_BYTES + len(raw)
    send_message(run, config, (level, raw, text, shown, attributes), made, ns, at, size)


Facts = tuple[int, str, str, str, "dict[str, Any] | None"]
"""A message: its level, the text as it was given, without colours, and in the size that goes on a span; attributes."""


def send_message(
    run: Emitter, config: Any, said: Facts, made: dict[str, Any] | None, ns: int, at: At | None, size: int
) -> None:
    """A message that is clean already, to all that it goes to. ``made`` is what its event shows, None where none is
    wanted; of ``size`` bytes, 0 where that is not known."""
    level, raw, text, shown, attributes = said
    origin = origin_of(run, "message", at)
    if origin is None:
        return
    if not add_counted_event(run, wire.MESSAGE_EVENT, made, ns, shown, level, size, level >= _ERROR):
        counts.add(after_end_reason("message"))
        return
    if config.log_to_memory:
        run._journal.add_message((text, level, ns, raw, attributes or None, *run._task_number()))
    if config.log_to_console:
        console_line(ns, level, raw)
    if run._relay is not None:
        run._relay.said(run, "message", ns, origin[0], (level, raw, attributes))
        return
    notify(_FLOW_MESSAGE, ns, origin, (raw, text), (shown, shown), level)


def _message_attributes(run: Emitter, text: str, level: int, extra: dict[str, Any] | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        _TEXT: truncate_counted(run, text),
        _SEVERITY: _LEVELS.get(level) or logging.getLevelName(level),
    }
    if extra:
        for key, value in extra.items():
            made[key], was_cut = to_attribute(key, value)
            if was_cut:
                run._cut += 1
                counts.add(VALUES)
    return made
