"""The canary: a span sent through the very exporter that configure() makes, once, and what was answered."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from otelflow._doctor.check_network import within
from otelflow._doctor.check_settings import captured_logs
from otelflow._spans.tracer import SCOPE
from otelflow._version import __version__

__all__ = ["CANARY", "CanaryResult", "make_batch", "send"]

CANARY = "otelflow doctor"
"""Name of the span that is sent."""

_FILLER_BYTES = 32 * 1024
_OVERHEAD_BYTES = 200

Spans = Sequence[Any]


class CanaryResult(NamedTuple):
    """What came back for one request. One of ``status`` (HTTP), ``code`` (gRPC, its name), ``error`` is there."""

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
    """What the exporter made of it, where nothing but that is known."""
    at: float = 0.0
    """When the answer came, in seconds since 1970."""


def make_batch(resource: Any, size: int = 0) -> tuple[list[Any], str]:
    """The canary and, for ``size``, as many spans below it as make a request of about that many bytes. Also its trace
    id. Made without a provider: a sampler or OTEL_SDK_DISABLED would keep it back."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

    trace_id = int.from_bytes(os.urandom(16), "big") or 1
    scope, now = InstrumentationScope(SCOPE, __version__), time.time_ns()

    def made(parent: Any, name: str, attributes: dict[str, Any]) -> Any:
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

    root = made(None, CANARY, {})
    spans, left = [root], size
    while left > 0:
        # Random, so that compression hides nothing; no value so long that a receiver refuses it for itself.
        text = os.urandom(min(_FILLER_BYTES, max(left - _OVERHEAD_BYTES, 2)) // 2).hex()
        spans.append(made(root.context, f"{CANARY}, filler", {"filler": text}))
        left -= len(text) + _OVERHEAD_BYTES
    return spans, f"{trace_id:032x}"


def send(exporter: Any, spans: Spans, timeout: float) -> CanaryResult:
    """Send one request and tell what came of it. Never raises, and takes little longer than ``timeout`` seconds."""
    begun = time.monotonic()
    sender = getattr(exporter, "sender", None)
    try:
        with captured_logs():
            if sender is None:
                return _send_blindly(exporter, spans, timeout, begun)
            from otelflow._otlp.request_encoder import (
                encode,  # loads the SDK, which an environment may keep from being loaded
            )

            by = _send_by_grpc if hasattr(sender, "call") else _send_by_http
            return by(sender, encode(spans), timeout, begun)
    except Exception as error:
        return CanaryResult(time.monotonic() - begun, error=error)
    finally:
        with contextlib.suppress(Exception):
            within(1, exporter.shutdown)


def _send_by_http(sender: Any, body: bytes, timeout: float, begun: float) -> CanaryResult:
    # Beside its own time limit, which begins anew with each byte that comes.
    answer = within(2 * timeout + 1, lambda: sender.post(body, timeout))
    return CanaryResult(
        time.monotonic() - begun,
        answer.status_code,
        body=answer.content,
        detail=answer.reason or "",
        headers=answer.headers,
        at=time.time(),
    )


def _send_by_grpc(sender: Any, body: bytes, timeout: float, begun: float) -> CanaryResult:
    import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own

    try:
        # Beside its own time limit: it does not begin before the name is resolved.
        response = within(timeout + 1, lambda: sender.call(body, timeout))
    except grpc.RpcError as error:
        return CanaryResult(time.monotonic() - begun, code=error.code().name, detail=error.details() or "")
    return CanaryResult(time.monotonic() - begun, code="OK", partial=response.partial_success)


def _send_blindly(exporter: Any, spans: Spans, timeout: float, begun: float) -> CanaryResult:
    """Through an exporter of which nothing is known but that it exports."""
    result = within(timeout, lambda: exporter.export(spans))
    return CanaryResult(time.monotonic() - begun, accepted=getattr(result, "name", "") == "SUCCESS")
