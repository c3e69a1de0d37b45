"""Child spans of the SDK at a third of their price: the same class, made from facts that are known already.

Two thirds of a span written by hand go into starting it: attributes are checked one by one, the sampler is asked what
its default always answers below a sampled local parent, and lists are made for events and links that never come. Here
the span gets its fields directly. It is the SDK's Span in everything that it does afterwards: the same processors are
told, the same limits hold, the same methods change it and end it.

This leans on names that the SDK keeps to itself. So a span of the SDK's own is looked at first: only where its fields
are exactly those known here, and everything about the tracer is as usual, this way is taken; else the public one is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from otelflow.context import SPAN_KEY

__all__ = ["LeanSpan", "starter_for"]

_ALWAYS = {
    "_attributes",
    "_context",
    "_end_time",
    "_events",
    "_instrumentation_info",
    "_instrumentation_scope",
    "_kind",
    "_limits",
    "_links",
    "_lock",
    "_name",
    "_parent",
    "_record_exception",
    "_resource",
    "_sampler",
    "_set_status_on_exception",
    "_span_processor",
    "_start_time",
    "_status",
    "_trace_config",
}
_SOMETIMES = {"_record_end_metrics"}  # since 1.40
_OF_ATTRIBUTES = {"_dict", "_immutable", "_lock", "dropped", "max_value_len", "maxlen"}
_SOMETIMES_OF_ATTRIBUTES = {"_extended_attributes"}  # until 1.44


class LeanSpan(Span):
    """A span of the SDK that makes its lists of events and links when there is something to put in."""

    _events: Any = ()
    _links: Any = ()
    _status = Status(StatusCode.UNSET)
    _kind = SpanKind.INTERNAL
    _end_time = None
    _instrumentation_info: Any = None
    _trace_config = None
    _record_end_metrics = None
    _record_exception = True
    _set_status_on_exception = True

    def _add_event(self, event: Any) -> None:
        if not self._events:
            with self._lock:
                if not self._events and self._end_time is None:
                    self._events = BoundedList(self._limits.max_events)
        super()._add_event(event)

    def _add_link(self, link: Any) -> None:
        if not self._links:
            with self._lock:
                if not self._links and self._end_time is None:
                    self._links = BoundedList(self._limits.max_links)
        super()._add_link(link)


Starter = Callable[[str, Context, "dict[str, Any]", int], "Span | None"]
"""Starts a child span, from its name, context, attributes and time in ns; None where the public way has to be taken."""


def starter_for(tracer: Any) -> Starter | None:
    """How child spans of ``tracer`` are started leanly; None where that cannot be."""
    if type(tracer) is not Tracer or not _has_known_shape() or not _is_usual(tracer):
        return None
    return _starter(tracer)


_known_shape: bool | None = None


def _has_known_shape() -> bool:
    """Whether the SDK's spans have the fields that are known here. Looked at once a process."""
    global _known_shape
    if _known_shape is None:
        try:
            _known_shape = _look()
        except Exception:  # whatever another version may do
            _known_shape = False
    return _known_shape


def _look() -> bool:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    span = provider.get_tracer("otelflow.shape").start_span("shape", attributes={"key": "value"})
    fields, of_attributes = set(vars(span)), set(vars(span._attributes))  # type: ignore[attr-defined]
    return (
        fields - _SOMETIMES == _ALWAYS
        and of_attributes - _SOMETIMES_OF_ATTRIBUTES == _OF_ATTRIBUTES
        and isinstance(span, Span)
        and type(span._lock) in (type(threading.Lock()), type(threading.RLock()))
    )


def _is_usual(tracer: Tracer) -> bool:
    """Whether the sampler's answer below a sampled local parent is known, and values are not to be cut by the SDK."""
    sampler, limits = tracer.sampler, tracer._span_limits
    most = limits.max_span_attributes
    return (
        type(sampler) is ParentBased
        and getattr(sampler, "_local_parent_sampled", None) is ALWAYS_ON
        and limits.max_span_attribute_length is None
        and (most is None or most >= _MOST_ATTRIBUTES)
    )


_MOST_ATTRIBUTES = 32
"""Spans with more attributes at their start than this take the public way, which applies the limits."""


def _starter(tracer: Tracer) -> Starter:
    config: Any = getattr(tracer, "_tracer_config", None)
    scope, info, limits = tracer._instrumentation_scope, tracer.instrumentation_info, tracer._span_limits
    new_id, most = tracer.id_generator.generate_span_id, limits.max_span_attributes
    new_span, new_attributes = object.__new__, object.__new__

    def start(name: str, context: Context, attributes: dict[str, Any], start_time: int) -> Span | None:
        parent: Any = context.get(SPAN_KEY)
        if not isinstance(parent, Span) or len(attributes) > _MOST_ATTRIBUTES:
            return None
        above = parent._context
        flags = above.trace_flags  # type: ignore[union-attr]
        if above.is_remote or not flags & 1 or (config is not None and not config.is_enabled):  # type: ignore[union-attr]
            return None
        made: Any = new_attributes(BoundedAttributes)
        made._dict = attributes
        made.maxlen, made.max_value_len = most, None
        made.dropped, made._immutable, made._extended_attributes = 0, False, False
        made._lock = threading.Lock()
        span = new_span(LeanSpan)
        span._name = name
        span._context = SpanContext(above.trace_id, new_id(), False, flags, above.trace_state)  # type: ignore[union-attr]
        span._parent = above
        span._attributes = made
        span._start_time = start_time
        span._instrumentation_scope, span._instrumentation_info, span._limits = scope, info, limits
        span._resource, span._sampler = tracer.resource, tracer.sampler
        span._span_processor = tracer.span_processor
        span._lock = threading.Lock()
        tracer.span_processor.on_start(span, parent_context=context)
        return span

    return start
