"""The exporters that ``configure()`` makes for OTLP: set up by OpenTelemetry's variables, sending by ours.

OpenTelemetry's own drop a batch after ten seconds of an outage, take a partial success for a whole one, and give a
request up that is too large. Where a variable is set that only they know, they are used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from otelflow._otlp.response import Answer
from otelflow.config import OTELFLOW_MAX_REQUEST_BYTES, number_from_environment

__all__ = ["OtlpExporter", "make_otlp", "otlp_setting", "requests"]

_MAX_REQUEST_BYTES = 4_000_000
"""Default of ``OTELFLOW_MAX_REQUEST_BYTES``: a little below the 4 MiB that gRPC servers take."""

_CREDENTIALS = [f"OTEL_PYTHON_EXPORTER_OTLP_{{}}_{name}CREDENTIAL_PROVIDER" for name in ("TRACES_", "")]


def otlp_setting(name: str, signal: str = "traces") -> str:
    """The value of ``OTEL_EXPORTER_OTLP_…`` for a signal: its own variable before the one for all."""
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip()
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


class OtlpExporter:
    """Spans to one OTLP endpoint. The pipeline asks for ``requests`` and sends them, one by one."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender
        self.component_type: str = sender.component_type

    @property
    def endpoint(self) -> str:
        """Where it sends, without credentials."""
        scheme, slashes, rest = self.sender.endpoint.rpartition("://")
        place, slash, path = rest.partition("/")
        return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path.partition('?')[0]}"

    def requests(self, spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """``spans`` in requests, see :func:`requests`."""
        return requests(spans)

    def send(self, body: bytes) -> Answer:
        """Send one request."""
        return self.sender.send(body)  # type: ignore[no-any-return]

    def shutdown(self) -> None:
        """End the connections, and with them a request that is under way."""
        self.sender.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.component_type} to {self.endpoint}>"


def requests(spans: Sequence[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
    """``spans`` in requests of at most ``OTELFLOW_MAX_REQUEST_BYTES``, in order; a larger one has one span."""
    from otelflow._otlp.request_encoder import encode_parts

    most = number_from_environment(OTELFLOW_MAX_REQUEST_BYTES, _MAX_REQUEST_BYTES, 1000)
    return encode_parts(spans, int(most))


def make_otlp(is_http: bool, endpoint: str | None, headers: Mapping[str, str] | None) -> OtlpExporter | None:
    """The exporter that the environment and what is given describe; None where OpenTelemetry's own has to be used."""
    protocol = "HTTP" if is_http else "GRPC"
    if any(os.environ.get(name.format(protocol)) for name in _CREDENTIALS):
        return None
    common: dict[str, Any] = {
        "timeout": _timeout(otlp_setting("TIMEOUT")),
        "compression": otlp_setting("COMPRESSION").lower() or "none",
    }
    if common["compression"] not in ("none", "gzip", "deflate") or (not is_http and common["compression"] == "deflate"):
        raise ValueError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {common['compression']!r}. Use gzip or none")
    given = dict(headers) if headers else parse_env_headers(otlp_setting("HEADERS"), liberal=True)
    make = _http if is_http else _grpc
    return OtlpExporter(make(endpoint, given, common))


def _timeout(text: str) -> float:
    seconds = float(text or 10)
    if not 0 < seconds < threading.TIMEOUT_MAX:  # each request would raise
        raise ValueError(f"OTEL_EXPORTER_OTLP_TIMEOUT is {text!r}. Use a number of seconds above 0")
    return seconds


def _http(endpoint: str | None, headers: Mapping[str, str], common: dict[str, Any]) -> Any:
    from otelflow._otlp.http_sender import HttpSender

    certificate, key = otlp_setting("CLIENT_CERTIFICATE") or None, otlp_setting("CLIENT_KEY")
    own = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or "http://localhost:4318"
    return HttpSender(
        endpoint or own or f"{base.rstrip('/')}/v1/traces",
        headers,
        certificate=otlp_setting("CERTIFICATE") or None,
        client_certificate=(certificate, key) if certificate and key else certificate,
        **common,
    )


def _grpc(endpoint: str | None, headers: Mapping[str, str], common: dict[str, Any]) -> Any:
    from otelflow._otlp.grpc_sender import GrpcSender

    where = endpoint or otlp_setting("ENDPOINT") or "http://localhost:4317"
    parts = urlsplit(where)
    insecure = otlp_setting("INSECURE")
    secure = parts.scheme == "https" or (insecure.lower() != "true" if insecure else parts.scheme != "http")
    return GrpcSender(
        parts.netloc or where,
        headers,
        secure=secure,
        certificate=_content("CERTIFICATE"),
        client_key=_content("CLIENT_KEY"),
        client_certificate=_content("CLIENT_CERTIFICATE"),
        **common,
    )


def _content(name: str) -> bytes | None:
    path = otlp_setting(name)
    return Path(path).read_bytes() if path else None
