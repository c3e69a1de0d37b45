"""Define the baseline for otelflow: the same spans written by hand, and the smallest span of the SDK."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry import trace
from opentelemetry.context import attach, detach

ATTRIBUTES = {
    "otelflow.kind": "task",
    "otelflow.task.name": "add",
    "code.function.name": "cases.add",
    "otelflow.task.run_id": "task_85981e9767fbdb71000000000003",
    "otelflow.flow.name": "root",
    "otelflow.flow.run_id": "flow_85981e9767fbdb71000000000000",
}
FLOW_ATTRIBUTES = {
    "otelflow.kind": "flow",
    "code.function.name": "cases.root",
    "otelflow.flow.name": "root",
    "otelflow.flow.run_id": "flow_85981e9767fbdb71000000000000",
}
MESSAGE = {"otelflow.message.text": "added", "otelflow.message.severity": "INFO"}
DATA = {"rows": 3}

tracer = trace.get_tracer("benchmark")


def set_up(mode: str, processor: Any = None) -> None:
    """Set the global provider. ``mode`` is ``recording``, ``sampled-out`` or ``no-sdk``.

    The default processor is a batch processor with an exporter that does nothing.
    """
    if mode != "no-sdk":
        trace.set_tracer_provider(provider_for(mode, processor or batch_processor(null_exporter())))


def provider_for(mode: str, processor: Any) -> Any:
    """Return a provider of the SDK."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased

    provider = TracerProvider(sampler=DEFAULT_ON if mode == "recording" else ParentBased(ALWAYS_OFF))
    provider.add_span_processor(processor)
    return provider


def null_exporter() -> Any:
    """Return an exporter that does nothing."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class NullExporter(SpanExporter):
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            pass

    return NullExporter()


def batch_processor(exporter: Any) -> Any:
    """Return the SDK's batch processor, with a queue that no sample fills."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return BatchSpanProcessor(exporter, max_queue_size=2**17)


def add(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        span.set_attribute("otelflow.status", "completed")
        return value


class Adder:
    def add(self, x: int) -> int:
        with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
            value = x + 1
            span.set_attribute("otelflow.status", "completed")
            return value


adder = Adder()


async def async_add(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        span.set_attribute("otelflow.status", "completed")
        return value


def add_raises(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES):
        raise ValueError(x)


def add_message(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        span.add_event("otelflow.message", MESSAGE)
        span.set_attribute("otelflow.status", "completed")
        return value


def add_artifact(x: int) -> int:
    with tracer.start_as_current_span("add", attributes=ATTRIBUTES) as span:
        value = x + 1
        text = json.dumps(DATA)
        artifact = {"otelflow.artifact.key": "rows", "otelflow.artifact.type": "json", "otelflow.artifact.data": text}
        span.add_event("otelflow.artifact", {**artifact, "otelflow.artifact.size": len(text)})
        span.set_attribute("otelflow.status", "completed")
        return value


def minimal(x: int) -> int:
    """Create only a span: no attributes, no generators behind ``with``, no status if it fails."""
    span = tracer.start_span("add")
    token = attach(trace.set_span_in_context(span))
    try:
        return x + 1
    finally:
        detach(token)
        span.end()


def root(x: int) -> int:
    with tracer.start_as_current_span("root", attributes=FLOW_ATTRIBUTES) as span:
        value = x + 1
        span.set_attributes({"otelflow.status": "completed", "otelflow.flow.tasks": 0, "otelflow.flow.tasks_failed": 0})
        return value
