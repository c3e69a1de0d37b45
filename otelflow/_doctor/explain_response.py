"""Explain a receiver's response in words, with advice on what to do."""

from __future__ import annotations

import contextlib
import html
import json
import re
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from otelflow._doctor.canary import CanaryResult
from otelflow._doctor.check_endpoint import path_advice, swap_advice
from otelflow._doctor.check_headers import header_names
from otelflow._doctor.check_network import HTTP1, HTTP2, NOTHING, TLS
from otelflow._doctor.report import Secrets
from otelflow._otlp.endpoint import GRPC_PORT, HTTP_PORT, Endpoint
from otelflow.config import whole_number_from_environment

__all__ = ["Explanation", "clock_skew", "explain", "may_be_wrong_protocol"]


class Explanation(NamedTuple):
    """Whether the receiver accepted the request, the reason in words, and advice if it did not."""

    accepted: bool
    text: str
    advice: str = ""
    is_note: bool = False
    """Whether the receiver accepted the request but sent a message."""


def explain(target: Endpoint, result: CanaryResult, protocol: str, size: int, secrets: Secrets) -> Explanation:
    """Return the explanation of a request's result.

    ``protocol``: what the port speaks, if that was checked after a failed request; otherwise "". ``size``: bytes of the
    request if it was the large one; otherwise 0.
    """
    duration = f" in {result.seconds * 1000:.0f} ms"
    if result.status is not None and 200 <= result.status < 300:
        return _explain_success(target, result, duration, secrets)
    if result.code == "OK":
        return _explain_partial_success(result.partial, f"accepted (gRPC OK){duration}", secrets)
    if result.status is not None:
        return _explain_http_failure(target, result, protocol, size, secrets)
    wrong_protocol = _explain_wrong_protocol(target, protocol)
    if result.code:
        return wrong_protocol or _explain_grpc_failure(target, result, protocol, size, secrets)
    if wrong_protocol:
        return wrong_protocol
    if result.error is not None:
        return _explain_no_response(target, result.error, protocol, secrets)
    if result.accepted:
        return Explanation(True, f"accepted, according to the exporter{duration}")
    return Explanation(
        False, "the exporter refused it without trying to send", "Look for the reason in the program's log."
    )


def may_be_wrong_protocol(result: CanaryResult) -> bool:
    """Return whether the response may come from something that is not an OTLP receiver.

    In that case it helps to check which protocol the port speaks.
    """
    return (
        result.error is not None
        or result.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN")
        or (result.status in (400, 426, 505))
    )


def _explain_wrong_protocol(target: Endpoint, protocol: str) -> Explanation | None:
    if protocol == TLS and not target.tls:
        return Explanation(
            False,
            f"port {target.port} speaks TLS, and the request was plain text",
            f"Write https:// instead of http:// for {target.host_and_port}.",
        )
    if protocol == HTTP1 and target.is_grpc and not target.tls:
        return Explanation(
            False, f"port {target.port} speaks HTTP/1, and gRPC needs HTTP/2: the wrong protocol", swap_advice(target)
        )
    if protocol == HTTP2 and not target.is_grpc and not target.tls:
        return Explanation(
            False, f"port {target.port} speaks only HTTP/2, as gRPC does: the wrong protocol", swap_advice(target)
        )
    return None


# --- accepted -----------------------------------------------------------------------------------------------------


def _explain_success(target: Endpoint, result: CanaryResult, duration: str, secrets: Secrets) -> Explanation:
    content_type = secrets.redact(result.headers.get("Content-Type", "").partition(";")[0].strip().lower())
    if content_type == "text/html" or result.body.lstrip()[:1] == b"<":
        return Explanation(
            False,
            f"HTTP {result.status} with {secrets.redact(_page_title(result.body))}: a web server, not an OTLP "
            "receiver. The exporter counts it as success",
            f"Call the receiver's OTLP port (usually {HTTP_PORT}), not its web interface.",
        )
    text = f"accepted (HTTP {result.status}){duration}"
    try:
        partial = _parse_partial_success(result.body, content_type)
    except Exception:
        body = secrets.redact(result.body[:80].decode("utf-8", "replace"))
        return Explanation(
            False,
            f"HTTP {result.status}, but the response is not OTLP ({content_type or 'no content type'}): {body}",
            f"Call an OTLP receiver (its port is usually {HTTP_PORT}): {target.host_and_port} seems to be something "
            "else.",
        )
    return _explain_partial_success(partial, text, secrets)


def _parse_partial_success(body: bytes, content_type: str) -> Any:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    if content_type == "application/json":
        partial = json.loads(body or b"{}").get("partialSuccess") or {}
        # OTLP specification, JSON: 64-bit numbers are text.
        rejected = int(partial.get("rejectedSpans") or 0)
        return ExportTracePartialSuccess(rejected_spans=rejected, error_message=partial.get("errorMessage") or "")
    return ExportTraceServiceResponse.FromString(body).partial_success


