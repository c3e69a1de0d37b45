"""Deliver a request to a destination: whole, or in parts if it is too large or malformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from otelflow._otlp.exporter import new_sender as otlp_sender
from otelflow._otlp.partition import Part, Partition
from otelflow._otlp.response import Outcome, Response, Sender
from otelflow_exporters._spool.destination import Destination

__all__ = ["count_spans", "deliver", "encode", "new_sender", "split"]

_MAX_WHOLE_REQUEST_BYTES = 3_500_000
"""Size above which a request is always split before it is sent: the Collector's gRPC receiver accepts 4 MiB."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Encode spans as a request."""
    encoded: bytes = encode_spans(spans).SerializeToString()
    return encoded


def count_spans(payload: bytes) -> int:
    """Return the number of spans in a request; 0 if the bytes are not a request."""
    try:
        request = ExportTraceServiceRequest.FromString(payload)
    except Exception:
        return 0
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def split(payload: bytes) -> tuple[bytes, bytes] | None:
    """Return the request as two requests with half the spans each. None if it has fewer than two spans."""
    total = count_spans(payload)
    if total < 2:
        return None
    halves = []
    for low, high in ((0, total // 2), (total // 2, total)):
        request, position = ExportTraceServiceRequest.FromString(payload), 0
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                count = len(scope.spans)
                del scope.spans[max(0, high - position) :]
                del scope.spans[: max(0, low - position)]
                position += count
        halves.append(request.SerializeToString())
    return halves[0], halves[1]


def deliver(
    payload: bytes,
    spans: int,
    send: Callable[[Part], Response | None],
    on_settled: Callable[[int, str | None, str], None],
) -> bool:
    """Send a request, in parts if necessary. Return what :meth:`otelflow._otlp.partition.Partition.deliver` does."""

    def send_small(part: Part) -> Response | None:
        if len(part.payload) > _MAX_WHOLE_REQUEST_BYTES and count_spans(part.payload) > 1:
            return Response(Outcome.TOO_LARGE)
        return send(part)

    return Partition(send_small, split, on_settled).deliver(Part(payload, spans, True))


def new_sender(destination: Destination) -> Sender:
    """Return a sender to ``destination``.

    Raises:
        ImportError: A library is missing; the text says how to install it.
    """
    try:
        return otlp_sender(destination.endpoint)
    except ImportError as error:
        raise ImportError(
            f"otelflow_spool cannot send to {destination.display_url}: {error}. Install what it needs: "
            "pip install 'otelflow-exporters[spool]'"
        ) from error
