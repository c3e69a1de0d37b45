"""Cache the hooks of a provider's span processors; read them again when the provider gets another processor.

The SDK's own composite calls every processor through two calls each, also those whose hook does nothing. Together these
calls cost as much as creating the ids of a lean span.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, SynchronousMultiSpanProcessor

__all__ = ["ProcessorHooks"]

Hooks = tuple[Callable[..., Any], ...]

_HAS_ON_ENDING = hasattr(SpanProcessor, "_on_ending")  # since 1.40


class ProcessorHooks:
    """The hooks of one tracer's processors, in their order, without those that do nothing."""

    __slots__ = ("composite", "counts", "endings", "ends", "processors", "starts")

    def __init__(self, processor: Any, counts: bool) -> None:
        self.counts = counts
        """True if the SDK's metrics about itself count the end of a span."""
        self.composite: Any = (
            processor if type(processor) is SynchronousMultiSpanProcessor else _SingleProcessor(processor)
        )
        self.processors: Any = None
        """The composite's tuple of processors that the hooks were read from; adding a processor creates another tuple.

        Callers compare it by identity, and call ``refresh()`` if it has changed. The comparison is inlined there: a
        call would cost as much as a hook."""
        self.starts: Hooks = ()
        self.endings: Hooks = ()
        self.ends: Hooks = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the hooks again, so that processors added since are included."""
        processors = self.composite._span_processors
        self.starts = _hooks(processors, "on_start")
        self.endings = _hooks(processors, "_on_ending") if _HAS_ON_ENDING else ()
        self.ends = _hooks(processors, "on_end")
        self.processors = processors


class _SingleProcessor:
    """The composite's interface for a processor that is not the SDK's composite: it gets every call."""

    def __init__(self, processor: Any) -> None:
        self._span_processors = (processor,)


def _hooks(processors: Any, name: str) -> Hooks:
    no_op = getattr(SpanProcessor, name)
    return tuple(
        getattr(processor, name) for processor in processors if getattr(type(processor), name, None) is not no_op
    )
