"""Finding and making exporters: by entry-point name, as OpenTelemetry's environment variables say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import urlsplit

from otelflow.errors import ConfigError

__all__ = ["GROUP", "check_endpoint", "exporter_names", "make_exporter"]

GROUP = "opentelemetry_traces_exporter"
"""The entry-point group under which every OpenTelemetry span exporter registers."""

_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_TRACES_PATH = "/v1/traces"


def exporter_names() -> list[str]:
    """What ``OTEL_TRACES_EXPORTER`` asks for; ``otlp`` where it is not set, nothing for ``none``."""
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [name for name in names if name and name.lower() != "none"]


def _from_environment(name: str) -> str:
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def make_exporter(name: str, endpoint: str | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """The exporter that is registered as ``name``, made from its environment variables and what is given here.

    ``otlp`` takes the protocol from ``OTEL_EXPORTER_OTLP_PROTOCOL``; where that is not set it is ``http/protobuf``,
    and ``grpc`` for an endpoint with port 4317.

    Raises :class:`otelflow.errors.ConfigError` for a name that nothing registers and for an endpoint that is no URL.
    """
    where = endpoint or _from_environment("ENDPOINT")
    entry = _OTLP[_protocol(where)] if name == "otlp" else name
    given: dict[str, Any] = {}
    if entry in _OTLP.values():
        is_http = entry == _OTLP["http/protobuf"]
        if where:
            check_endpoint(where, is_http)
        if endpoint:
            given["endpoint"] = _with_path(endpoint) if is_http else endpoint
        if headers:
            given["headers"] = dict(headers)
        if not is_http and _from_environment("COMPRESSION").strip().lower() == "none":
            given["compression"] = _no_grpc_compression()
    try:
        return _entry_point(entry).load()(**given)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The exporter {name!r} cannot be made: {type(error).__name__}: {error}. Check its environment variables.",
            setting="OTEL_TRACES_EXPORTER",
        ) from error


def _no_grpc_compression() -> Any:
    """The specification's ``none``, which the gRPC exporter refuses as an environment variable's value."""
    from grpc import Compression

    return Compression.NoCompression


def _protocol(endpoint: str) -> str:
    said = _from_environment("PROTOCOL").strip().lower()
    if not said:
        return "grpc" if _port(endpoint) == 4317 else "http/protobuf"
    if said not in _OTLP:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {said!r}. Use one of: {', '.join(sorted(_OTLP))}.",
            setting="OTEL_EXPORTER_OTLP_PROTOCOL",
        )
    return said


def _port(endpoint: str) -> int | None:
    try:
        return urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").port
    except ValueError:
        return None


def check_endpoint(endpoint: str, is_http: bool) -> None:
    """Raise :class:`otelflow.errors.ConfigError` unless ``endpoint`` is one that an exporter can call."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint or is_http else f"http://{endpoint}")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        usable = False
    if not usable:
        example = "http://localhost:4318" if is_http else "http://localhost:4317"
        raise ConfigError(
            f"The OTLP endpoint {endpoint!r} is no URL that can be called. Use one like {example} "
            "(OTEL_EXPORTER_OTLP_ENDPOINT, or configure(endpoint=...)).",
            setting="OTEL_EXPORTER_OTLP_ENDPOINT",
        )


def _with_path(endpoint: str) -> str:
    """A base URL with the path for traces, as the exporter does by itself for the environment variable only."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + _TRACES_PATH


def _entry_point(name: str) -> Any:
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in known:
        return known[name]
    hint = " Install the distribution otelflow-exporters for it." if name.startswith("otelflow_") else ""
    names = ", ".join(sorted({"otlp", *known}))
    raise ConfigError(f"No exporter is installed under the name {name!r}.{hint} There are: {names}.", setting=GROUP)
