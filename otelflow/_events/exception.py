"""Record an exception that a run raised: an event on the span of the run where it began, and a message."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from otelflow import attributes as wire
from otelflow._events.emit import Emitter, truncate_counted
from otelflow._events.message import emit_message, send_message
from otelflow._runtime import clock
from otelflow._runtime.log_once import log_once, log_span_error
from otelflow._runtime.names import error_type
from otelflow._spans.span_events import ON_LOGS, add_span_event
from otelflow._spans.span_limits import estimated_size
from otelflow._values.scrub import is_independent_prefix, scrub_text, take_redacted_count
from otelflow._values.text import (
    MAX_VALUE_BYTES,
    encodable_text,
    is_clean,
    safe_str,
    scrub_and_truncate,
    scrub_long,
    truncate,
)
from otelflow._values.traceback import format_error

__all__ = ["emit_failure", "print_stack_trace", "record_exception_event"]

_ERROR = logging.ERROR
_TYPE, _MESSAGE, _STACKTRACE = wire.EXCEPTION_TYPE, wire.EXCEPTION_MESSAGE, wire.EXCEPTION_STACKTRACE
_TEXT, _SEVERITY = wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY
_EXCEPTION_BYTES = estimated_size({_TYPE: "", _MESSAGE: "", _STACKTRACE: ""})
_MESSAGE_BYTES = estimated_size({_TEXT: "", _SEVERITY: "ERROR"})
_SHORT_LENGTH = min(MAX_VALUE_BYTES // 8, 256)
"""Length up to which a text, in characters, fits everywhere without truncation, whatever its characters are."""


def record_exception_event(run: Emitter, attributes: dict[str, Any], ns: int) -> None:
    """Add the exception event to the span of ``run``; in a worker process that exports log records, also relay it."""
    add_span_event(run, wire.EXCEPTION_EVENT, attributes, ns, attributes[_MESSAGE], _ERROR)
    if ON_LOGS and run._recorder is not None:
        run._recorder.record_event(run, "exception", ns, run._origin[0], (attributes,))


def emit_failure(run: Emitter, error: BaseException) -> None:
    """Record an exception that began in ``run``: an event on its span, and a message at ERROR.

    Raises RecursionError if the stack has no room for that: the exception then counts as one of the run above.
    """
    if isinstance(error, RecursionError):
        _check_stack_room(_NEEDED_FRAMES)
    take_redacted_count()
    ns = clock.now()
    text, title = safe_str(error), f"Error executing {run._title()}: "
    span = run._span
    if span is None or not (ON_LOGS or _is_recording(span)):
        emit_message(run, _ERROR, title + text)
        return
    kind = error_type(error)
    prefix = f"{kind}: "
    last_line = prefix + text
    is_short = len(last_line) <= _SHORT_LENGTH and is_independent_prefix(prefix)
    if is_short:
        description, message = last_line if is_clean(text) else prefix + scrub_text(text), text
    else:
        description, message = scrub_and_truncate(last_line)[0], text
    is_unchanged = description == last_line and (last_line.isascii() or encodable_text(last_line) == last_line)
    if not is_unchanged:  # if the whole line is unchanged, its parts are, and need no second scan
        description, message = truncate(description)[0], truncate_counted(run, scrub_long(text))
    run._failure = (kind, description, text if is_unchanged else None)
    stack = format_error(error, last_line=last_line if is_unchanged else "")
    attributes = {_TYPE: kind, _MESSAGE: message, _STACKTRACE: stack}
    if ON_LOGS:
        record_exception_event(run, attributes, ns)
    else:
        size = _EXCEPTION_BYTES + len(kind) + len(message) + len(stack) if is_unchanged and stack.isascii() else 0
        add_span_event(run, wire.EXCEPTION_EVENT, attributes, ns, message, _ERROR, size)
    if (
        is_unchanged
        and is_short
        and "\x1b" not in text
        and len(title) <= _SHORT_LENGTH
        and is_independent_prefix(title)
    ):
        _send_clean_message(run, title + text)
    else:
        emit_message(run, _ERROR, title + text)


_NEEDED_FRAMES = 60
"""Stack frames that the span event and the listeners may need: on a full stack, a span must not get an event that the
listeners never see."""


def _check_stack_room(frames: int) -> None:
    if frames:
        _check_stack_room(frames - 1)


def _is_recording(span: Any) -> bool:
    try:
        return span.is_recording()  # type: ignore[no-any-return]
    except Exception as problem:  # a span of another SDK: the user's own exception must reach the caller
        log_span_error("is_recording", problem)
        return False


def _send_clean_message(run: Emitter, text: str) -> None:
    """Send the message of a failure. The text is clean and short: this is the short form of
    :func:`otelflow._events.message.emit_message`."""
    config = run._settings
    if config.logging_enabled and config.log_level <= _ERROR:
        size = _MESSAGE_BYTES + len(text) if text.isascii() else 0
        send_message(
            run, config, (_ERROR, text, text, text, None), {_TEXT: text, _SEVERITY: "ERROR"}, clock.now(), None, size
        )


def print_stack_trace(error: BaseException) -> None:
    """Print the whole traceback, without secrets, to the standard error."""
    try:
        print(scrub_long("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    except Exception as problem:  # the exception's own __str__, or a closed stream
        log_once("stack trace", "Could not print a stack trace: %s", type(problem).__name__)
