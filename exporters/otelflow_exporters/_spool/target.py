"""Where a spool sends to, as OpenTelemetry's variables for OTLP say, and what an endpoint may answer."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

__all__ = ["Answer", "Kind", "Sender", "Target", "targets"]

_logger = logging.getLogger("otelflow")

_TIMEOUT_SECONDS = 10.0


class Kind(Enum):
    """What is to be done after a request."""

    ACCEPTED = "accepted"
    LATER = "later"
    """It is not the request's fault: send it again."""
    DOUBTFUL = "doubtful"
    """An error within the receiver, which may pass, or come from this request: send it again a few times."""
    TOO_LARGE = "too large"
    REFUSED = "refused"
    """It will never be taken. OTLP: "the client MUST NOT retry"."""
    MALFORMED = "malformed"
    """The same, because of something in it: a part of it may be taken."""


class Answer(NamedTuple):
    """What an endpoint said."""

    kind: Kind
    detail: str = ""
    wait: float | None = None
    """Seconds that the endpoint asks to wait for."""
    rejected: int = 0
    """Spans that it left out."""


class Sender(Protocol):
    """Sends requests to one endpoint; of one thread."""

    def send(self, payload: bytes) -> Answer:
        """Send an ExportTraceServiceRequest. Raises nothing for what an endpoint or a network does."""
        ...

    def close(self) -> None:
        """Give the connection up."""


class Target(NamedTuple):
    """An endpoint and how to talk to it."""

    url: str
    is_grpc: bool
    headers: dict[str, str]
    timeout: float
    compression: str
    certificate: str | None
    client_key: str | None
    client_certificate: str | None
    insecure: bool
    """gRPC without TLS; OTEL_EXPORTER_OTLP_INSECURE counts where the endpoint has no scheme."""

    @property
    def key(self) -> str:
        """Its name in files: endpoints may hold credentials."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:12]

    @property
    def shown(self) -> str:
        """The endpoint without credentials and query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def targets(several: str = "", endpoint: str | None = None, headers: Mapping[str, str] | None = None) -> list[Target]:
    """The endpoints of the environment; ``several``: those instead, separated by commas; ``endpoint``: that one instead
    of any other. ``headers`` are sent instead of the environment's."""
    found = _one(endpoint) if endpoint else _of_environment(several)
    return [target._replace(headers=dict(headers)) for target in found] if headers else found


def _one(endpoint: str) -> list[Target]:
    """That gets the signal's path if it has none."""
    has_path = bool(urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").path.strip("/"))
    return [_target("", endpoint) if has_path else _target(endpoint, "")]


def _of_environment(several: str) -> list[Target]:
    urls = list(dict.fromkeys(url.strip() for url in several.split(",") if url.strip()))
    if urls:
        return [_target(url, "") for url in urls]
    return [_target(_said("ENDPOINT"), os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip())]


def _target(base: str, whole: str) -> Target:
    """``whole`` is used as it is over HTTP; ``base`` gets the signal's path if it has none, or is the variable for all
    signals."""
    endpoint = whole or base
    is_grpc = _is_grpc(endpoint)
    if not endpoint:
        endpoint = "http://localhost:4317" if is_grpc else "http://localhost:4318"
    has_scheme = "://" in endpoint
    if not has_scheme:
        endpoint = f"http://{endpoint}"
    if not is_grpc and not whole and not endpoint.rstrip("/").endswith("/v1/traces"):
        endpoint = f"{endpoint.rstrip('/')}/v1/traces"
    return Target(
        endpoint,
        is_grpc,
        dict(parse_env_headers(_said("HEADERS"), liberal=True)),
        _timeout(),
        _said("COMPRESSION").lower() or "none",
        _said("CERTIFICATE") or None,
        _said("CLIENT_KEY") or None,
        _said("CLIENT_CERTIFICATE") or None,
        endpoint.startswith("http://") and (has_scheme or _said("INSECURE").lower() == "true"),
    )


def _said(name: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip()
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _is_grpc(endpoint: str) -> bool:
    said = _said("PROTOCOL").lower()
    if said in ("grpc", "http/protobuf"):
        return said == "grpc"
    if said:
        _logger.warning("OTEL_EXPORTER_OTLP_PROTOCOL=%r is ignored: grpc or http/protobuf is wanted.", said)
    try:
        return urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").port == 4317
    except ValueError:
        return False


def _timeout() -> float:
    try:
        return float(_said("TIMEOUT") or _TIMEOUT_SECONDS)
    except ValueError:
        return _TIMEOUT_SECONDS
