"""Send the canary: one span, sent once through the exporter that ``configure()`` would create."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from otelflow._doctor.check_network import call_with_timeout
from otelflow._doctor.check_settings import captured_logs
from otelflow._spans.tracer import SCOPE
from otelflow._version import __version__

__all__ = ["CANARY", "CanaryResult", "make_batch", "send"]

CANARY = "otelflow doctor"
"""Name of the canary span."""

_FILLER_BYTES = 32 * 1024
_OVERHEAD_BYTES = 200

Spans = Sequence[Any]


class CanaryResult(NamedTuple):
    """The outcome of one request. One of ``status`` (HTTP), ``code`` (the name of gRPC's), ``error`` is set."""

    seconds: float
    status: int | None = None
    code: str = ""
    error: BaseException | None = None
    body: bytes = b""
    detail: str = ""
    headers: Mapping[str, str] = {}
    partial: Any = None
    """The partial success of an accepted request, as a protobuf message."""
    accepted: bool | None = None
    """Whether the exporter reported success; set only for exporters whose response is not available."""
    at: float = 0.0
    """When the response arrived, in seconds since 1970."""


def make_batch(resource: Any, size: int = 0) -> tuple[list[Any], str]:
    """Return the canary span and its trace id, as 32 hex digits.

    With ``size``, add child spans so that the request has about that many bytes. The spans are created without a
    provider: a sampler or OTEL_SDK_DISABLED would suppress them.
    """
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

    trace_id = int.from_bytes(os.urandom(16), "big") or 1
    scope, now = InstrumentationScope(SCOPE, __version__), time.time_ns()

    def make_span(parent: Any, name: str, attributes: dict[str, Any]) -> Any:
        span_id = int.from_bytes(os.urandom(8), "big") or 1
        return ReadableSpan(
            name,
            SpanContext(trace_id, span_id, False, TraceFlags(TraceFlags.SAMPLED)),
            parent,
            resource,
            attributes,
            kind=SpanKind.INTERNAL,
            start_time=now - 1_000_000,
            end_time=now,
            instrumentation_scope=scope,
        )

    root = make_span(None, CANARY, {})
    spans, bytes_left = [root], size
    while bytes_left > 0:
        # Random text, because compression would shrink the request; short, because a receiver may refuse long values.
        text = os.urandom(min(_FILLER_BYTES, max(bytes_left - _OVERHEAD_BYTES, 2)) // 2).hex()
        spans.append(make_span(root.context, f"{CANARY}, filler", {"filler": text}))
        bytes_left -= len(text) + _OVERHEAD_BYTES
    return spans, f"{trace_id:032x}"


def send(exporter: Any, spans: Spans, timeout: float) -> CanaryResult:
    """Send one request and return its outcome. Never raises, and takes little longer than ``timeout`` seconds."""
    start = time.monotonic()
    sender = getattr(exporter, "sender", None)
    try:
        with captured_logs():
            if sender is None:
                return _send_by_exporter(exporter, spans, timeout, start)
            # Imported here: this imports the SDK, which raises for some environment variables.
            from otelflow._otlp.request_encoder import encode

            send_request = _send_by_grpc if hasattr(sender, "call") else _send_by_http
            return send_request(sender, encode(spans), timeout, start)
    except Exception as error:
        return CanaryResult(time.monotonic() - start, error=error)
    finally:
        with contextlib.suppress(Exception):
            call_with_timeout(1, exporter.shutdown)


def _send_by_http(sender: Any, body: bytes, timeout: float, start: float) -> CanaryResult:
    # A second time limit: the sender's own one restarts with each byte that arrives.
    response = call_with_timeout(2 * timeout + 1, lambda: sender.post(body, timeout))
    return CanaryResult(
        time.monotonic() - start,
        response.status_code,
        body=response.content,
        detail=response.reason or "",
        headers=response.headers,
        at=time.time(),
    )


def _send_by_grpc(sender: Any, body: bytes, timeout: float, start: float) -> CanaryResult:
    import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a separate package

    try:
        # A second time limit: the sender's own one starts only after name resolution.
        response = call_with_timeout(timeout + 1, lambda: sender.call(body, timeout))
    except grpc.RpcError as error:
        return CanaryResult(time.monotonic() - start, code=error.code().name, detail=error.details() or "")
    return CanaryResult(time.monotonic() - start, code="OK", partial=response.partial_success)


def _send_by_exporter(exporter: Any, spans: Spans, timeout: float, start: float) -> CanaryResult:
    """Send through an exporter that offers only ``export()``, so its response is not available."""
    result = call_with_timeout(timeout, lambda: exporter.export(spans))
    return CanaryResult(time.monotonic() - start, accepted=getattr(result, "name", "") == "SUCCESS")
