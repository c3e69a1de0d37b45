"""Store the run in progress in OpenTelemetry's Context, next to the current span.

All code that needs the current flow, task or span reads the same Context, so the results cannot differ. The Context
follows asyncio tasks and ``asyncio.to_thread`` without further help, and goes wherever OpenTelemetry propagates it.
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
"""Key of the current span. The name is private in the API, so it is read from a Context. With it, one new Context holds
both keys, which costs a third of two calls of the API."""


def _suppress_key() -> str:
    try:
        from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
    except ImportError:  # the name is private: without it, nothing is suppressed
        return create_key("no-suppress")
    return _SUPPRESS_INSTRUMENTATION_KEY


SUPPRESS_KEY = _suppress_key()
"""Key that exporters set while they export. Without it, their requests would make spans, whose export makes spans."""


def _context_functions() -> tuple[Callable[[], Context], Callable[[Context], Any], Callable[[Any], None]]:
    """Return the functions that get, set and reset the current Context.

    The API keeps the Context in a ContextVar by default, and a token has a reference to it. Then these are the methods
    of the ContextVar, which saves four calls a task. With another context implementation (OTEL_PYTHON_CONTEXT), they
    are the API's own functions.
    """
    token: Any = api.attach(api.get_current())
    try:
        if type(token) is Token and token.var.get() is api.get_current():
            return token.var.get, token.var.set, token.var.reset
        return api.get_current, api.attach, api.detach
    finally:
        api.detach(token)


get_current, attach, reset = _context_functions()

UNRESETTABLE = (ValueError, RuntimeError)
"""Exceptions that ``reset`` raises for a token of another execution context, or for one that was used already."""


@functools.cache
def baggage_key() -> str:
    """Return the key of the baggage in a Context. The name is private in the API, so it is read from a Context. One new
    Context costs a third of two calls of ``set_baggage``."""
    from opentelemetry import baggage  # takes 2 ms, which a program without flows need not spend

    return next(iter(baggage.set_baggage("name", "value", Context())))


def current_run() -> Any:
    """Return the run in progress here.

    Returns:
        The innermost flow or task; None outside both.
    """
    return get_current().get(RUN_KEY)


def detach(token: Any) -> None:
    """Restore the Context that was current before ``attach`` returned ``token``.

    This does nothing if a generator or coroutine is closed in another execution context than it ran in: our Context was
    never current in that one. The API's ``detach`` would log a traceback.

    Args:
        token: the return value of ``attach``.
    """
    try:
        reset(token)
    except UNRESETTABLE:
        pass
