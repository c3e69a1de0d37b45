"""Start lean spans: only if the sampler's decision is known in advance and nothing else is unusual."""

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
"""Start a span with its name, context, attributes and start time in ns.

Returns a :class:`LeanSpan`, or an :class:`UnsampledSpan` below an unsampled span. None means that the caller has to
start the span through the public API."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_HAS_RANDOM = hasattr(IdGenerator, "is_trace_id_random") and hasattr(TraceFlags, "RANDOM_TRACE_ID")  # since 1.43
_RANDOM = TraceFlags.RANDOM_TRACE_ID if _HAS_RANDOM else 0
_SAMPLED_RANDOM = TraceFlags(_SAMPLED | _RANDOM)


def starter_for(tracer: Any) -> Starter | None:
    """Return the function that starts lean spans of ``tracer``; None if this tracer cannot have lean spans."""
    if type(tracer) is not Tracer or not has_known_shape():
        return None
    decisions = _decisions_of(tracer.sampler)
    if tracer._span_limits.max_span_attribute_length is not None:  # the SDK has to look at each value
        decisions = decisions._replace(root=False, local=False, remote=False)
    return _starter(tracer, decisions) if decisions.local or decisions.unsampled else None


class _SamplerDecisions(NamedTuple):
    """The decisions of a sampler that are known in advance.

    Only samplers are known that neither add attributes nor change the trace state.
    """

    root: bool
    """True if the first span of a trace is always sampled."""
    local: bool
    """True if each child of a sampled span of this process is sampled."""
    remote: bool
    """True if each child of a sampled span of another process is sampled."""
    unsampled: bool
    """True if no child of an unsampled span of this process is sampled."""


def _decisions_of(sampler: Any) -> _SamplerDecisions:
    if sampler is ALWAYS_ON or sampler is ALWAYS_OFF:
        is_on = sampler is ALWAYS_ON
        return _SamplerDecisions(is_on, is_on, is_on, not is_on)
    if type(sampler) is not ParentBased:
        return _SamplerDecisions(False, False, False, False)
    names = ("_root", "_local_parent_sampled", "_remote_parent_sampled")
    root, local, remote = (getattr(sampler, name, None) is ALWAYS_ON for name in names)
    return _SamplerDecisions(root, local, remote, getattr(sampler, "_local_parent_not_sampled", None) is ALWAYS_OFF)


def _create_span_class(tracer: Tracer) -> type[LeanSpan]:
    """Create a subclass of LeanSpan that holds what all spans of ``tracer`` have in common."""
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


def _tracer_metrics(tracer: Tracer) -> Any:
    """Return what counts spans for the SDK's metrics about itself; None if they are off."""
    metrics = getattr(tracer, "_tracer_metrics", None)
    return None if type(metrics).__name__ == "NoOpTracerMetrics" else metrics


class _AlwaysEnabled:
    """A stand-in for the tracer in SDK versions that cannot disable a tracer."""

    class _tracer_config:  # noqa: N801  # the SDK's name
        is_enabled = True


Ids = tuple["SpanContext | None", SpanContext]
"""The span context of the parent (None for the first span of a trace), and that of the new span."""


def _child_ids(tracer: Tracer, decisions: _SamplerDecisions) -> Callable[[Any], Ids | None]:
    """Return a function that creates the ids of a sampled child; it returns None if the sampler must be called."""
    generator = tracer.id_generator
    new_trace_id, new_span_id = generator.generate_trace_id, generator.generate_span_id

    def child_ids(parent: Any) -> Ids | None:
        parent_ids = parent.get_span_context() if isinstance(parent, Span) else INVALID_SPAN_CONTEXT
        if type(parent_ids) is not SpanContext:
            return None
        if not parent_ids.is_valid:
            if not decisions.root:
                return None
            trace_id = new_trace_id()
            flags = _SAMPLED_RANDOM if _HAS_RANDOM and generator.is_trace_id_random() else _SAMPLED
            return None, SpanContext(trace_id, new_span_id(), False, flags)
        if not parent_ids.trace_flags.sampled or not (decisions.remote if parent_ids.is_remote else decisions.local):
            return None
        flags = _SAMPLED_RANDOM if parent_ids.trace_flags & _RANDOM else _SAMPLED
        return parent_ids, SpanContext(parent_ids.trace_id, new_span_id(), False, flags, parent_ids.trace_state)

    return child_ids


def _starter(tracer: Tracer, decisions: _SamplerDecisions) -> Starter:
    metrics, span_class = _tracer_metrics(tracer), _create_span_class(tracer)
    source = _bit_source(tracer.id_generator)
    lean_parent = span_class if source is not None and decisions.local else None
    drops_spans = source is not None and decisions.unsampled and metrics is None
    hooks = span_class._hooks = ProcessorHooks(tracer.span_processor, metrics is not None)
    return _start_function(
        tracer, span_class, hooks, metrics, source, lean_parent, drops_spans, _child_ids(tracer, decisions)
    )


def _start_function(
    tracer: Tracer,
    span_class: Any,
    hooks: ProcessorHooks,
    metrics: Any,
    source: Any,
    lean_parent: Any,
    drops_spans: bool,
    child_ids: Any,
) -> Starter:
    switch: Any = tracer if hasattr(tracer, "_tracer_config") else _AlwaysEnabled
    new, new_tuple, new_lock, composite = object.__new__, tuple.__new__, type(threading.RLock()), hooks.composite

    def start(name: str, context: Context, parts: SharedAttributes, start_time: int) -> Any:
        parent: Any = context.get(SPAN_KEY)
        parent_type = type(parent)  # not isinstance: the SDK's spans have a slow one, of ABCMeta
        if not switch._tracer_config.is_enabled or SUPPRESS_KEY in context:
            return None
        if parent_type is lean_parent:
            parent_ids = parent._context
            ids = new_tuple(
                SpanContext, (parent_ids[0], source._bits(64) or 1, False, parent_ids[3], parent_ids[4], True)
            )
        elif drops_spans and (
            parent_type is UnsampledSpan or (parent_type is NonRecordingSpan and is_sampled_out(parent))
        ):
            dropped = new(UnsampledSpan)
            dropped._bit_source, dropped._template = (
                source,
                parent._template if parent_type is UnsampledSpan else parent._context,
            )
            return dropped
        elif (id_pair := child_ids(parent)) is None:
            return None
        else:
            parent_ids, ids = id_pair
        span = new(span_class)
        span._name, span._context, span._parent = name, ids, parent_ids
        span._parts, span._start_time, span._resource = parts, start_time, tracer.resource
        span._lock = new_lock()
        span._own = span._end_time = None
        if metrics is not None:
            span._record_end_metrics = metrics.start_span(parent_ids, Decision.RECORD_AND_SAMPLE)
        if composite._span_processors is not hooks.processors:
            hooks.refresh()
        for on_start in hooks.starts:
            on_start(span, parent_context=context)
        return span

    return start


class _RandomModule:
    """The bit source of the SDK's own generator: the module ``random``, which reseeds itself in a forked child."""

    _bits = staticmethod(random.getrandbits)


def _bit_source(generator: Any) -> Any:
    """Return the bit source of a known id generator; None for others.

    Ids of other generators need a check. The constructor of SpanContext does it, and costs as much as all the rest.
    """
    if type(generator) is RandomIdGenerator:
        return _RandomModule
    return generator if type(generator).__module__ == "otelflow._spans.id_generator" else None
