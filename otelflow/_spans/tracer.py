"""Which OpenTelemetry is in use right now, and how a span of ours is started on it."""

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
from otelflow._spans.unsampled_span import known_again
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
"""Name of the instrumentation scope of our spans."""


def _self_metrics() -> bool:
    return os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"


class TracerSource:
    """The tracer of one provider, and what may be left out when a span is started on it."""

    __slots__ = ("lean", "start_span", "tracer")

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.start_span: Callable[..., Span] = tracer.start_span
        self.lean: Callable[..., Any] = _lean_starter(tracer)
        """How a span is started with what is known of the SDK; gives None where that is not enough."""

    def start(self, name: str, context: Context, parts: SharedAttributes, start_time: int, links: Any = None) -> Span:
        """A span as a child of the one in ``context``, not made current, with the attributes that ``parts`` stand for.
        ``start_time`` is in ns since 1970."""
        if not links:
            span: Span | None = self.lean(name, context, parts, start_time)
            if span is not None:
                return span
        return known_again(  # type: ignore[no-any-return]
            self.start_span(name, context, attributes=merged(parts), links=links, start_time=start_time)
        )


def _lean_starter(tracer: Any) -> Callable[..., Any]:
    """The lean way to start spans, for an SDK that is loaded already."""
    if type(tracer).__module__ != "opentelemetry.sdk.trace":
        return _not_lean
    from otelflow._spans.lean_tracer import starter_for

    return starter_for(tracer) or _not_lean


def has_lean_spans() -> bool | None:
    """Whether spans can be made leanly with the SDK that is in use; None where none has been asked yet."""
    lean = sys.modules.get("otelflow._spans.lean_span")
    return None if lean is None else lean._known_shape


def _not_lean(*_: Any) -> None:
    """Of a tracer whose spans have to be started by itself."""


class _Asked:
    """Stands for the API's module where that does not keep the global provider under the name that is known here."""

    @property
    def _TRACER_PROVIDER(self) -> Any:  # noqa: N802  # the API's name
        return trace.get_tracer_provider()


override: TracerProvider | None = None
"""What stands in for the program's own provider; see :func:`use_provider`."""
known: tuple[object, TracerSource | None] = (object(), None)
"""The provider that was in use at the last look, and its source."""
keeper: Any = trace if hasattr(trace, "_TRACER_PROVIDER") else _Asked()
"""What has the global provider. The API's own getter looks into os.environ while none is set: 0.6 µs, a third of a task
without an SDK."""


def global_provider() -> TracerProvider | None:
    """The global tracer provider that someone set; None where there is none (the API's proxy does not count)."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def current_source() -> TracerSource | None:
    """Where spans come from at this moment; None where there is no SDK.

    Asked anew for each span: a ProxyTracer made at import would keep the first provider that it met. A call of a task
    asks in the same way, without this call.
    """
    provider = override or keeper._TRACER_PROVIDER
    in_use, source = known
    return source if in_use is provider else _resolve(provider)


def _resolve(provider: Any) -> TracerSource | None:
    """What is done once a provider, and not within the time of a span."""
    global known
    import opentelemetry.baggage  # noqa: F401  # 2 ms that a program without flows does not need

    in_use = provider if provider is not None else trace.get_tracer_provider()
    tracer = in_use.get_tracer(SCOPE, __version__)
    nothing = isinstance(tracer, NoOpTracer | ProxyTracer)
    source = None if nothing else TracerSource(tracer)
    known = (provider, source)
    return source


def is_overridden() -> bool:
    """Whether spans go to a provider that stands in for the program's own, as while a test captures them."""
    return override is not None


@contextmanager
def use_provider(provider: TracerProvider) -> Iterator[None]:
    """Within this block, in the whole process, our spans go to ``provider`` instead of the global one."""
    global override
    before, override = override, provider
    try:
        yield
    finally:
        override = before
