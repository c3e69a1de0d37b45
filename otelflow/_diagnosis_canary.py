"""The canary: a span sent through the very exporter that configure() makes, once, and what was answered."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from otelflow._diagnosis_network import within
from otelflow._diagnosis_settings import captured_logs
from otelflow._telemetry import SCOPE
from otelflow._version import __version__

__all__ = ["CANARY", "Answer", "make_batch", "send"]

CANARY = "otelflow doctor"
"""Name of the span that is sent."""

_FILLER_BYTES = 32 * 1024
_OVERHEAD_BYTES = 200

Spans = Sequence[Any]


class Answer(NamedTuple):
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


def send(exporter: Any, spans: Spans, timeout: float) -> Answer:
    """Send one request and tell what came of it. Never raises, and takes little longer than ``timeout`` seconds."""
    begun = time.monotonic()
    try:
        with captured_logs():
            if hasattr(getattr(exporter, "_client", None), "Export"):
                return _send_by_grpc(exporter, spans, timeout, begun)
            session = _session_of(exporter)
            if session is not None:
                return _send_by_http(exporter, session, spans, timeout, begun)
            return _send_blindly(exporter, spans, timeout, begun)
    except Exception as error:
        return Answer(time.monotonic() - begun, error=error)


# --- HTTP: the exporter sends, and its session is listened to ---------------------------------------------------------


def _session_of(made: Any, depth: int = 3) -> Any:
    """The requests session that an exporter holds; its versions hold it in different places."""
    import requests

    values = list(getattr(made, "__dict__", {}).values())
    for value in values:
        if isinstance(value, requests.Session):
            return value
    found = (_session_of(value, depth - 1) for value in values if depth and hasattr(value, "__dict__"))
    return next((one for one in found if one is not None), None)


class _Listener:
    """Stands in for a session's ``send``: hands the first answer over, and refuses to try again."""

    def __init__(self, session: Any, timeout: float) -> None:
        self._send, self._timeout = session.send, timeout
        self._is_over = False
        self.answers: SimpleQueue[Any] = SimpleQueue()

    def __call__(self, request: Any, **given: Any) -> Any:
        if self._is_over:
            raise RuntimeError("one request is enough for a diagnosis")
        self._is_over = True
        try:
            # Newer exporters do not follow a redirection either.
            response = self._send(request, **{**given, "timeout": self._timeout, "allow_redirects": False})
        except Exception as error:
            self.answers.put(error)
            raise
        self.answers.put(response)
        return response


def _send_by_http(exporter: Any, session: Any, spans: Spans, timeout: float, begun: float) -> Answer:
    listener = session.send = _Listener(session, timeout)

    def export() -> None:
        try:
            exporter.export(spans)
        except Exception as error:
            listener.answers.put(error)
        finally:
            listener.answers.put(None)  # it may not even have tried

    # On a thread beside: the exporter may wait before it tries again, which is not waited for.
    threading.Thread(target=export, name="otelflow-doctor", daemon=True).start()
    try:
        answer = listener.answers.get(timeout=2 * timeout + 1)
    except Empty:
        answer = TimeoutError(f"no whole answer within {timeout:g} s")
    took = time.monotonic() - begun
    exporter.shutdown()
    with contextlib.suppress(Empty):  # its last words go to the log: they are waited for
        while answer is not None and listener.answers.get(timeout=1) is not None:
            pass
    if answer is None:
        return Answer(took, accepted=False)
    if isinstance(answer, BaseException):
        return Answer(took, error=answer)
    return Answer(
        took,
        answer.status_code,
        body=answer.content,
        detail=answer.reason or "",
        headers=answer.headers,
        at=time.time(),
    )


# --- gRPC: the exporter's channel, credentials, headers and compression; one call without its retries -----------------


def _send_by_grpc(exporter: Any, spans: Spans, timeout: float, begun: float) -> Answer:
    import grpc  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    request = encode_spans(spans)
    metadata = getattr(exporter, "_headers", None)
    try:
        # Beside its own time limit: it does not begin before the name is resolved.
        response = within(timeout + 1, lambda: exporter._client.Export(request, metadata=metadata, timeout=timeout))
    except grpc.RpcError as error:
        took = time.monotonic() - begun
        return Answer(took, code=error.code().name, detail=error.details() or "")
    finally:
        exporter.shutdown()
    return Answer(time.monotonic() - begun, code="OK", partial=response.partial_success)


def _send_blindly(exporter: Any, spans: Spans, timeout: float, begun: float) -> Answer:
    """Through an exporter of which nothing is known but that it exports."""
    try:
        result = within(timeout, lambda: exporter.export(spans))
    finally:
        with contextlib.suppress(Exception):
            within(1, exporter.shutdown)
    return Answer(time.monotonic() - begun, accepted=getattr(result, "name", "") == "SUCCESS")
