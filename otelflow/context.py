"""Where the run in progress is found: a value in OpenTelemetry's Context, beside the current span.

Everything that asks for the current flow, task or span reads the same Context, so the answers cannot disagree. It
follows asyncio tasks and ``asyncio.to_thread`` by itself, and goes wherever OpenTelemetry's Context is carried.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Token
from typing import Any

from opentelemetry import context as api
from opentelemetry.context import Context, create_key
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

__all__ = [
    "RUN_KEY",
    "SPAN_KEY",
    "SUPPRESS_KEY",
    "UNRESETTABLE",
    "attach",
    "baggage_key",
    "current_run",
    "detach",
    "get_current",
    "reset",
]

RUN_KEY = create_key("otelflow-run")
"""Key of the run in progress: a Flow or a Task."""

SPAN_KEY: str = next(iter(set_span_in_context(INVALID_SPAN, Context())))
"""Key under which the API keeps the current span. It is a private name there, and read off a Context here: one new
Context with both keys costs a third of two calls of the API's."""


def _suppress_key() -> str:
    try:
        from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
    except ImportError:  # a private name: without it, nothing is suppressed
        return create_key("no-suppress")
    return _SUPPRESS_INSTRUMENTATION_KEY


SUPPRESS_KEY = _suppress_key()
"""Key that exporters set while they work: spans of their own requests would never end."""


def _doors() -> tuple[Callable[[], Context], Callable[[Context], Any], Callable[[Any], None]]:
    """How to ask for the current Context, how to set it, and how to take that back.

    The API's functions, or what is behind them: its default keeps the Context in a ContextVar, which a token
    names. That saves four calls a task. A context implementation of the user's own (OTEL_PYTHON_CONTEXT) is asked
    through the API.
    """
    token: Any = api.attach(api.get_current())
    try:
        if type(token) is Token and token.var.get() is api.get_current():
            return token.var.get, token.var.set, token.var.reset
        return api.get_current, api.attach, api.detach
    finally:
        api.detach(token)


get_current, attach, reset = _doors()

UNRESETTABLE = (ValueError, RuntimeError)
"""What ``reset`` raises for a token of another execution context, or one that was used already."""


@functools.cache
def baggage_key() -> str:
    """Key under which the API keeps baggage in a Context, read off one: a private name there. One new Context costs a
    third of two calls of ``set_baggage``."""
    from opentelemetry import baggage  # 2 ms that a program without flows does not need

    return next(iter(baggage.set_baggage("name", "value", Context())))


def current_run() -> Any:
    """The innermost run in progress here; None outside any."""
    return get_current().get(RUN_KEY)


def detach(token: Any) -> None:
    """Make the Context current again that was so before ``token`` was made.

    Where that is impossible, because a generator or coroutine is closed in another execution context than it ran in,
    there is nothing to give back: that context never saw ours. The API's ``detach`` logs a traceback there.
    """
    try:
        reset(token)
    except UNRESETTABLE:
        pass