def _explain_partial_success(partial: Any, text: str, secrets: Secrets) -> Explanation:
    """Explain a response with a partial success.

    OTLP specification, partial success: rejected spans must not be sent again; with none rejected it is a warning.
    The Python exporters ignore it.
    """
    message = secrets.redact(partial.error_message) if partial is not None else ""
    if partial is not None and partial.rejected_spans:
        return Explanation(
            False,
            f"the response is a success, but {partial.rejected_spans} "
            f"span{'s' * (partial.rejected_spans != 1)} rejected: {message or 'no reason given'}. The exporter does "
            "not notice it",
            f"Fix what the receiver reports{f' ({message})' if message else ''}; see its log for details.",
        )
    if message:
        return Explanation(True, f"{text}; the receiver says: {message}", is_note=True)
    return Explanation(True, text)


# --- refused ------------------------------------------------------------------------------------------------------


_HTTP = {
    400: (
        "the receiver does not understand the request",
        "Check that {place} is an OTLP receiver, and that no proxy changes requests.",
    ),
    401: ("not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS to the receiver's key or token{headers}."),
    403: ("not allowed: the key is not known, or may not write traces", "Check the key and its permissions{headers}."),
    404: ("there is nothing at this path", "{path}"),
    405: ("this path does not accept POST: it is not an OTLP receiver", "{path}"),
    407: (
        "the proxy requires credentials",
        "Put user and password into the proxy's variable, or the host into NO_PROXY.",
    ),
    408: (
        "the receiver waited too long for the request",
        "Set OTEL_EXPORTER_OTLP_COMPRESSION=gzip, and check how slow the connection to it is.",
    ),
    413: ("the request is too large for the receiver", "{smaller}"),
    415: (
        "the receiver does not accept protobuf",
        "Call a receiver that accepts {protocol}; check whether a proxy is in between.",
    ),
    429: (
        "too many requests: the receiver limits the rate",
        "Wait, or send less (OTEL_TRACES_SAMPLER), or raise the receiver's quota.",
    ),
    500: ("the receiver fails", "Look at the receiver's log: its own exporters or storage fail."),
    501: ("the receiver does not support this", "Call a receiver that accepts {protocol}."),
    502: (
        "a gateway does not reach the receiver behind it",
        "Check the gateway, and that the receiver behind it runs.",
    ),
    503: ("the receiver is overloaded or not ready", "Look at the receiver's log and its health."),
    504: (
        "a gateway gets no response from the receiver behind it",
        "Check the gateway, and that the receiver behind it runs.",
    ),
    505: ("the receiver speaks another version of HTTP", "{swap}"),
}
_RETRIED = (429, 502, 503, 504)
"""OTLP specification, OTLP/HTTP failures: after these statuses a client retries. After others the spans are lost."""

_GRPC = {
    "CANCELLED": ("cancelled before it was complete", "Check the proxy or load balancer in front of the receiver."),
    "DEADLINE_EXCEEDED": (
        "connected, but no response in time",
        "{check}",
    ),
    "UNAVAILABLE": ("not available", "{check}"),
    "UNAUTHENTICATED": ("not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS to the receiver's key or token{headers}."),
    "PERMISSION_DENIED": (
        "not allowed: the key is not known, or may not write traces",
        "Check the key and its permissions{headers}.",
    ),
    "UNIMPLEMENTED": (
        "a gRPC server that does not accept traces",
        "Call an OTLP receiver: its gRPC port is usually {grpc_port}.",
    ),
    "RESOURCE_EXHAUSTED": ("a limit of the receiver is reached", "Send less, or raise the receiver's limit or quota."),
    "INVALID_ARGUMENT": ("the receiver does not understand the request", "Look at the receiver's log."),
    "INTERNAL": ("the receiver or a proxy fails", "Look at the log of the receiver, and of the proxy in front of it."),
    "UNKNOWN": ("the response is not gRPC", "{check}"),
}


def _format_advice(template: str, target: Endpoint, size: int) -> str:
    names = header_names(target)
    return template.format(
        place=target.host_and_port,
        protocol=target.protocol,
        path=path_advice(target),
        swap=swap_advice(target),
        grpc_port=GRPC_PORT,
        check=_receiver_advice(target),
        smaller=_size_advice(target, size),
        headers=f" (sent: {', '.join(names)})" if names else " (no headers are set)",
    )


def _receiver_advice(target: Endpoint) -> str:
    usual = GRPC_PORT if target.is_grpc else HTTP_PORT
    return (
        f"Check that an OTLP receiver for {target.protocol} is running and healthy at {target.host_and_port} "
        f"(its port is usually {usual})."
    )


