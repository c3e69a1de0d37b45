"""Create spans by hand, and decode and encode requests with OpenTelemetry's own encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    SpanContext,
    TraceFlags,
)


def normalized_request(request: bytes) -> bytes:
    """Return a request in a normal form. Two requests have the same form if no decoded value differs, NaN included."""
    return Request.FromString(request).SerializeToString(deterministic=True)


def upstream_request(spans: Sequence[Any]) -> bytes:
    """Return the request that OpenTelemetry's encoder writes."""
    return encode_spans(spans).SerializeToString(deterministic=True)


def spans_in(request: bytes) -> list[Any]:
    """Return the spans of a request."""
    return [
        span
        for resource in Request.FromString(request).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


CONTEXT = SpanContext(7, 8, False, TraceFlags(1))


RESOURCE = Resource({"service.name": "encoder"})


def ended_span(**fields: Any) -> ReadableSpan:
    """Return an ended span with these fields, as other code may create it."""
    return ReadableSpan(
        **{"name": "made", "context": CONTEXT, "resource": RESOURCE, "start_time": 1, "end_time": 2, **fields}
    )


def upstream_encodes_none() -> bool:
    """Return whether OpenTelemetry's encoder can encode None; before 1.43 it left the attribute out."""
    return bool(encode_spans([ended_span(attributes={"a": None})]).resource_spans[0].scope_spans[0].spans[0].attributes)
