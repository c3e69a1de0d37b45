"""The span of a task that was sampled out: it records nothing, and creates its id on the first read."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

__all__ = ["UnsampledSpan", "as_unsampled", "is_sampled_out"]


class UnsampledSpan(NonRecordingSpan):
    """A span in a trace that was sampled out.

    It has its own id, as the SDK's spans have, so that log lines can be distinguished. Most ids are never read. Run
    events use the span itself as its span context.
    """

    _template: Any
    """A span context of the same trace. Not the parent span: a reference to it would keep all spans up to the root."""
    _bit_source: Any
    """The generator of the random bits of its id."""

    def __init__(self, context: SpanContext) -> None:
        raise NotImplementedError("otelflow creates unsampled spans itself, without calling the constructor")

    def get_span_context(self) -> SpanContext:
        return self._context

    @property
    def _context(self) -> SpanContext:  # type: ignore[override]  # in the API's class it is a field
        context: Any = vars(self).get("_own")
        if context is None:
            trace_id, _, _, flags, state, _ = self._template
            candidate = SpanContext(trace_id, self._bit_source._bits(64) or 1, False, flags, state)
            context = vars(self).setdefault("_own", candidate)  # two threads both get the first one's
        return context  # type: ignore[no-any-return]

    @property
    def trace_id(self) -> int:
        return self._template.trace_id  # type: ignore[no-any-return]

    @property
    def span_id(self) -> int:
        return self._context.span_id

    @property
    def trace_flags(self) -> TraceFlags:
        return self._template.trace_flags  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        return NonRecordingSpan, (self._context,)


def is_sampled_out(span: NonRecordingSpan) -> bool:
    """Return whether the sampler of this process dropped ``span``."""
    _, _, is_remote, flags, _, is_valid = span._context
    return bool(is_valid) and not is_remote and not flags & 1


def as_unsampled(span: Any) -> Any:
    """Return a new span, as an :class:`UnsampledSpan` if it was sampled out: child tasks recognise the class."""
    if type(span) is not NonRecordingSpan or not is_sampled_out(span):
        return span
    unsampled = object.__new__(UnsampledSpan)
    unsampled._template = span._context
    vars(unsampled)["_own"] = span._context
    return unsampled
