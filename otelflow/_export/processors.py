"""The two doors from the SDK into a pipeline: for ended spans, and for log records."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otelflow._export.batch_processor import BatchProcessor
from otelflow._spans.lean_span import PendingEvents
from otelflow._spans.tracer import SCOPE

__all__ = ["ExportLogProcessor", "ExportSpanProcessor"]

_SHUTDOWN_SECONDS = 30.0
"""How long a provider's own ``shutdown()`` may wait; otelflow's is given its time by the caller."""


class _ExportProcessor:
    def __init__(self, pipeline: BatchProcessor) -> None:
        self.pipeline = pipeline

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True when everything so far was accepted within the time."""
        return self.pipeline.drain(timeout_millis / 1000) and not self.pipeline.stats().lost

    def shutdown(self) -> None:
        """Called by the provider's ``shutdown()``."""
        self.pipeline.stop(_SHUTDOWN_SECONDS)


class ExportSpanProcessor(_ExportProcessor, SpanProcessor):
    """Puts each ended span that was sampled into a pipeline."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags & 1:
            self.pipeline.put(span, _size(span))


def _size(span: Any) -> int:
    """The bytes of a span that may be large; 0 for the others, which the number of spans bounds. Ours without events
    are never asked: their attributes are capped, and this is on the path of each of them."""
    said = getattr(span, "_said", None)
    if type(said) is PendingEvents:
        size = sum([_bytes(attributes) for _, attributes, _ in said])
        return size if size > _SMALL else 0
    events, scope = span._events, span._instrumentation_scope
    if not events and scope is not None and scope.name == SCOPE:
        return 0
    size = _bytes(span._attributes) + sum([_bytes(event.attributes) for event in events])
    return size if size > _SMALL else 0


_SMALL = 2000
"""Bytes of values below which the number of spans is bound enough."""


def _bytes(attributes: Any) -> int:
    return sum([len(value) for value in (attributes or {}).values() if hasattr(value, "__len__")])


class ExportLogProcessor(_ExportProcessor, LogRecordProcessor):
    """Puts each log record into a pipeline."""

    def on_emit(self, log_record: Any) -> None:
        self.pipeline.put(log_record)

    emit = on_emit  # its name in SDKs before 1.39