def _size_advice(target: Endpoint, size: int) -> str:
    limit = "max_recv_msg_size_mib" if target.is_grpc else "max_request_body_size"
    if not size:
        return f"Raise the receiver's limit ({limit} of a Collector): it does not even accept one span."
    batch = whole_number_from_environment("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1)
    return (
        f"Raise the receiver's limit ({limit} of a Collector), or set OTEL_BSP_MAX_EXPORT_BATCH_SIZE to fewer spans "
        f"than {batch}."
    )


def _explain_http_failure(
    target: Endpoint, result: CanaryResult, protocol: str, size: int, secrets: Secrets
) -> Explanation:
    status = result.status or 0
    wrong_protocol = _explain_wrong_protocol(target, protocol) if may_be_wrong_protocol(result) else None
    if wrong_protocol:
        return wrong_protocol
    traces_path_advice = _format_advice("{path}", target, size)
    if 300 <= status < 400:
        location = secrets.redact(result.headers.get("Location", "another place").partition("?")[0])
        return Explanation(
            False,
            f"HTTP {status}: redirected to {location}. The exporter counts it as success, and does not follow it",
            f"Set the endpoint to the new location: {location}",
        )
    # The Collector sends 400 if a body turns out too large only after decompression, or arrives in chunks.
    if status == 400 and b"body too large" in result.body:
        status = 413
    fallback = ("the receiver fails" if status >= 500 else "refused", "Look at the receiver's log.")
    text, template = _HTTP.get(status, fallback)
    advice = _format_advice(template, target, size)
    if status == 400 and result.body.startswith(b"Client sent an HTTP request to an HTTPS"):
        return Explanation(
            False, "the port speaks TLS", f"Write https:// instead of http:// for {target.host_and_port}."
        )
    message = secrets.redact(_refusal_message(result))
    retry_after = secrets.redact(result.headers.get("Retry-After", ""))
    parts = [
        f"HTTP {result.status}: {text}",
        f"it says: {message}" if message else "",
        f"retry after {retry_after}" if retry_after else "",
    ]
    effect = "the exporter retries for a while" if status in _RETRIED else "the exporter drops the spans at once"
    return Explanation(False, "; ".join(part for part in (*parts, effect) if part), advice or traces_path_advice)


def _refusal_message(result: CanaryResult) -> str:
    """Return the message in a refusal: OTLP sends a ``google.rpc.Status``, web servers a page."""
    content_type = result.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type == "application/x-protobuf":
        with contextlib.suppress(Exception):
            from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

            return str(Status.FromString(result.body).message)
    text = result.body[:2000].decode("utf-8", "replace")
    if content_type == "application/json":
        with contextlib.suppress(Exception):
            return str(json.loads(result.body).get("message") or text)
    return _page_title(result.body) if text.lstrip().startswith("<") else text


def _page_title(body: bytes) -> str:
    match = re.search(rb"(?is)<title[^>]*>(.*?)</title>", body[:4000])
    title = " ".join(html.unescape(match[1].decode("utf-8", "replace")).split()) if match else ""
    return f"a web page ({title[:60]!r})" if title else "a web page"


def _explain_grpc_failure(
    target: Endpoint, result: CanaryResult, protocol: str, size: int, secrets: Secrets
) -> Explanation:
    text, template = _GRPC.get(result.code, ("refused", "Look at the receiver's log."))
    message = secrets.redact(result.detail)
    # A full receiver sends the same code; only the messages (of gRPC for Go and C, of tonic) say what is too long.
    if any(words in result.detail for words in ("larger than max", "message length too large")):
        text, template = "the request is too large for the receiver", "{smaller}"
    # gRPC over HTTP/2 specification: a response without a gRPC status comes from a web server; the client derives a
    # gRPC status from the HTTP status.
    elif result.code == "UNIMPLEMENTED" and "http2 header with status" in result.detail:
        text, template = "an HTTP server that does not speak gRPC", "{swap}"
    elif result.code == "UNAVAILABLE" and protocol == HTTP2:
        text, template = "the receiver is overloaded or not ready", "Look at the receiver's log and its health."
    return Explanation(
        False,
        f"gRPC {result.code}: {text}{f'; it says: {message}' if message else ''}",
        _format_advice(template, target, size),
    )


def _innermost(error: BaseException) -> BaseException:
    """Return the error that ``requests`` and ``urllib3`` have wrapped."""
    while True:
        candidates = (getattr(error, "reason", None), *error.args)
        inner = next((candidate for candidate in candidates if isinstance(candidate, Exception)), None)
        if inner is None:
            return error
        error = inner


def _explain_no_response(target: Endpoint, error: BaseException, protocol: str, secrets: Secrets) -> Explanation:
    name = type(error).__name__
    reason = secrets.redact(_innermost(error))
    if isinstance(error, TimeoutError) or "Timeout" in name:
        hint = ", with any protocol" if protocol == NOTHING else ""
        return Explanation(
            False,
            f"connected, but no response in time{hint}",
            _receiver_advice(target),
        )
    if name == "ProxyError":
        return Explanation(
            False, f"the proxy fails: {reason}", "Correct the proxy's variable, or add the host to NO_PROXY."
        )
    if name == "SSLError":
        return Explanation(False, f"TLS fails: {reason}", "See the step tls above.")
    return Explanation(
        False,
        f"the connection breaks: {reason}",
        _receiver_advice(target),
    )


def clock_skew(result: CanaryResult) -> float | None:
    """Return how many seconds the receiver's clock is ahead of this machine's; None if the response has no time."""
    try:
        receiver_time = parsedate_to_datetime(result.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
    # The header has whole seconds, truncated, and was written about half-way through the request.
    return receiver_time + 0.5 - (result.at - result.seconds / 2)
