"""Find the tracer provider in use, and start otelflow's spans on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracer, ProxyTracer, Span, TracerProvider

from otelflow._spans.shared_attributes import SharedAttributes, merged
from otelflow._spans.unsampled_span import as_unsampled
from otelflow._version import __version__

__all__ = [
    "SCOPE",
    "TracerSource",
    "current_source",
    "global_provider",
    "has_lean_spans",
    "is_overridden",
    "use_provider",
]

SCOPE = "otelflow"
"""Name of the instrumentation scope of otelflow's spans."""


def _self_metrics() -> bool:
    return os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"


class TracerSource:
    """The tracer of one provider, and the fastest way to start a span on it."""

    __slots__ = ("lean", "start_span", "tracer")

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.start_span: Callable[..., Span] = tracer.start_span
        self.lean: Callable[..., Any] = _lean_start_function(tracer)
        """Start a lean span; return None if the tracer has to start the span itself."""

    def start(self, name: str, context: Context, parts: SharedAttributes, start_time: int, links: Any = None) -> Span:
        """Start a span as a child of the one in ``context``, with the attributes of ``parts``; do not make it current.

        ``start_time`` is in ns since 1970.
        """
        if not links:
            span: Span | None = self.lean(name, context, parts, start_time)
            if span is not None:
                return span
        return as_unsampled(  # type: ignore[no-any-return]
            self.start_span(name, context, attributes=merged(parts), links=links, start_time=start_time)
        )


def _lean_start_function(tracer: Any) -> Callable[..., Any]:
    """Return the function that starts lean spans. Loads that code only for a tracer of the SDK."""
    if type(tracer).__module__ != "opentelemetry.sdk.trace":
        return _no_lean_span
    from otelflow._spans.lean_tracer import starter_for

    return starter_for(tracer) or _no_lean_span


def has_lean_spans() -> bool | None:
    """Return whether the SDK in use supports lean spans; None if no span has been started on an SDK yet."""
    lean = sys.modules.get("otelflow._spans.lean_span")
    return None if lean is None else lean._known_shape


def _no_lean_span(*_: Any) -> None:
    """Start no lean span: the tracer has to start its spans itself."""


class _ApiGetter:
    """A stand-in for an API module without a variable ``_TRACER_PROVIDER``: calls the public getter."""

    @property
    def _TRACER_PROVIDER(self) -> Any:  # noqa: N802  # the API's name
        return trace.get_tracer_provider()


override: TracerProvider | None = None
"""The provider that replaces the program's own; see :func:`use_provider`."""
cached_source: tuple[object, TracerSource | None] = (object(), None)
"""The provider that was last in use, and its source."""
provider_holder: Any = trace if hasattr(trace, "_TRACER_PROVIDER") else _ApiGetter()
"""The object whose ``_TRACER_PROVIDER`` is the global provider.

While no provider is set, the API's own getter reads os.environ: 0.6 µs, a third of a task without an SDK."""


def global_provider() -> TracerProvider | None:
    """Return the global tracer provider; None if nobody has set one (the API's proxy does not count)."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def current_source() -> TracerSource | None:
    """Return the source of spans at this moment; None without an SDK.

    Each span reads it again: a ProxyTracer created at import would keep the first provider it sees. The fast path of
    tasks reads the same variables inline, without this call.
    """
    provider = override or provider_holder._TRACER_PROVIDER
    in_use, source = cached_source
    return source if in_use is provider else _resolve(provider)


def _resolve(provider: Any) -> TracerSource | None:
    """Create the source for ``provider``. Runs once for each provider, before the span's clock is read."""
    global cached_source
    import opentelemetry.baggage  # noqa: F401  # 2 ms that a program without flows does not need

    in_use = provider if provider is not None else trace.get_tracer_provider()
    tracer = in_use.get_tracer(SCOPE, __version__)
    is_no_op = isinstance(tracer, NoOpTracer | ProxyTracer)
    source = None if is_no_op else TracerSource(tracer)
    cached_source = (provider, source)
    return source


def is_overridden() -> bool:
    """Return whether a provider replaces the program's own, for example while a test captures spans."""
    return override is not None


@contextmanager
def use_provider(provider: TracerProvider) -> Iterator[None]:
    """Send otelflow's spans to ``provider`` instead of the global one, in the whole process, for this block."""
    global override
    before, override = override, provider
    try:
        yield
    finally:
        override = before
