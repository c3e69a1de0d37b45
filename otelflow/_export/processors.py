"""Processors of the SDK that put ended spans and log records into a batch processor."""

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
"""Time limit of the provider's ``shutdown()``; for ``otelflow.shutdown()``, the caller sets the limit."""


class _ExportProcessor:
    """Base of both processors: flushes and stops the batch processor."""

    def __init__(self, pipeline: BatchProcessor) -> None:
        self.pipeline = pipeline

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush within the time. Return True if every item so far was accepted."""
        return self.pipeline.drain(timeout_millis / 1000) and not self.pipeline.stats().lost

    def shutdown(self) -> None:
        """Stop the batch processor; called by the provider's ``shutdown()``."""
        self.pipeline.stop(_SHUTDOWN_SECONDS)


class ExportSpanProcessor(_ExportProcessor, SpanProcessor):
    """Puts each ended span that was sampled into a batch processor."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags & 1:
            self.pipeline.put(span, _size(span))


def _size(span: Any) -> int:
    """Return the bytes of a large span; 0 for a small one, for which the limit of the number of spans is enough.

    Spans of otelflow without events are not measured: their attributes are limited, and this runs for each span.
    """
    pending_events = getattr(span, "_event_list", None)
    if type(pending_events) is PendingEvents:
        size = sum([_bytes(attributes) for _, attributes, _ in pending_events])
        return size if size > _SMALL_SPAN else 0
    events, scope = span._events, span._instrumentation_scope
    if not events and scope is not None and scope.name == SCOPE:
        return 0
    size = _bytes(span._attributes) + sum([_bytes(event.attributes) for event in events])
    return size if size > _SMALL_SPAN else 0


_SMALL_SPAN = 2000
"""Bytes of values up to which a span counts as small."""


def _bytes(attributes: Any) -> int:
    return sum([len(value) for value in (attributes or {}).values() if hasattr(value, "__len__")])


class ExportLogProcessor(_ExportProcessor, LogRecordProcessor):
    """Puts each log record into a batch processor."""

    def on_emit(self, log_record: Any) -> None:
        self.pipeline.put(log_record)

    emit = on_emit  # the name of the method in SDKs before 1.39
