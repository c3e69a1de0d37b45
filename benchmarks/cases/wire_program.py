"""Record spans and send them, with otelflow or by hand: ``wire_program.py VARIANT SPANS``.

The program prints the CPU cost of its own process, in yardsticks a span: in total, and of the exporter alone.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from harness import yardstick
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

SPANS_PER_FLOW = 50
"""Spans of one flow, its root included."""

Work = Callable[[int], None]
"""Runs the given number of flows."""


def otelflow() -> tuple[Work, Callable[[], None]]:
    from cases import add

    from otelflow import FlowRunConfig, configure, flow, flush

    configure("benchmark")

    @flow(name="root", flow_config=FlowRunConfig(capture_output=False))
    def root() -> None:
        for x in range(SPANS_PER_FLOW - 1):
            add(x)

    def work(flows: int) -> None:
        for _ in range(flows):
            root().execute()

    return work, lambda: flush(120) and None


def by_hand() -> tuple[Work, Callable[[], None]]:
    """Use the SDK's batch processor, with a queue for all spans: with the default size, most would be lost."""
    from by_hand import FLOW_ATTRIBUTES, add, tracer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"].removesuffix("/protobuf")
    exporter = import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter").OTLPSpanExporter
    provider = TracerProvider(resource=Resource.create({"service.name": "benchmark"}))
    sizes = {} if "--burst" in sys.argv else {"max_queue_size": 2**20}
    provider.add_span_processor(BatchSpanProcessor(exporter(), **sizes))
    trace.set_tracer_provider(provider)

    def work(flows: int) -> None:
        for _ in range(flows):
            with tracer.start_as_current_span("root", attributes=FLOW_ATTRIBUTES):
                for x in range(SPANS_PER_FLOW - 1):
                    add(x)

    return work, lambda: provider.force_flush(120_000) and None


class CollectSpans(SpanProcessor):
    """Span processor that collects ended spans, so that they can be exported again."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def on_end(self, span: Any) -> None:
        self.spans.append(span)


def cost(work: Callable[[], None], spans: int) -> tuple[float, float]:
    """Return the CPU cost of ``work`` in this process, in yardsticks a span; and the yardstick, in seconds."""
    before = [yardstick() for _ in range(7)]
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    yard = statistics.median([*before, *(yardstick() for _ in range(7))])
    return seconds / yard / spans, yard


def send_again(spans: list[Any], flush: Callable[[], None]) -> None:
    on_end = trace.get_tracer_provider()._active_span_processor._span_processors[0].on_end  # type: ignore[attr-defined]
    for span in spans:
        on_end(span)
    flush()


def main() -> None:
    variant, spans = sys.argv[1], int(sys.argv[2])
    work, flush = {"otelflow": otelflow, "by-hand": by_hand}[variant]()
    if "--burst" not in sys.argv:
        work(1)
    flush()

    def record_and_send() -> None:
        work(spans // SPANS_PER_FLOW)
        flush()

    total, yard = cost(record_and_send, spans)
    results: dict[str, float] = {"total": total, "yard": yard}
    if "--burst" not in sys.argv:
        collector = CollectSpans()
        trace.get_tracer_provider().add_span_processor(collector)  # type: ignore[attr-defined]
        work(spans // SPANS_PER_FLOW)
        flush()
        results["exporter"] = cost(lambda: send_again(collector.spans, flush), spans)[0]
    print(json.dumps(results))


if __name__ == "__main__":
    main()
