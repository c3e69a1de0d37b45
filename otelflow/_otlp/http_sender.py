"""OTLP over HTTP: one request, one answer."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._otlp.response import Answer, Verdict, http_verdict
from otelflow._runtime.fork import renew_in_child
from otelflow._version import __version__

__all__ = ["HttpSender"]

_GZIP_LEVEL = 1
"""The fastest: of spans it leaves a tenth more than the default level, in a quarter of the time."""


class HttpSender:
    """Sends to one endpoint over connections that stay open. ``certificate`` is the path of the CA's to trust,
    ``client_certificate`` a path, or a pair of paths with that of the key."""

    component_type = "otlp_http_span_exporter"

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        compression: str,
        certificate: str | None = None,
        client_certificate: str | tuple[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"otelflow/{__version__}",
            **headers,
            **({} if compression == "none" else {"Content-Encoding": compression}),
        }
        self._timeout, self._compression = timeout, compression
        self._verify: Any = certificate or True
        self._client_certificate = client_certificate
        self._connect()
        # A child that used its parent's connections would write into the midst of its parent's requests.
        renew_in_child(self._connect)

    def _connect(self) -> None:
        self._session = requests.Session()

    def send(self, body: bytes) -> Answer:
        """Send one request. Raises nothing that a receiver or a network can cause."""
        try:
            response = self.post(body, self._timeout)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader) as error:
            return Answer(Verdict.REFUSED, type(error).__name__)
        except (requests.exceptions.RequestException, OSError) as error:  # OSError: a certificate that is not there
            return Answer(Verdict.AGAIN, type(error).__name__)
        if response.status_code == 200:
            return _accepted(response.content)
        verdict = http_verdict(response.status_code, response.text if response.status_code == 400 else "")
        return Answer(verdict, f"HTTP {response.status_code}", after=_seconds(response.headers.get("Retry-After")))

    def post(self, body: bytes, timeout: float) -> requests.Response:
        """Send one request, and hand the answer on as it is. Raises what :mod:`requests` does."""
        return self._session.post(
            self.endpoint,
            self._compressed(body),
            headers=self._headers,
            timeout=timeout,
            verify=self._verify,
            cert=self._client_certificate,
            allow_redirects=False,
        )

    def _compressed(self, body: bytes) -> bytes:
        if self._compression == "gzip":
            return gzip.compress(body, _GZIP_LEVEL)
        return zlib.compress(body) if self._compression == "deflate" else body

    def close(self) -> None:
        """End the connections, and with them a request that is under way."""
        self._session.close()


def _accepted(content: bytes) -> Answer:
    if not content:  # most answers
        return Answer(Verdict.ACCEPTED)
    try:
        partial = ExportTraceServiceResponse.FromString(content).partial_success
    except Exception:  # a success all the same: some gateways answer with words of their own
        return Answer(Verdict.ACCEPTED)
    return Answer(Verdict.ACCEPTED, partial.error_message, partial.rejected_spans)


def _seconds(retry_after: str | None) -> float | None:
    """The header's seconds, or its date in seconds from now. https://www.rfc-editor.org/rfc/rfc9110#name-retry-after"""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
