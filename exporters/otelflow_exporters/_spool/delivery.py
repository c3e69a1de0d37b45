"""Deliver a request to a destination: whole, or in parts where it is too large or malformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from otelflow._otlp.exporter import new_sender as otlp_sender
from otelflow._otlp.partition import Part, Partition
from otelflow._otlp.response import Outcome, Response, Sender
from otelflow_exporters._spool.destination import Destination

__all__ = ["deliver", "encode", "new_sender", "spans_of", "split"]

_MOST_BYTES = 3_500_000
"""Beyond it a request is not even tried whole: the Collector's gRPC receiver takes 4 MiB."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """A request of the spans."""
    encoded: bytes = encode_spans(spans).SerializeToString()
    return encoded


def spans_of(payload: bytes) -> int:
    """How many spans are in a request; 0 for what is none."""
    try:
        request = ExportTraceServiceRequest.FromString(payload)
    except Exception:
        return 0
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def split(payload: bytes) -> tuple[bytes, bytes] | None:
    """The request as two with half the spans each; None where it cannot be."""
    total = spans_of(payload)
    if total < 2:
        return None
    halves = []
    for low, high in ((0, total // 2), (total // 2, total)):
        request, at = ExportTraceServiceRequest.FromString(payload), 0
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                count = len(scope.spans)
                del scope.spans[max(0, high - at) :]
                del scope.spans[: max(0, low - at)]
                at += count
        halves.append(request.SerializeToString())
    return halves[0], halves[1]


def deliver(
    payload: bytes,
    spans: int,
    send: Callable[[Part], Response | None],
    settled: Callable[[int, str | None, str], None],
) -> bool:
    """Send a request, in parts where that is necessary; see :class:`otelflow._otlp.partition.Partition`."""

    def send_small(part: Part) -> Response | None:
        if len(part.payload) > _MOST_BYTES and spans_of(part.payload) > 1:
            return Response(Outcome.TOO_LARGE)
        return send(part)

    return Partition(send_small, split, settled).deliver(Part(payload, spans, True))


def new_sender(destination: Destination) -> Sender:
    """Return a sender to ``destination``.

    Raises:
        ImportError: A library is missing; the text says how to install it.
    """
    try:
        return otlp_sender(destination.endpoint)
    except ImportError as error:
        raise ImportError(
            f"otelflow_spool cannot send to {destination.shown}: {error}. Install what it needs: "
            "pip install 'otelflow-exporters[spool]'"
        ) from error
