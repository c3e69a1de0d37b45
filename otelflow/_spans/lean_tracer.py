"""How lean spans are started: where the sampler's answer is known beforehand, and everything else is as usual."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, Span, SpanContext, TraceFlags

from otelflow._spans.lean_span import LeanSpan, has_known_shape
from otelflow._spans.processor_hooks import ProcessorHooks
from otelflow._spans.shared_attributes import SharedAttributes
from otelflow._spans.unsampled_span import UnsampledSpan, is_sampled_out
from otelflow.context import SPAN_KEY, SUPPRESS_KEY

__all__ = ["Starter", "starter_for"]

Starter = Callable[[str, Context, SharedAttributes, int], Any]
"""Starts a span, from its name, context, attributes and time in ns: a :class:`LeanSpan`, or one that records nothing
below one that records nothing. None where the public way has to be taken."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_HAS_RANDOM = hasattr(IdGenerator, "is_trace_id_random") and hasattr(TraceFlags, "RANDOM_TRACE_ID")  # since 1.43
_RANDOM = TraceFlags.RANDOM_TRACE_ID if _HAS_RANDOM else 0
_SAMPLED_RANDOM = TraceFlags(_SAMPLED | _RANDOM)


def starter_for(tracer: Any) -> Starter | None:
    """How spans of ``tracer`` are started leanly; None where that cannot be."""
    if type(tracer) is not Tracer or not has_known_shape():
        return None
    answers = _answers(tracer.sampler)
    if tracer._span_limits.max_span_attribute_length is not None:  # the SDK has to look at each value
        answers = answers._replace(root=False, local=False, remote=False)
    return _starter(tracer, answers) if answers.local or answers.unsampled else None


class _Answers(NamedTuple):
    """Where a sampler's answer is known beforehand, and nothing more comes with it: others may add attributes, and
    change the trace state."""

    root: bool
    """The first span of a trace is sampled."""
    local: bool
    """So is each one below a sampled span of this process,"""
    remote: bool
    """and of another one."""
    unsampled: bool
    """Nothing is sampled below an unsampled span of this process."""


def _answers(sampler: Any) -> _Answers:
    if sampler is ALWAYS_ON or sampler is ALWAYS_OFF:
        is_on = sampler is ALWAYS_ON
        return _Answers(is_on, is_on, is_on, not is_on)
    if type(sampler) is not ParentBased:
        return _Answers(False, False, False, False)
    names = ("_root", "_local_parent_sampled", "_remote_parent_sampled")
    root, local, remote = (getattr(sampler, name, None) is ALWAYS_ON for name in names)
    return _Answers(root, local, remote, getattr(sampler, "_local_parent_not_sampled", None) is ALWAYS_OFF)


def _class_for(tracer: Tracer) -> type[LeanSpan]:
    """LeanSpan with what all spans of ``tracer`` have in common, so that none has to carry it."""
    common = {
        "_instrumentation_info": tracer.instrumentation_info,
        "_instrumentation_scope": tracer._instrumentation_scope,
        "_limits": tracer._span_limits,
        "_sampler": tracer.sampler,
        "_span_processor": tracer.span_processor,
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


def _ids_below(tracer: Tracer, answers: _Answers) -> Callable[[Any], Ids | None]:
    """What gives a sampled span below another one its ids; None where the sampler has to be asked."""
    generator = tracer.id_generator
    new_trace_id, new_span_id = generator.generate_trace_id, generator.generate_span_id

    def ids_below(parent: Any) -> Ids | None:
        above = parent.get_span_context() if isinstance(parent, Span) else INVALID_SPAN_CONTEXT
        if type(above) is not SpanContext:
            return None
        if not above.is_valid:
            if not answers.root:
                return None
            trace_id = new_trace_id()
            flags = _SAMPLED_RANDOM if _HAS_RANDOM and generator.is_trace_id_random() else _SAMPLED
            return None, SpanContext(trace_id, new_span_id(), False, flags)
        if not above.trace_flags.sampled or not (answers.remote if above.is_remote else answers.local):
            return None
        flags = _SAMPLED_RANDOM if above.trace_flags & _RANDOM else _SAMPLED
        return above, SpanContext(above.trace_id, new_span_id(), False, flags, above.trace_state)

    return ids_below


def _starter(tracer: Tracer, answers: _Answers) -> Starter:
    metrics, kind = _metrics_of(tracer), _class_for(tracer)
    source = _bits_of(tracer.id_generator)
    lean_parent = kind if source is not None and answers.local else None
    drops = source is not None and answers.unsampled and metrics is None
    told = kind._told = ProcessorHooks(tracer.span_processor, metrics is not None)
    return _start_of(tracer, kind, told, metrics, source, lean_parent, drops, _ids_below(tracer, answers))


def _start_of(
    tracer: Tracer,
    kind: Any,
    told: ProcessorHooks,
    metrics: Any,
    source: Any,
    lean_parent: Any,
    drops: bool,
    ids_below: Any,
) -> Starter:
    switch: Any = tracer if hasattr(tracer, "_tracer_config") else _AlwaysEnabled
    new, new_tuple, new_lock, composite = object.__new__, tuple.__new__, type(threading.RLock()), told.composite

    def start(name: str, context: Context, parts: SharedAttributes, start_time: int) -> Any:
        parent: Any = context.get(SPAN_KEY)
        above_is = type(parent)  # not isinstance: the SDK's spans have a slow one, of ABCMeta
        if not switch._tracer_config.is_enabled or SUPPRESS_KEY in context:
            return None
        if above_is is lean_parent:
            above = parent._context
            ids = new_tuple(SpanContext, (above[0], source._bits(64) or 1, False, above[3], above[4], True))
        elif drops and (above_is is UnsampledSpan or (above_is is NonRecordingSpan and is_sampled_out(parent))):
            dropped = new(UnsampledSpan)
            dropped._source, dropped._like = source, parent._like if above_is is UnsampledSpan else parent._context
            return dropped
        elif (found := ids_below(parent)) is None:
            return None
        else:
            above, ids = found
        span = new(kind)
        span._name, span._context, span._parent = name, ids, above
        span._parts, span._start_time, span._resource = parts, start_time, tracer.resource
        span._lock = new_lock()
        span._own = span._end_time = None
        if metrics is not None:
            span._record_end_metrics = metrics.start_span(above, Decision.RECORD_AND_SAMPLE)
        if composite._span_processors is not told.processors:
            told.refresh()
        for on_start in told.starts:
            on_start(span, parent_context=context)
        return span

    return start


class _OfTheModule:
    """What the SDK's own generator draws from. A forked child has another seed there, by the module's own care."""

    _bits = staticmethod(random.getrandbits)


def _bits_of(generator: Any) -> Any:
    """Where a known generator of ids has its bits from; None for others, whose ids have to be checked: a span
    context's constructor does, and costs as much as all the rest of it."""
    if type(generator) is RandomIdGenerator:
        return _OfTheModule
    return generator if type(generator).__module__ == "otelflow._spans.id_generator" else None
