"""A batch processor, and a receiver that answers as a test says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from http_receiver import Handler, HttpReceiver, spans_in
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.trace import TracerProvider

from otelflow._export.batch_processor import BatchProcessor
from otelflow._export.processors import ExportSpanProcessor
from otelflow._providers.exporters import make_exporter

Answer = tuple[int, dict[str, str], bytes]


OK: Answer = (200, {}, b"")


class AnsweringReceiver:
    """A receiver of OTLP over HTTP. ``answer(number, spans)`` returns the response to request ``number``."""

    def __init__(self, answer: Callable[[int, int], Answer]) -> None:
        self.accepted: list[str] = []
        """Names of the spans in requests that it answered with 200."""
        self.sizes: list[int] = []
        """Body sizes of all requests, in bytes."""
        self.times: list[float] = []
        self.malformed: set[str] = set()
        """Span names: it answers a request with one of these with 400."""
        self._answer = answer
        self._server = HttpReceiver(self._take, quiet=False)
        self.endpoint = self._server.endpoint

    def _take(self, request: Handler, body: bytes) -> None:
        self.sizes.append(len(body))
        self.times.append(time.monotonic())
        spans = [span for span, *_ in spans_in(ExportTraceServiceRequest.FromString(body))]
        status, headers, content = self._answer(len(self.sizes), len(spans))
        if self.malformed.intersection(span.name for span in spans):
            status = 400
        if status == 200:
            self.accepted += [span.name for span in spans]
        request.reply(status, headers, content)

    def close(self) -> None:
        self._server.close()


class Sending:
    """A provider with one pipeline to an endpoint."""

    def __init__(self, endpoint: str, **settings: Any) -> None:
        self.pipeline = BatchProcessor(make_exporter("otlp", endpoint), "otlp", **{"delay": 60.0, **settings})
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(ExportSpanProcessor(self.pipeline))
        self._tracer = self._provider.get_tracer("test")

    def spans(self, number: int, text: str = "") -> None:
        """Create and end ``number`` spans."""
        for count in range(number):
            self._tracer.start_span(f"span {count}", attributes={"text": text} if text else None).end()


def receiver_and_sender(
    closeables: list[Any], answer: Callable[[int, int], Answer], **settings: Any
) -> tuple[AnsweringReceiver, Sending]:
    """Create a receiver and a provider that sends to it, and add both to ``closeables``."""
    receiver = AnsweringReceiver(answer)
    sending = Sending(receiver.endpoint, **settings)
    closeables += [receiver, sending]
    return receiver, sending


def span_names(number: int) -> list[str]:
    """Return the names of the first ``number`` spans."""
    return [f"span {count}" for count in range(number)]
