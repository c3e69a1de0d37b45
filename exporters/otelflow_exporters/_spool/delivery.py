"""Getting a request accepted: as a whole, or in parts where an endpoint finds it too large or malformed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from otelflow_exporters._spool.target import Answer, Kind, Sender, Target

__all__ = [
    "REFUSED",
    "REJECTED",
    "TOO_LARGE",
    "deliver_parts",
    "encode",
    "encode_parts",
    "new_sender",
    "spans_of",
    "split",
]

REFUSED = "refused"
"""The endpoint will not take the request: not allowed, not found, an error that OTLP does not retry."""

REJECTED = "rejected"
"""The endpoint took the request, and said that it left spans out (partial success)."""

TOO_LARGE = "too_large"
"""One span by itself is more than the endpoint takes, or than the folder may hold."""

_MOST_BYTES = 3_500_000
"""Beyond it a request is not even tried whole: the Collector's gRPC receiver takes 4 MiB."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """A request of the spans."""
    encoded: bytes = encode_spans(spans).SerializeToString()
    return encoded


def encode_parts(spans: Sequence[ReadableSpan], max_bytes: int) -> Iterator[tuple[bytes, Sequence[ReadableSpan]]]:
    """Requests of the spans, each of ``max_bytes`` at most where it has more than one span, and with those in it. One
    that cannot be encoded is in none."""
    try:
        payload = encode(spans)
    except Exception:
        payload = None
    if payload is not None and (len(payload) <= max_bytes or len(spans) < 2):
        yield payload, spans
    elif len(spans) > 1:
        half = len(spans) // 2
        yield from encode_parts(spans[:half], max_bytes)
        yield from encode_parts(spans[half:], max_bytes)


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


def deliver_parts(
    payload: bytes,
    spans: int,
    send: Callable[[bytes, bool], Answer],
    lose: Callable[[str, int], None],
    is_part: bool = False,
) -> Kind:
    """Send a request, in halves where it must be. LATER if that has to be tried again as a whole; everything else is
    dealt with: what is lost went to ``lose``.

    ``send`` is told whether it has a part: that it is to repeat by itself, or a receiver that takes one request at a
    time would be sent the first half for ever.
    """
    halves = split(payload) if len(payload) > _MOST_BYTES else None
    if halves is None:
        answer = send(payload, is_part)
        if answer.kind is Kind.ACCEPTED and answer.rejected:
            lose(REJECTED, min(answer.rejected, spans))
        if answer.kind in (Kind.ACCEPTED, Kind.LATER):
            return answer.kind
        halves = split(payload) if answer.kind in (Kind.TOO_LARGE, Kind.MALFORMED) else None
        if halves is None:
            lose(TOO_LARGE if answer.kind is Kind.TOO_LARGE else REFUSED, spans)
            return answer.kind
    for half, count in zip(halves, (spans // 2, spans - spans // 2), strict=True):
        if deliver_parts(half, count, send, lose, True) is Kind.LATER:
            return Kind.LATER
    return Kind.ACCEPTED


def new_sender(target: Target) -> Sender:
    """A sender to it. Raises ImportError, with the way out, where a library is missing."""
    try:
        if target.is_grpc:
            from otelflow_exporters._spool.grpc_sender import GrpcSender  # grpc costs 100 ms

            return GrpcSender(target)
        from otelflow_exporters._spool.http_sender import HttpSender

        return HttpSender(target)
    except ImportError as error:
        raise ImportError(
            f"otelflow_spool cannot send to {target.shown}: {error}. Install what it needs: "
            "pip install 'otelflow-exporters[spool]'"
        ) from error
