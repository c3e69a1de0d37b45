"""The two doors from the SDK into a pipeline: for ended spans, and for log records."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from otelflow._pipeline import Pipeline

__all__ = ["LogDoor", "SpanDoor"]

_SHUTDOWN_SECONDS = 30.0
"""How long a provider's own ``shutdown()`` may wait; otelflow's is given its time by the caller."""


class _Door:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True when everything so far was accepted within the time."""
        return self.pipeline.drain(timeout_millis / 1000) and not self.pipeline.account().lost

    def shutdown(self) -> None:
        """Called by the provider's ``shutdown()``."""
        self.pipeline.stop(_SHUTDOWN_SECONDS)


class SpanDoor(_Door, SpanProcessor):
    """Puts each ended span that was sampled into a pipeline."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self.pipeline.put(span)


class LogDoor(_Door, LogRecordProcessor):
    """Puts each log record into a pipeline."""

    def on_emit(self, log_record: Any) -> None:
        self.pipeline.put(log_record)

    emit = on_emit  # its name in SDKs before 1.39
