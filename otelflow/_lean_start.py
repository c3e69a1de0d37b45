"""How lean spans are started: where the sampler's answer is known beforehand, and everything else is as usual."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, TraceFlags

from otelflow._lean import LeanSpan, has_known_shape
from otelflow._parts import Parts
from otelflow.context import SPAN_KEY

__all__ = ["Starter", "starter_for"]

Starter = Callable[[str, Context, Parts, int], "LeanSpan | None"]
"""Starts a span, from its name, context, attributes and time in ns; None where the public way has to be taken."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_HAS_RANDOM = hasattr(IdGenerator, "is_trace_id_random") and hasattr(TraceFlags, "RANDOM_TRACE_ID")  # since 1.43
_RANDOM = TraceFlags.RANDOM_TRACE_ID if _HAS_RANDOM else 0
_SAMPLED_RANDOM = TraceFlags(_SAMPLED | _RANDOM)


def starter_for(tracer: Any) -> Starter | None:
    """How spans of ``tracer`` are started leanly; None where that cannot be."""
    if type(tracer) is not Tracer or not has_known_shape() or tracer._span_limits.max_span_attribute_length is not None:
        return None
    below_none, below_local, below_remote = _always_sampled(tracer.sampler)
    return _starter(tracer, below_none, below_remote) if below_local else None


def _always_sampled(sampler: Any) -> tuple[bool, bool, bool]:
    """Whether ``sampler`` samples all spans without a parent, below a sampled local and a sampled remote one, and says
    nothing else: a sampler may add attributes, and change the trace state."""
    if sampler is ALWAYS_ON:
        return True, True, True
    if type(sampler) is not ParentBased:
        return False, False, False
    names = ("_root", "_local_parent_sampled", "_remote_parent_sampled")
    root, local, remote = (getattr(sampler, name, None) is ALWAYS_ON for name in names)
    return root, local, remote


def _class_for(tracer: Tracer) -> type[LeanSpan]:
    """LeanSpan with what all spans of ``tracer`` have in common, so that none has to carry it."""
    common = {
        "_instrumentation_info": tracer.instrumentation_info,
        "_instrumentation_scope": tracer._instrumentation_scope,
        "_limits": tracer._span_limits,
        "_sampler": tracer.sampler,
        "__module__": LeanSpan.__module__,
        "__qualname__": "LeanSpan",
    }
    return type("LeanSpan", (LeanSpan,), common)


def _metrics_of(tracer: Tracer) -> Any:
    """What counts spans for the SDK's metrics of itself; None where nothing does."""
    metrics = getattr(tracer, "_tracer_metrics", None)
    return None if type(metrics).__name__ == "NoOpTracerMetrics" else metrics


class _AlwaysEnabled:
    """Stands for the tracer where the SDK cannot disable one yet."""

    class _tracer_config:  # noqa: N801  # the SDK's name
        is_enabled = True


Ids = tuple["SpanContext | None", SpanContext]
"""The span context above, None for the first span of a trace, and the one of the new span."""


def _ids_below(tracer: Tracer, below_none: bool, below_remote: bool) -> Callable[[Any], Ids | None]:
    """What gives a span below another one its ids; None where the sampler has to be asked."""
    generator = tracer.id_generator
    new_trace_id, new_span_id = generator.generate_trace_id, generator.generate_span_id

    def ids_below(parent: Any) -> Ids | None:
        above = parent.get_span_context() if isinstance(parent, Span) else INVALID_SPAN_CONTEXT
        if type(above) is not SpanContext:
            return None
        if not above.is_valid:
            if not below_none:
                return None
            trace_id = new_trace_id()
            flags = _SAMPLED_RANDOM if _HAS_RANDOM and generator.is_trace_id_random() else _SAMPLED
            return None, SpanContext(trace_id, new_span_id(), False, flags)
        if not above.trace_flags.sampled or (above.is_remote and not below_remote):
            return None
        flags = _SAMPLED_RANDOM if above.trace_flags & _RANDOM else _SAMPLED
        return above, SpanContext(above.trace_id, new_span_id(), False, flags, above.trace_state)

    return ids_below


def _starter(tracer: Tracer, below_none: bool, below_remote: bool) -> Starter:
    metrics, ids_below = _metrics_of(tracer), _ids_below(tracer, below_none, below_remote)
    switch: Any = tracer if hasattr(tracer, "_tracer_config") else _AlwaysEnabled
    new_id = tracer.id_generator.generate_span_id
    new, new_tuple, new_lock, kind = object.__new__, tuple.__new__, threading.Lock, _class_for(tracer)
    usual_parent: Any = LeanSpan if _gives_valid_ids(tracer.id_generator) else ()

    def start(name: str, context: Context, parts: Parts, start_time: int) -> LeanSpan | None:
        if not switch._tracer_config.is_enabled:
            return None
        parent: Any = context.get(SPAN_KEY)
        if isinstance(parent, usual_parent):
            above = parent._context
            ids = new_tuple(SpanContext, (above[0], new_id(), False, above[3], above[4], True))
        else:
            found = ids_below(parent)
            if found is None:
                return None
            above, ids = found
        span = new(kind)
        span._name = name
        span._context = ids
        span._parent = above
        span._parts = parts
        span._start_time = start_time
        span._resource = tracer.resource
        span._lock = new_lock()
        span._span_processor = processor = tracer.span_processor
        if metrics is not None:
            span._record_end_metrics = metrics.start_span(above, Decision.RECORD_AND_SAMPLE)
        processor.on_start(span, parent_context=context)
        return span

    return start


def _gives_valid_ids(generator: Any) -> bool:
    """Whether an id needs no check: so a span context can be made without its constructor, which costs as much as all
    the rest of it."""
    return type(generator) is RandomIdGenerator or type(generator).__module__ == "otelflow._ids"
