"""Spans made by hand, and requests decoded and encoded by upstream."""

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


def decoded(request: bytes) -> bytes:
    """A request in one form, which two have in common if nothing that was decoded differs, NaN included."""
    return Request.FromString(request).SerializeToString(deterministic=True)


def upstream(spans: Sequence[Any]) -> bytes:
    return encode_spans(spans).SerializeToString(deterministic=True)


def spans_in(request: bytes) -> list[Any]:
    return [
        span
        for resource in Request.FromString(request).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


CONTEXT = SpanContext(7, 8, False, TraceFlags(1))


RESOURCE = Resource({"service.name": "encoder"})


def made(**given: Any) -> ReadableSpan:
    """An ended span, as somebody's own code may make it."""
    return ReadableSpan(
        **{"name": "made", "context": CONTEXT, "resource": RESOURCE, "start_time": 1, "end_time": 2, **given}
    )


def takes_none() -> bool:
    """Whether upstream's encoder has a place for None; before 1.43 the attribute was left out."""
    return bool(encode_spans([made(attributes={"a": None})]).resource_spans[0].scope_spans[0].spans[0].attributes)
