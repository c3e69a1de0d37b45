"""The span of a task that was sampled out: it records nothing, and has an id once somebody asks for it."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

__all__ = ["UnsampledSpan", "is_sampled_out", "known_again"]


class UnsampledSpan(NonRecordingSpan):
    """A span in a trace that was sampled out. It has an id of its own, as the SDK's have, so that log lines can be told
    apart; most are never asked for it. In events it stands for its own context."""

    _like: Any
    """A span context of the same trace. Not the span above: that would hold all spans up to the root."""
    _source: Any
    """Where the bits of its id come from."""

    def __init__(self, context: SpanContext) -> None:
        raise NotImplementedError("made by what starts spans, from its fields")

    def get_span_context(self) -> SpanContext:
        return self._context

    @property
    def _context(self) -> SpanContext:  # type: ignore[override]  # in the API's class it is a field
        known: Any = vars(self).get("_own")
        if known is None:
            trace_id, _, _, flags, state, _ = self._like
            made = SpanContext(trace_id, self._source._bits(64) or 1, False, flags, state)
            known = vars(self).setdefault("_own", made)  # of two threads, both get the first one's
        return known  # type: ignore[no-any-return]

    @property
    def trace_id(self) -> int:
        return self._like.trace_id  # type: ignore[no-any-return]

    @property
    def span_id(self) -> int:
        return self._context.span_id

    @property
    def trace_flags(self) -> TraceFlags:
        return self._like.trace_flags  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        return NonRecordingSpan, (self._context,)


def is_sampled_out(span: NonRecordingSpan) -> bool:
    """Whether the sampler of this process dropped ``span``."""
    _, _, is_remote, flags, _, is_valid = span._context
    return bool(is_valid) and not is_remote and not flags & 1


def known_again(span: Any) -> Any:
    """``span``, just started; where it was sampled out, in the form in which the tasks below it know it at a look."""
    if type(span) is not NonRecordingSpan or not is_sampled_out(span):
        return span
    made = object.__new__(UnsampledSpan)
    made._like = span._context
    vars(made)["_own"] = span._context
    return made
