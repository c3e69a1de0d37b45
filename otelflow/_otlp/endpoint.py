"""Where an OTLP exporter sends, and how: the URL, and which variable says each part of it."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from otelflow._doctor.report import shown_url
from otelflow._providers.exporters import check_endpoint
from otelflow.errors import ConfigError

__all__ = ["GRPC", "GRPC_PORT", "HTTP", "HTTP_PORT", "PATH", "Target", "find_target", "requests_bundle", "setting"]

GRPC, HTTP = "grpc", "http/protobuf"
GRPC_PORT, HTTP_PORT = 4317, 4318
"""OTLP specification: the default ports of the two transports."""

PATH = "/v1/traces"
"""OTLP specification, OTLP/HTTP request: the default path of traces."""


class Target(NamedTuple):
    """Where an exporter sends. ``url`` may hold a password: :attr:`shown` is for people."""

    exporter: str
    protocol: str
    protocol_source: str
    url: str
    source: str
    host: str
    port: int
    tls: bool
    given: str = ""
    """What an option of the command gave as the endpoint."""

    @property
    def shown(self) -> str:
        return shown_url(self.url)

    @property
    def is_grpc(self) -> bool:
        return self.protocol == GRPC

    @property
    def place(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        return self.host in ("localhost", "127.0.0.1", "::1")


def setting(name: str) -> tuple[str, str]:
    """The value of an OTLP setting and the variable that it comes from: for traces, else for all signals, else ""."""
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := os.environ.get(variable, ""):
            return value, variable
    return "", "default"


def requests_bundle() -> str:
    """The variable by which requests finds trusted certificates; "" where OTEL_EXPORTER_OTLP_CERTIFICATE decides."""
    if setting("CERTIFICATE")[0]:
        return ""
    return next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), "")


def find_target(exporter: str, endpoint: str | None, protocol_option: bool = False) -> Target:
    """Where the exporter of this name would send, as ``make_exporter`` decides it.

    Raises :class:`otelflow.errors.ConfigError` for what cannot be called.
    """
    said, source = (endpoint, "--endpoint") if endpoint else setting("ENDPOINT")
    protocol, protocol_source = _protocol(exporter, said)
    if protocol_option:
        protocol_source = "--protocol"
    if said:
        check_endpoint(said, protocol == HTTP)
    if protocol == GRPC:
        url = said or f"http://localhost:{GRPC_PORT}"
        parts = urlsplit(url if "://" in url else f"//{url}")
        tls = _grpc_is_secure(parts)
        port = parts.port or 443  # gRPC's own default, with and without TLS
    else:
        url = _http_url(said, source)
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
    return Target(exporter, protocol, protocol_source, url, source, parts.hostname or "", port, tls, endpoint or "")


def _protocol(exporter: str, endpoint: str) -> tuple[str, str]:
    if exporter != "otlp":
        return GRPC if exporter.endswith("grpc") else HTTP, f"the exporter's name, {exporter}"
    said, source = setting("PROTOCOL")
    said = said.strip().lower()
    if said in (GRPC, HTTP):
        return said, source
    if said:
        near = " Python has no exporter for JSON." if "json" in said else ""
        raise ConfigError(f"{source} is {said!r}.{near} Set {source} to {HTTP} or {GRPC}.", setting=source)
    try:
        port = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").port
    except ValueError:
        port = None
    return (GRPC, f"default for port {GRPC_PORT}") if port == GRPC_PORT else (HTTP, "default")


def _http_url(endpoint: str, source: str) -> str:
    """OTLP exporter specification, endpoint URLs for OTLP/HTTP: the path is appended to the general endpoint, and the
    one for traces is used as it is. ``configure(endpoint=...)`` appends where there is no path."""
    if source == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":
        return endpoint
    if source == "--endpoint":
        return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH
    return (endpoint or f"http://localhost:{HTTP_PORT}").removesuffix("/") + PATH


def _grpc_is_secure(parts: SplitResult) -> bool:
    """What the scheme says; what OTEL_EXPORTER_OTLP_INSECURE says beside http:// and without a scheme."""
    insecure, _ = setting("INSECURE")
    if parts.scheme == "https":
        return True
    return insecure.strip().lower() != "true" if insecure else parts.scheme != "http"
