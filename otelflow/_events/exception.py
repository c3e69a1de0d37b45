"""An exception that a run raised: its event on the span where it began, and the message that says so."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from otelflow import attributes as wire
from otelflow._events.emit import Emitter, fitted
from otelflow._events.message import message, tell
from otelflow._runtime import clock
from otelflow._runtime.log_once import broken, log_once
from otelflow._runtime.names import error_type
from otelflow._spans.span_events import ON_LOGS, span_event
from otelflow._spans.span_limits import weigh
from otelflow._values.scrub import clean, stands_apart, take_redacted
from otelflow._values.text import MAX_VALUE_BYTES, cut, fit, is_plain, plain_text, safe_str, whole
from otelflow._values.traceback import format_error

__all__ = ["exception", "failure", "stack_trace"]

_ERROR = logging.ERROR
_TYPE, _MESSAGE, _STACKTRACE = wire.EXCEPTION_TYPE, wire.EXCEPTION_MESSAGE, wire.EXCEPTION_STACKTRACE
_TEXT, _SEVERITY = wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY
_EXCEPTION_BYTES = weigh({_TYPE: "", _MESSAGE: "", _STACKTRACE: ""})
_MESSAGE_BYTES = weigh({_TEXT: "", _SEVERITY: "ERROR"})
_SHORT = min(MAX_VALUE_BYTES // 8, 256)
"""Characters of a text that has room wherever it is put, whatever they are, and may be kept as one that is known."""


def exception(run: Emitter, attributes: dict[str, Any], ns: int) -> None:
    """The event of an exception."""
    span_event(run, wire.EXCEPTION_EVENT, attributes, ns, attributes[_MESSAGE], _ERROR)
    if ON_LOGS and run._relay is not None:
        run._relay.said(run, "exception", ns, run._origin[0], (attributes,))


def failure(run: Emitter, error: BaseException) -> None:
    """An exception that began in ``run``: recorded on its span, and said in a message.

    Raises RecursionError where the stack has no room for that: then it is the run above that the error began in.
    """
    if isinstance(error, RecursionError):
        _need_room(_FRAMES)
    take_redacted()
    ns = clock.now()
    text, title = safe_str(error), f"Error executing {run._title()}: "
    span = run._span
    if span is None or not (ON_LOGS or _is_recording(span)):
        message(run, _ERROR, title + text)
        return
    kind = error_type(error)
    prefix = f"{kind}: "
    last = prefix + text
    is_short = len(last) <= _SHORT and stands_apart(prefix)
    if is_short:
        described, shown = last if is_plain(text) else prefix + clean(text), text
    else:
        described, shown = cut(last)[0], text
    is_clean = described == last and (last.isascii() or plain_text(last) == last)
    if not is_clean:  # else its parts are so as well, and need not be looked at again
        described, shown = fit(described)[0], fitted(run, whole(text))
    run._failure = (kind, described, text if is_clean else None)
    stack = format_error(error, last=last if is_clean else "")
    attributes = {_TYPE: kind, _MESSAGE: shown, _STACKTRACE: stack}
    if ON_LOGS:
        exception(run, attributes, ns)
    else:
        size = _EXCEPTION_BYTES + len(kind) + len(shown) + len(stack) if is_clean and stack.isascii() else 0
        span_event(run, wire.EXCEPTION_EVENT, attributes, ns, shown, _ERROR, size)
    if is_clean and is_short and "\x1b" not in text and len(title) <= _SHORT and stands_apart(title):
        _say(run, title + text)
    else:
        message(run, _ERROR, title + text)


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
        broken("is_recording", problem)
        return False


def _say(run: Emitter, text: str) -> None:
    """The message of a failure, as :func:`otelflow._events.message.message` makes it of a text that is clean and
    short."""
    config = run._settings
    if config.logging_enabled and config.log_level <= _ERROR:
        size = _MESSAGE_BYTES + len(text) if text.isascii() else 0
        tell(run, config, (_ERROR, text, text, text, None), {_TEXT: text, _SEVERITY: "ERROR"}, clock.now(), None, size)


def stack_trace(error: BaseException) -> None:
    """Print the whole traceback to the standard error."""
    try:
        print(whole("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    except Exception as problem:  # its own __str__, a closed stream
        log_once("stack trace", "Could not print a stack trace: %s", type(problem).__name__)
