"""OTLP over HTTP, by requests."""

from __future__ import annotations

import email.utils
import gzip
import time
import zlib
from collections.abc import Callable, Mapping

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow_exporters._spool.target import Answer, Kind, Target

__all__ = ["HttpSender"]

_KINDS = {
    400: Kind.MALFORMED,
    408: Kind.LATER,
    413: Kind.TOO_LARGE,
    422: Kind.MALFORMED,
    429: Kind.LATER,
    502: Kind.LATER,
    503: Kind.LATER,
    504: Kind.LATER,
}
"""As OTLP's specification says of retryable codes (and 408, which is a connection's fault):
https://opentelemetry.io/docs/specs/otlp/#failures-1. Every other error of the receiver's own is doubtful, as with
otelflow's own exporters; every other status that is no success is a refusal."""

_PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class HttpSender:
    """Sends to one endpoint, over one connection that is kept."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pack = _PACKERS.get(target.compression)
        self._session = requests.Session()
        self._session.headers.update({"Content-Type": "application/x-protobuf", "User-Agent": "otelflow-exporters"})
        if self._pack is not None:
            self._session.headers["Content-Encoding"] = target.compression
        self._session.headers.update(target.headers)
        self._verify = target.certificate or True
        if target.client_certificate and target.client_key:
            self._session.cert = target.client_certificate, target.client_key
        elif target.client_certificate:
            self._session.cert = target.client_certificate

    def send(self, payload: bytes) -> Answer:
        body = payload if self._pack is None else self._pack(payload)
        try:
            response = self._session.post(
                self._target.url, body, timeout=self._target.timeout, verify=self._verify, allow_redirects=False
            )
        except (requests.RequestException, OSError, ValueError) as error:  # OSError: a certificate that is not there
            return Answer(Kind.LATER, type(error).__name__)
        if response.ok and response.status_code < 300:
            return _accepted(response.content)
        kind = _KINDS.get(response.status_code, Kind.DOUBTFUL if response.status_code >= 500 else Kind.REFUSED)
        return Answer(kind, f"HTTP {response.status_code}", _retry_after(response.headers))

    def close(self) -> None:
        self._session.close()


def _accepted(body: bytes) -> Answer:
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # a gateway's own text
        return Answer(Kind.ACCEPTED)
    return Answer(Kind.ACCEPTED, partial.error_message, rejected=max(0, partial.rejected_spans))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time()) if said else None
    except (ValueError, TypeError, OverflowError):
        return None
