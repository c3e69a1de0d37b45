"""What a receiver's answer means, in words, and what to do about it."""

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
from otelflow.config import number_from_environment

__all__ = ["Explanation", "clock_skew", "explain", "is_refusal_of_the_way"]


class Explanation(NamedTuple):
    """Whether what was sent was taken, in words, and the way out where it was not."""

    accepted: bool
    text: str
    advice: str = ""
    is_note: bool = False
    """Accepted, but the receiver has something to say."""


def explain(target: Endpoint, answer: CanaryResult, spoken: str, size: int, secrets: Secrets) -> Explanation:
    """Put an answer into words. ``spoken``: what the port was found to speak, where the request failed; "" elsewhere.
    ``size``: bytes of the request, where it was a large one."""
    took = f" in {answer.seconds * 1000:.0f} ms"
    if answer.status is not None and 200 <= answer.status < 300:
        return _success(target, answer, took, secrets)
    if answer.code == "OK":
        return _partial(answer.partial, f"accepted (gRPC OK){took}", secrets)
    if answer.status is not None:
        return _http_failure(target, answer, spoken, size, secrets)
    wrong = _wrong_protocol(target, spoken)
    if answer.code:
        return wrong or _grpc_failure(target, answer, spoken, size, secrets)
    if wrong:
        return wrong
    if answer.error is not None:
        return _no_answer(target, answer.error, spoken, secrets)
    if answer.accepted:
        return Explanation(True, f"accepted, says the exporter{took}")
    return Explanation(
        False, "the exporter refused it without trying", "Look at the log of the program for its reason."
    )


def is_refusal_of_the_way(answer: CanaryResult) -> bool:
    """Whether the answer is none of an OTLP receiver: then it is worth looking at what the port speaks."""
    return (
        answer.error is not None
        or answer.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN")
        or (answer.status in (400, 426, 505))
    )


def _wrong_protocol(target: Endpoint, spoken: str) -> Explanation | None:
    if spoken == TLS and not target.tls:
        return Explanation(
            False,
            f"port {target.port} speaks TLS, and the request was plain text",
            f"Write https:// instead of http:// for {target.place}.",
        )
    if spoken == HTTP1 and target.is_grpc and not target.tls:
        return Explanation(
            False, f"port {target.port} speaks HTTP/1, and gRPC needs HTTP/2: the wrong protocol", swap_advice(target)
        )
    if spoken == HTTP2 and not target.is_grpc and not target.tls:
        return Explanation(
            False, f"port {target.port} speaks HTTP/2 only, as gRPC does: the wrong protocol", swap_advice(target)
        )
    return None


# --- accepted -----------------------------------------------------------------------------------------------------


def _success(target: Endpoint, answer: CanaryResult, took: str, secrets: Secrets) -> Explanation:
    kind = secrets.without(answer.headers.get("Content-Type", "").partition(";")[0].strip().lower())
    if kind == "text/html" or answer.body.lstrip()[:1] == b"<":
        return Explanation(
            False,
            f"HTTP {answer.status} with {secrets.without(_page(answer.body))}: a web server, no OTLP receiver. The "
            "exporter takes that for success",
            f"Call the receiver's OTLP port (usually {HTTP_PORT}), not its web interface.",
        )
    text = f"accepted (HTTP {answer.status}){took}"
    try:
        partial = _partial_of(answer.body, kind)
    except Exception:
        shown = secrets.without(answer.body[:80].decode("utf-8", "replace"))
        return Explanation(
            False,
            f"HTTP {answer.status}, but the answer is not OTLP ({kind or 'no content type'}): {shown}",
            f"Call an OTLP receiver (its port usually is {HTTP_PORT}): {target.place} seems to be none.",
        )
    return _partial(partial, text, secrets)


def _partial_of(body: bytes, kind: str) -> Any:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTracePartialSuccess,
        ExportTraceServiceResponse,
    )

    if kind == "application/json":
        said = json.loads(body or b"{}").get("partialSuccess") or {}
        # OTLP specification, JSON: 64-bit numbers are text.
        rejected = int(said.get("rejectedSpans") or 0)
        return ExportTracePartialSuccess(rejected_spans=rejected, error_message=said.get("errorMessage") or "")
    return ExportTraceServiceResponse.FromString(body).partial_success


def _partial(partial: Any, text: str, secrets: Secrets) -> Explanation:
    """OTLP specification, partial success: rejected spans must not be sent again; with none rejected it is a warning.
    The Python exporters do not look at it."""
    message = secrets.without(partial.error_message) if partial is not None else ""
    if partial is not None and partial.rejected_spans:
        return Explanation(
            False,
            f"answered with success, but {partial.rejected_spans} span{'s' * (partial.rejected_spans != 1)} rejected: "
            f"{message or 'no reason given'}. The exporter does not notice",
            f"Mend what the receiver says{f' ({message})' if message else ''}; its log may tell more.",
        )
    if message:
        return Explanation(True, f"{text}; the receiver says: {message}", is_note=True)
    return Explanation(True, text)


