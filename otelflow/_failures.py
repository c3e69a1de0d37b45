"""An exception that a run raised: its event on the span where it began, and the message that says so."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

from otelflow import _clock
from otelflow import attributes as wire
from otelflow._counts import VALUES, counts, log_once
from otelflow._emit import Emitter, message
from otelflow._log_events import ON_LOGS
from otelflow._naming import error_type
from otelflow._scrubbing import take_redacted
from otelflow._span_events import span_event
from otelflow._tracebacks import format_error
from otelflow._values import cut, fit, safe_str, whole

__all__ = ["exception", "failure", "stack_trace"]


def exception(run: Emitter, attributes: dict[str, Any], ns: int) -> None:
    """The event of an exception."""
    span_event(run, wire.EXCEPTION_EVENT, attributes, ns, attributes[wire.EXCEPTION_MESSAGE], logging.ERROR)
    if ON_LOGS and run._relay is not None:
        run._relay.said(run, "exception", ns, run._origin[0], (attributes,))


def failure(run: Emitter, error: BaseException) -> None:
    """An exception that began in ``run``: recorded on its span, and said in a message."""
    take_redacted()
    ns = _clock.now()
    text = safe_str(error)
    if run._span is not None and (ON_LOGS or run._span.is_recording()):
        last = f"{(kind := error_type(error))}: {text}"
        described = cut(last)[0]
        is_clean = described == last  # then its parts are so as well, and need not be looked at again
        run._failure = (text if is_clean else "", described)
        shown = text
        if not is_clean:
            shown, was_cut = fit(whole(text))
            if was_cut:
                run._cut += 1
                counts.add(VALUES)
        stack = format_error(error, last=last if is_clean else "")
        attributes = {wire.EXCEPTION_TYPE: kind, wire.EXCEPTION_MESSAGE: shown, wire.EXCEPTION_STACKTRACE: stack}
        exception(run, attributes, ns)
    message(run, logging.ERROR, f"Error executing {run._title()}: {text}")


def stack_trace(error: BaseException) -> None:
    """Print the whole traceback to the standard error."""
    try:
        print(whole("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    except Exception as problem:  # its own __str__, a closed stream
        log_once("stack trace", "Could not print a stack trace: %s", type(problem).__name__)
