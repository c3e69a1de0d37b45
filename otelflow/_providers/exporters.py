"""Find and create exporters by entry-point name, by OpenTelemetry's environment variables."""

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

_LEAKING_LOGGERS = (
    "opentelemetry.util.re",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http._log_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)
"""Loggers of OpenTelemetry that print a header or an endpoint when it is invalid."""

_PROTOCOLS = {"otlp_proto_grpc": GRPC, "otlp_proto_http": HTTP}
"""OTLP exporters that are registered under the name of a protocol."""


def exporter_names(signal: str = "traces") -> list[str]:
    """Return the names in ``OTEL_TRACES_EXPORTER`` (or ``OTEL_LOGS_EXPORTER``, ``OTEL_METRICS_EXPORTER``).

    The default, also for an empty variable, is ``otlp``. The name ``none`` is left out.
    """
    setting = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
    names = [name.strip() for name in setting.split(",")]
    return [name for name in names if name and name.lower() != "none"]


def make_exporter(
    name: str, endpoint: str | None = None, headers: Mapping[str, str] | None = None, signal: str = "traces"
) -> Any:
    """Create the exporter that is registered as ``name``, from its environment variables and the arguments.

    ``otlp`` reads the protocol from ``OTEL_EXPORTER_OTLP_PROTOCOL``. The default is ``grpc`` for an endpoint with port
    4317, else ``http/protobuf``. For traces it is otelflow's exporter (see :mod:`otelflow._otlp.exporter`).

    Raises:
        ConfigError: No exporter is registered as ``name``, the endpoint is not a valid URL, or creating it failed.
    """
    url = endpoint or otlp_setting("ENDPOINT", signal).text
    register_secrets((*(headers or {}).values(), *_header_values(), *url_secrets(url)))
    for logger in _LEAKING_LOGGERS:
        guard_log(logger)
    try:
        target = find_exporter_endpoint(name, endpoint, headers, signal)
        if target is None:
            return _create(_entry_point(name, signal).load(), endpoint, headers)
        exporter = make_otlp(target) if signal == "traces" else None
        return exporter or _opentelemetry_exporter(target, endpoint, headers, signal)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The exporter {name!r} cannot be created: {type(error).__name__}: {error}. "
            "Check its environment variables.",
            setting=f"OTEL_{signal.upper()}_EXPORTER",
        ) from error


def find_exporter_endpoint(
    name: str,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    signal: str = "traces",
    source: str = "configure(endpoint=...)",
) -> Endpoint | None:
    """Return the endpoint of the exporter ``name``; None if it is not an OTLP exporter.

    Args:
        source: The variable, option or argument that ``endpoint`` comes from.

    Raises:
        ConfigError: The URL or the environment's protocol is invalid.
    """
    if name != "otlp" and name not in _PROTOCOLS:
        return None
    protocol = None if name == "otlp" else Setting(_PROTOCOLS[name], f"the exporter's name, {name}")
    return find_endpoint(signal, url=Setting(endpoint or "", source), protocol=protocol, headers=headers)


def _opentelemetry_exporter(
    target: Endpoint, endpoint: str | None, headers: Mapping[str, str] | None, signal: str
) -> Any:
    """Create OpenTelemetry's exporter to the same endpoint. It reads the environment by itself."""
    arguments: dict[str, Any] = {}
    if endpoint:
        arguments["endpoint"] = target.url
    if headers:
        arguments["headers"] = dict(headers)
    if target.is_grpc and target.compression.text.lower() == "none":
        arguments["compression"] = _no_grpc_compression()
    return _entry_point("otlp_proto_grpc" if target.is_grpc else "otlp_proto_http", signal).load()(**arguments)


def _create(exporter_class: Any, endpoint: str | None, headers: Mapping[str, str] | None) -> Any:
    """Create an exporter, with ``endpoint`` and ``headers`` if its class accepts them.

    Such a class has a class method ``sending_to(endpoint, headers)``, which creates an exporter with these in the place
    of its environment variables; None means not set.
    """
    sending_to = getattr(exporter_class, "sending_to", None)
    if sending_to is None or not (endpoint or headers):
        return exporter_class()
    if endpoint:
        check_endpoint(endpoint, "://" in endpoint)
    return sending_to(endpoint, dict(headers) if headers else None)


def _header_values() -> Iterator[str]:
    """Yield the header values of the environment: as written, decoded, and without their scheme (``Bearer``)."""
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        for entry in os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}HEADERS", "").split(","):
            value = unquote(entry.partition("=")[2]).strip()
            yield from (entry.partition("=")[2].strip(), value, value.rpartition(" ")[2])


def _no_grpc_compression() -> Any:
    """Return gRPC's value for ``none``: the gRPC exporter refuses the specification's ``none`` in the variable."""
    from grpc import Compression  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own

    return Compression.NoCompression


def _entry_point(name: str, signal: str) -> Any:
    group = f"opentelemetry_{signal}_exporter"
    installed = {entry.name: entry for entry in entry_points(group=group)}
    if name in installed:
        return installed[name]
    hint = nearest(name, installed)
    if name.startswith("otelflow_") and not hint:
        hint = " Install the distribution otelflow-exporters."
    names = ", ".join(sorted({"otlp", *installed}))
    raise ConfigError(f"No exporter is installed under the name {name!r}.{hint} Use one of: {names}.", setting=group)


def configured_exporters(
    exporters: Iterable[str | SpanExporter] | str | None, endpoint: str | None, headers: Mapping[str, str] | None
) -> list[tuple[str, Any]]:
    """Return the names and exporters to use. An error in the environment's exporters is logged, not raised."""
    if exporters is None and endpoint is None:
        return [(name, make_or_placeholder(name, None, headers)) for name in exporter_names()]
    items = exporter_names() if exporters is None else [exporters] if isinstance(exporters, str) else list(exporters)
    named_exporters: list[tuple[str, Any]] = []
    is_endpoint_used = False
    for item in items:
        if isinstance(item, str):
            exporter = make_exporter(item, endpoint, headers)
            named_exporters.append((item, exporter))
            is_endpoint_used = is_endpoint_used or "otlp" in item or hasattr(exporter, "sending_to")
        elif hasattr(item, "export") and hasattr(item, "shutdown"):
            named_exporters.append((type(item).__name__, item))
            is_endpoint_used = is_endpoint_used or hasattr(item, "endpoint")
        else:
            raise ArgumentError(
                f"configure(exporters=...) got {item!r}. Use entry-point names or SpanExporter objects."
            )
    if endpoint and named_exporters and not is_endpoint_used:
        _logger.warning(
            "configure(endpoint=...) has no effect: %s does not use it. Use the exporter's own settings.",
            ", ".join(name for name, _ in named_exporters),
        )
    return named_exporters


class _Unusable:  # its name is the metrics' otel.component.type of such an exporter
    """Replaces an exporter that could not be created: it refuses everything, so that its spans count as lost."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


def make_or_placeholder(
    name: str, endpoint: str | None, headers: Mapping[str, str] | None, signal: str = "traces"
) -> Any:
    """Create the exporter; if that fails, log the error and return a placeholder that counts its spans as lost."""
    try:
        return make_exporter(name, endpoint, headers, signal)
    except ConfigError as error:
        _logger.error("%s Its spans are counted as lost until this is fixed.", error)
        return _Unusable()