# --- refused ------------------------------------------------------------------------------------------------------

_REPEATED = "The exporter tries again for a while, and the spans are lost then."

_HTTP = {
    400: (
        "the receiver does not understand the request",
        "Check that {place} is an OTLP receiver, and that no proxy changes the requests.",
    ),
    401: ("not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS to the receiver's key or token{headers}."),
    403: ("not allowed: the key is not known, or may not write traces", "Check the key and its rights{headers}."),
    404: ("nothing is at this path", "{path}"),
    405: ("this path takes no POST: no OTLP receiver", "{path}"),
    407: ("the proxy wants credentials", "Put user and password into the proxy's variable, or the host into NO_PROXY."),
    408: (
        "the receiver waited too long for the request",
        "Set OTEL_EXPORTER_OTLP_COMPRESSION=gzip, and look at how slow the way to it is.",
    ),
    413: ("the request is too large for the receiver", "{smaller}"),
    415: ("the receiver does not take protobuf", "Call a receiver that takes {protocol}; is a proxy in between?"),
    429: (
        "too many requests: the receiver slows its clients down",
        "Wait, or send less: OTEL_TRACES_SAMPLER, or a quota.",
    ),
    500: ("the receiver fails", "Look at the receiver's log: its own exporters or storage fail."),
    501: ("the receiver does not do this", "Call a receiver that takes {protocol}."),
    502: ("a gateway does not reach the receiver behind it", "Look at the gateway: is the receiver behind it up?"),
    503: ("the receiver is overloaded or not ready", "Look at the receiver's log and its health."),
    504: ("a gateway gets no answer from the receiver", "Look at the gateway: is the receiver behind it up?"),
    505: ("the receiver speaks another version of HTTP", "{swap}"),
}
_RETRIED = (429, 502, 503, 504)
"""OTLP specification, OTLP/HTTP failures: the statuses after which a client tries again. All others lose the spans at
once."""

_GRPC = {
    "CANCELLED": ("cancelled on the way", "Look at the proxy or load balancer before the receiver."),
    "DEADLINE_EXCEEDED": (
        "connected, but no answer in time",
        "{check}",
    ),
    "UNAVAILABLE": ("not available", "{check}"),
    "UNAUTHENTICATED": ("not authenticated", "Set OTEL_EXPORTER_OTLP_HEADERS to the receiver's key or token{headers}."),
    "PERMISSION_DENIED": (
        "not allowed: the key is not known, or may not write traces",
        "Check the key and its rights{headers}.",
    ),
    "UNIMPLEMENTED": (
        "a gRPC server that takes no traces",
        "Call an OTLP receiver: its gRPC port usually is {grpc_port}.",
    ),
    "RESOURCE_EXHAUSTED": ("a limit of the receiver is reached", "Send less, or raise the receiver's limit or quota."),
    "INVALID_ARGUMENT": ("the receiver does not understand the request", "Look at the receiver's log."),
    "INTERNAL": ("the receiver or a proxy fails", "Look at the log of the receiver, and of the proxy before it."),
    "UNKNOWN": ("an answer that is none of gRPC", "{check}"),
}


def _fill(advice: str, target: Endpoint, size: int) -> str:
    sent = header_names(target)
    return advice.format(
        place=target.place,
        protocol=target.protocol,
        path=path_advice(target),
        swap=swap_advice(target),
        grpc_port=GRPC_PORT,
        check=_check_it(target),
        smaller=_smaller(target, size),
        headers=f" (sent: {', '.join(sent)})" if sent else " (no headers are set)",
    )


def _check_it(target: Endpoint) -> str:
    usual = GRPC_PORT if target.is_grpc else HTTP_PORT
    return (
        f"Check that an OTLP receiver for {target.protocol} is running and healthy at {target.place} (its port usually "
        f"is {usual})."
    )


