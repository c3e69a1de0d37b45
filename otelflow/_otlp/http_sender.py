"""OTLP over HTTP: send one request, read one response."""

from __future__ import annotations

import gzip
import time
import zlib
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelflow._otlp.endpoint import Endpoint
from otelflow._otlp.response import Outcome, Response, http_outcome
from otelflow._runtime.fork import renew_in_child
from otelflow._version import __version__

__all__ = ["HttpSender"]

_GZIP_LEVEL = 1
"""The fastest level. For spans, its output is a tenth larger than at the default level, in a quarter of the time."""


class HttpSender:
    """Sends requests to one endpoint over connections that stay open.

    Raises:
        ValueError: The endpoint's timeout or compression is invalid.
    """

    component_type = "otlp_http_span_exporter"

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint.url
        self._timeout, self._compression = endpoint.timeout_seconds(), endpoint.compression_name()
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "User-Agent": f"otelflow/{__version__}",
            **endpoint.header_values(),
            **({} if self._compression == "none" else {"Content-Encoding": self._compression}),
        }
        self._verify: Any = endpoint.certificate.text or True
        certificate, key = endpoint.client_certificate.text or None, endpoint.client_key.text
        self._client_certificate = (certificate, key) if certificate and key else certificate
        self._connect()
        # With its parent's connections, a forked child would write into the middle of its parent's requests.
        renew_in_child(self._connect)

    def _connect(self) -> None:
        self._session = requests.Session()

    def send(self, body: bytes) -> Response:
        """Send one request. Failures of the receiver or the network are returned, not raised."""
        try:
            response = self.post(body, self._timeout)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader, UnicodeError) as error:
            return Response(Outcome.UNSENDABLE, type(error).__name__)
        except (requests.exceptions.RequestException, OSError) as error:  # OSError: a certificate file is missing
            return Response(Outcome.RETRY, type(error).__name__)
        outcome = http_outcome(response.status_code, response.text if response.status_code == 400 else "")
        if outcome is Outcome.ACCEPTED:
            return _accepted_response(response.content)
        retry_after = _retry_seconds(response.headers.get("Retry-After"))
        return Response(outcome, f"HTTP {response.status_code}", retry_after=retry_after)

    def post(self, body: bytes, timeout: float) -> requests.Response:
        """Send one request and return the response; raise the exceptions of :mod:`requests`."""
        return self._session.post(
            self.endpoint,
            self._compress(body),
            headers=self._headers,
            timeout=timeout,
            verify=self._verify,
            cert=self._client_certificate,
            allow_redirects=False,
        )

    def _compress(self, body: bytes) -> bytes:
        if self._compression == "gzip":
            return gzip.compress(body, _GZIP_LEVEL)
        return zlib.compress(body) if self._compression == "deflate" else body

    def close(self) -> None:
        """Close the connections; this aborts a request in progress."""
        self._session.close()


def _accepted_response(content: bytes) -> Response:
    if not content:  # the usual response
        return Response(Outcome.ACCEPTED)
    try:
        partial = ExportTraceServiceResponse.FromString(content).partial_success
    except Exception:  # still a success: some gateways respond with a body of their own
        return Response(Outcome.ACCEPTED)
    return Response(Outcome.ACCEPTED, partial.error_message, max(0, partial.rejected_spans))


def _retry_seconds(retry_after: str | None) -> float | None:
    """Return the seconds in the header, or until its date. https://www.rfc-editor.org/rfc/rfc9110#name-retry-after"""
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
