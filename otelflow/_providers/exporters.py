"""Finding and making exporters: by entry-point name, as OpenTelemetry's environment variables say."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from otelflow._otlp.endpoint import GRPC, HTTP, Endpoint, Setting, check_endpoint, find_endpoint, otlp_setting
from otelflow._otlp.exporter import make_otlp
from otelflow._secrets.detect import register_secrets
from otelflow._secrets.urls import url_secrets
from otelflow._values.scrub import guard_log
from otelflow.errors import ArgumentError, ConfigError, nearest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = [
    "GROUP",
    "configured_exporters",
    "exporter_names",
    "find_exporter_endpoint",
    "make_exporter",
    "make_or_placeholder",
]

_logger = logging.getLogger("otelflow")

GROUP = "opentelemetry_traces_exporter"
"""The entry-point group under which every OpenTelemetry span exporter registers."""

_TALKATIVE = (
    "opentelemetry.util.re",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)
"""Loggers of OpenTelemetry that show a header or an endpoint when it cannot be used."""

_PROTOCOLS = {"otlp_proto_grpc": GRPC, "otlp_proto_http": HTTP}
"""The exporters of OTLP that are registered under the name of a protocol."""


def exporter_names(signal: str = "traces") -> list[str]:
    """What ``OTEL_TRACES_EXPORTER`` asks for (``OTEL_LOGS_EXPORTER`` for the signal ``logs``); ``otlp`` where it is
    not set or empty, nothing for ``none``."""
    said = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
    names = [name.strip() for name in said.split(",")]
    return [name for name in names if name and name.lower() != "none"]


def make_exporter(
    name: str, endpoint: str | None = None, headers: Mapping[str, str] | None = None, signal: str = "traces"
) -> Any:
    """The exporter that is registered as ``name``, made from its environment variables and what is given here.

    ``otlp`` takes the protocol from ``OTEL_EXPORTER_OTLP_PROTOCOL``; where that is not set it is ``http/protobuf``,
    and ``grpc`` for an endpoint with port 4317. For traces it is our own exporter (see :mod:`otelflow._otlp.exporter`).

    Raises :class:`otelflow.errors.ConfigError` for a name that nothing registers and for an endpoint that is no URL.
    """
    url = endpoint or otlp_setting("ENDPOINT", signal).text
    register_secrets((*(headers or {}).values(), *_header_values(), *url_secrets(url)))
    for logger in _TALKATIVE:
        guard_log(logger)
    try:
        target = find_exporter_endpoint(name, endpoint, headers, signal)
        if target is None:
            return _made(_entry_point(name, signal).load(), endpoint, headers)
        ours = make_otlp(target) if signal == "traces" else None
        return ours or _upstream(target, endpoint, headers, signal)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The exporter {name!r} cannot be made: {type(error).__name__}: {error}. Check its environment variables.",
            setting=f"OTEL_{signal.upper()}_EXPORTER",
        ) from error


def find_exporter_endpoint(
    name: str,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    signal: str = "traces",
    source: str = "configure(endpoint=...)",
) -> Endpoint | None:
    """Return where the exporter ``name`` sends to; None for one that is not OTLP's.

    Args:
        source: Where ``endpoint`` comes from.

    Raises:
        ConfigError: The URL cannot be called, or the environment asks for an unknown protocol.
    """
    if name != "otlp" and name not in _PROTOCOLS:
        return None
    protocol = None if name == "otlp" else Setting(_PROTOCOLS[name], f"the exporter's name, {name}")
    return find_endpoint(signal, url=Setting(endpoint or "", source), protocol=protocol, headers=headers)


def _upstream(target: Endpoint, endpoint: str | None, headers: Mapping[str, str] | None, signal: str) -> Any:
    """OpenTelemetry's own exporter to the same endpoint. It reads the environment by itself."""
    given: dict[str, Any] = {}
    if endpoint:
        given["endpoint"] = target.url
    if headers:
        given["headers"] = dict(headers)
    if target.is_grpc and target.compression.text.lower() == "none":
        given["compression"] = _no_grpc_compression()
    return _entry_point("otlp_proto_grpc" if target.is_grpc else "otlp_proto_http", signal).load()(**given)


def _made(kind: Any, endpoint: str | None, headers: Mapping[str, str] | None) -> Any:
    """An exporter of that kind. One that sends somewhere by itself may have a class method ``sending_to(endpoint,
    headers)``, which makes one that sends there instead of where its environment variables say; what was not given is
    None."""
    sending_to = getattr(kind, "sending_to", None)
    if sending_to is None or not (endpoint or headers):
        return kind()
    if endpoint:
        check_endpoint(endpoint, "://" in endpoint)
    return sending_to(endpoint, dict(headers) if headers else None)


def _header_values() -> Iterator[str]:
    """What the environment's headers hold, as it stands there and decoded, with and without its scheme."""
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        for entry in os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}HEADERS", "").split(","):
            value = unquote(entry.partition("=")[2]).strip()
            yield from (entry.partition("=")[2].strip(), value, value.rpartition(" ")[2])


def _no_grpc_compression() -> Any:
    """The specification's ``none``, which the gRPC exporter refuses as an environment variable's value."""
    from grpc import Compression  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own

    return Compression.NoCompression


def _entry_point(name: str, signal: str) -> Any:
    group = f"opentelemetry_{signal}_exporter"
    known = {entry.name: entry for entry in entry_points(group=group)}
    if name in known:
        return known[name]
    hint = nearest(name, known)
    if name.startswith("otelflow_") and not hint:
        hint = " Install the distribution otelflow-exporters for it."
    names = ", ".join(sorted({"otlp", *known}))
    raise ConfigError(f"No exporter is installed under the name {name!r}.{hint} There are: {names}.", setting=group)


def configured_exporters(
    exporters: Iterable[str | SpanExporter] | str | None, endpoint: str | None, headers: Mapping[str, str] | None
) -> list[tuple[str, Any]]:
    """The exporters to use, with their names. Those that the environment asks for never raise."""
    if exporters is None and endpoint is None:
        return [(name, make_or_placeholder(name, None, headers)) for name in exporter_names()]
    named = exporter_names() if exporters is None else [exporters] if isinstance(exporters, str) else list(exporters)
    made: list[tuple[str, Any]] = []
    is_told = False
    for item in named:
        if isinstance(item, str):
            exporter = make_exporter(item, endpoint, headers)
            made.append((item, exporter))
            is_told = is_told or "otlp" in item or hasattr(exporter, "sending_to")
        elif hasattr(item, "export") and hasattr(item, "shutdown"):
            made.append((type(item).__name__, item))
            is_told = is_told or hasattr(item, "endpoint")
        else:
            raise ArgumentError(
                f"configure(exporters=...) got {item!r}. Use entry-point names or SpanExporter objects."
            )
    if endpoint and made and not is_told:
        _logger.warning(
            "configure(endpoint=...) has no effect: %s sends where its environment variables say.",
            ", ".join(name for name, _ in made),
        )
    return made


class _Unusable:
    """Stands for an exporter that could not be made: it refuses everything, so that the account shows the loss."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


def make_or_placeholder(
    name: str, endpoint: str | None, headers: Mapping[str, str] | None, signal: str = "traces"
) -> Any:
    """The exporter, or where it cannot be made what stands for it."""
    try:
        return make_exporter(name, endpoint, headers, signal)
    except ConfigError as error:
        _logger.error("%s Spans are counted as lost until it is mended.", error)
        return _Unusable()