def _smaller(target: Endpoint, size: int) -> str:
    limit = "max_recv_msg_size_mib" if target.is_grpc else "max_request_body_size"
    if not size:
        return f"Raise the receiver's limit ({limit} of a Collector): it does not even take one span."
    batch = number_from_environment("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1)
    return (
        f"Raise the receiver's limit ({limit} of a Collector), or set OTEL_BSP_MAX_EXPORT_BATCH_SIZE to fewer spans "
        f"than {batch:g}."
    )


def _http_failure(target: Endpoint, answer: CanaryResult, spoken: str, size: int, secrets: Secrets) -> Explanation:
    status = answer.status or 0
    wrong = _wrong_protocol(target, spoken) if is_refusal_of_the_way(answer) else None
    if wrong:
        return wrong
    where = _fill("{path}", target, size)
    if 300 <= status < 400:
        to = secrets.without(answer.headers.get("Location", "another place").partition("?")[0])
        return Explanation(
            False,
            f"HTTP {status}: sent on to {to}. The exporter takes that for success, and does not follow",
            f"Set the endpoint to where it leads: {to}",
        )
    # The Collector answers so where a body is too large only once it is decompressed, or comes in chunks.
    if status == 400 and b"body too large" in answer.body:
        status = 413
    known = _HTTP.get(status, ("the receiver fails" if status >= 500 else "refused", "Look at the receiver's log."))
    text, advice = known[0], _fill(known[1], target, size)
    if status == 400 and answer.body.startswith(b"Client sent an HTTP request to an HTTPS"):
        return Explanation(False, "port speaks TLS", f"Write https:// instead of http:// for {target.place}.")
    said = secrets.without(_message(answer))
    after = secrets.without(answer.headers.get("Retry-After", ""))
    parts = [
        f"HTTP {answer.status}: {text}",
        f"it says: {said}" if said else "",
        f"retry after {after}" if after else "",
    ]
    fate = "the exporter tries again for a while" if status in _RETRIED else "the exporter gives the spans up at once"
    return Explanation(False, "; ".join(part for part in (*parts, fate) if part), advice or where)


def _message(answer: CanaryResult) -> str:
    """What a refusal says: OTLP has a ``google.rpc.Status`` there, web servers a page."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == "application/x-protobuf":
        with contextlib.suppress(Exception):
            from google.rpc.status_pb2 import Status  # type: ignore[import-untyped,unused-ignore]

            return str(Status.FromString(answer.body).message)
    text = answer.body[:2000].decode("utf-8", "replace")
    if kind == "application/json":
        with contextlib.suppress(Exception):
            return str(json.loads(answer.body).get("message") or text)
    return _page(answer.body) if text.lstrip().startswith("<") else text


def _page(body: bytes) -> str:
    found = re.search(rb"(?is)<title[^>]*>(.*?)</title>", body[:4000])
    title = " ".join(html.unescape(found[1].decode("utf-8", "replace")).split()) if found else ""
    return f"a web page ({title[:60]!r})" if title else "a web page"


def _grpc_failure(target: Endpoint, answer: CanaryResult, spoken: str, size: int, secrets: Secrets) -> Explanation:
    text, advice = _GRPC.get(answer.code, ("refused", "Look at the receiver's log."))
    said = secrets.without(answer.detail)
    # A receiver that is full has the same code: the texts of gRPC for Go and C and of tonic tell what is too long.
    if any(words in answer.detail for words in ("larger than max", "message length too large")):
        text, advice = "the request is too large for the receiver", "{smaller}"
    # gRPC over HTTP/2 specification: an answer without a gRPC status, so of a web server, is given one by its HTTP's.
    elif answer.code == "UNIMPLEMENTED" and "http2 header with status" in answer.detail:
        text, advice = "an HTTP server that is none for gRPC", "{swap}"
    elif answer.code == "UNAVAILABLE" and spoken == HTTP2:
        text, advice = "the receiver is overloaded or not ready", "Look at the receiver's log and its health."
    return Explanation(
        False, f"gRPC {answer.code}: {text}{f'; it says: {said}' if said else ''}", _fill(advice, target, size)
    )


def _innermost(error: BaseException) -> BaseException:
    """What requests and urllib3 have wrapped."""
    while True:
        inside = next(
            (one for one in (getattr(error, "reason", None), *error.args) if isinstance(one, Exception)), None
        )
        if inside is None:
            return error
        error = inside


def _no_answer(target: Endpoint, error: BaseException, spoken: str, secrets: Secrets) -> Explanation:
    name = type(error).__name__
    said = secrets.without(_innermost(error))
    if isinstance(error, TimeoutError) or "Timeout" in name:
        silent = " (nor to anything else)" if spoken == NOTHING else ""
        return Explanation(
            False,
            f"connected, but no answer in time{silent}",
            _check_it(target),
        )
    if name == "ProxyError":
        return Explanation(False, f"the proxy fails: {said}", "Mend the proxy's variable, or add NO_PROXY.")
    if name == "SSLError":
        return Explanation(False, f"TLS fails: {said}", "See the step tls above.")
    return Explanation(
        False,
        f"the connection breaks: {said}",
        _check_it(target),
    )


def clock_skew(answer: CanaryResult) -> float | None:
    """By how many seconds the receiver's clock is ahead of this machine's; None where it does not say its time."""
    try:
        there = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
    # The header is cut to whole seconds, and was written while the answer was waited for.
    return there + 0.5 - (answer.at - answer.seconds / 2)
