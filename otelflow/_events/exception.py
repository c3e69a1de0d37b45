"""An exception that a run raised: its event on the span where it began, and the message that says so."""

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
_SHORT = min(MAX_VALUE_BYTES // 8, 256)
"""Characters of a text that has room wherever it is put, whatever they are, and may be kept as one that is known."""


def record_exception_event(run: Emitter, attributes: dict[str, Any], ns: int) -> None:
    """The event of an exception."""
    add_span_event(run, wire.EXCEPTION_EVENT, attributes, ns, attributes[_MESSAGE], _ERROR)
    if ON_LOGS and run._relay is not None:
        run._relay.said(run, "exception", ns, run._origin[0], (attributes,))


def emit_failure(run: Emitter, error: BaseException) -> None:
    """An exception that began in ``run``: recorded on its span, and said in a message.

    Raises RecursionError where the stack has no room for that: then it is the run above that the error began in.
    """
    if isinstance(error, RecursionError):
        _need_room(_FRAMES)
    take_redacted_count()
    ns = clock.now()
    text, title = safe_str(error), f"Error executing {run._title()}: "
    span = run._span
    if span is None or not (ON_LOGS or _is_recording(span)):
        emit_message(run, _ERROR, title + text)
        return
    kind = error_type(error)
    prefix = f"{kind}: "
    last = prefix + text
    is_short = len(last) <= _SHORT and is_independent_prefix(prefix)
    if is_short:
        described, shown = last if is_clean(text) else prefix + scrub_text(text), text
    else:
        described, shown = scrub_and_truncate(last)[0], text
    is_unchanged = described == last and (last.isascii() or encodable_text(last) == last)
    if not is_unchanged:  # else its parts are so as well, and need not be looked at again
        described, shown = truncate(described)[0], truncate_counted(run, scrub_long(text))
    run._failure = (kind, described, text if is_unchanged else None)
    stack = format_error(error, last=last if is_unchanged else "")
    attributes = {_TYPE: kind, _MESSAGE: shown, _STACKTRACE: stack}
    if ON_LOGS:
        record_exception_event(run, attributes, ns)
    else:
        size = _EXCEPTION_BYTES + len(kind) + len(shown) + len(stack) if is_unchanged and stack.isascii() else 0
        add_span_event(run, wire.EXCEPTION_EVENT, attributes, ns, shown, _ERROR, size)
    if is_unchanged and is_short and "\x1b" not in text and len(title) <= _SHORT and is_independent_prefix(title):
        _say(run, title + text)
    else:
        emit_message(run, _ERROR, title + text)


_FRAMES = 60
"""Calls within one another that a span's event, and the listeners that hear of it, may take: where the stack is full,
the one must not be there without the other."""


def _need_room(frames: int) -> None:
    if frames:
        _need_room(frames - 1)


def _is_recording(span: Any) -> bool:
    try:
        return span.is_recording()  # type: ignore[no-any-return]
    except Exception as problem:  # another SDK's: the exception of the user's is the one that has to arrive
        log_span_error("is_recording", problem)
        return False


def _say(run: Emitter, text: str) -> None:
    """The message of a failure, as :func:`otelflow._events.message.emit_message` makes it of a text that is clean and
    short."""
    config = run._settings
    if config.logging_enabled and config.log_level <= _ERROR:
        size = _MESSAGE_BYTES + len(text) if text.isascii() else 0
        send_message(
            run, config, (_ERROR, text, text, text, None), {_TEXT: text, _SEVERITY: "ERROR"}, clock.now(), None, size
        )


def print_stack_trace(error: BaseException) -> None:
    """Print the whole traceback to the standard error."""
    try:
        print(scrub_long("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    except Exception as problem:  # its own __str__, a closed stream
        log_once("stack trace", "Could not print a stack trace: %s", type(problem).__name__)
