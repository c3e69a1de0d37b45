"""Which span processors are told of a span: asked of the provider once, and again when it has got one more.

The SDK's own composite calls every processor, also those that have nothing to do at that moment, through two calls
each: together as much as making a lean span's ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor

__all__ = ["ProcessorHooks"]

Hooks = tuple[Callable[..., Any], ...]

_HAS_ON_ENDING = hasattr(SpanProcessor, "_on_ending")  # since 1.40


class ProcessorHooks:
    """The hooks of one tracer's processors, in their order; those that do nothing are left out."""

    __slots__ = ("composite", "counts", "endings", "ends", "processors", "starts")

    def __init__(self, processor: Any, counts: bool) -> None:
        self.counts = counts
        """Whether the SDK's metrics of itself want to know of the end."""
        self.composite: Any = processor if type(processor) is SynchronousMultiSpanProcessor else _Alone(processor)
        self.processors: Any = None
        """The composite's at the last look: a tuple, which it makes anew when one is added. Whoever uses the hooks
        looks again where it is another one: asked by them, as a call for it would cost as much as a hook."""
        self.starts: Hooks = ()
        self.endings: Hooks = ()
        self.ends: Hooks = ()
        self.refresh()

    def refresh(self) -> None:
        """Make sure that processors added since are among them."""
        processors = self.composite._span_processors
        self.starts = _hooks(processors, "on_start")
        self.endings = _hooks(processors, "_on_ending") if _HAS_ON_ENDING else ()
        self.ends = _hooks(processors, "on_end")
        self.processors = processors


class _Alone:
    """A processor that is no composite of the known kind: it says itself what becomes of a call."""

    def __init__(self, processor: Any) -> None:
        self._span_processors = (processor,)


def _hooks(processors: Any, name: str) -> Hooks:
    nothing = getattr(SpanProcessor, name)
    return tuple(getattr(one, name) for one in processors if getattr(type(one), name, None) is not nothing)
