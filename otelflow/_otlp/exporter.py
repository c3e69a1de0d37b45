"""OTLP span exporter of ``configure()``, set up by OpenTelemetry's variables.

OpenTelemetry's exporters drop a batch after an outage of ten seconds, treat a partial success as a complete one, and
drop a request that is too large. They are used only if a variable is set that this exporter does not support.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from otelflow._otlp.endpoint import Endpoint
from otelflow._otlp.response import Response, Sender
from otelflow._secrets.urls import url_without_credentials
from otelflow.config import OTELFLOW_MAX_REQUEST_BYTES, whole_number_from_environment

__all__ = ["OtlpExporter", "make_otlp", "new_sender", "requests"]

_MAX_REQUEST_BYTES = 4_000_000
"""Default of ``OTELFLOW_MAX_REQUEST_BYTES``: a little below 4 MiB, the limit of gRPC servers."""

_CREDENTIALS = [f"OTEL_PYTHON_EXPORTER_OTLP_{{}}_{name}CREDENTIAL_PROVIDER" for name in ("TRACES_", "")]


class OtlpExporter:
    """Exports spans to one OTLP endpoint. The batch processor takes its ``requests`` and sends them one by one."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self.component_type: str = sender.component_type

    @property
    def endpoint(self) -> str:
        """The URL without credentials."""
        return url_without_credentials(self.sender.endpoint)

    def requests(self, spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """Yield ``spans`` in requests, see :func:`requests`."""
        return requests(spans)

    def send(self, body: bytes) -> Response:
        """Send one request."""
        return self.sender.send(body)  # type: ignore[no-any-return]

    def shutdown(self) -> None:
        """Close the connections; this aborts a request in progress."""
        self.sender.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.component_type} to {self.endpoint}>"


def requests(spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
    """Yield ``spans`` in requests of at most ``OTELFLOW_MAX_REQUEST_BYTES``, in order. A larger one has one span."""
    from otelflow._otlp.request_encoder import encode_parts

    max_bytes = whole_number_from_environment(OTELFLOW_MAX_REQUEST_BYTES, _MAX_REQUEST_BYTES, 1000)
    return encode_parts(spans, int(max_bytes))


def make_otlp(endpoint: Endpoint) -> OtlpExporter | None:
    """Return an exporter to ``endpoint``; None if OpenTelemetry's exporter has to be used.

    Raises:
        ValueError: The endpoint's timeout or compression is invalid.
        OSError: A certificate for gRPC cannot be read.
    """
    protocol = "GRPC" if endpoint.is_grpc else "HTTP"
    if any(os.environ.get(name.format(protocol)) for name in _CREDENTIALS):
        return None
    if endpoint.is_grpc:
        from otelflow._otlp.grpc_sender import read_certificates

        read_certificates(endpoint)  # report a wrong path now, not with the first request
    return OtlpExporter(new_sender(endpoint))


def new_sender(endpoint: Endpoint) -> Sender:
    """Return a sender to ``endpoint``.

    Raises:
        ValueError: The endpoint's timeout or compression is invalid.
    """
    if endpoint.is_grpc:
        from otelflow._otlp.grpc_sender import GrpcSender  # grpc takes 100 ms to import

        return GrpcSender(endpoint)
    from otelflow._otlp.http_sender import HttpSender

    return HttpSender(endpoint)
