"""Finding and making exporters: by entry-point name, as OpenTelemetry's environment variables say."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from otelflow._otlp.exporter import make_otlp, otlp_setting
from otelflow._secrets.detect import hide
from otelflow._values.scrub import guard_log
from otelflow.errors import ArgumentError, ConfigError, nearest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["GROUP", "check_endpoint", "exporter_names", "made_or_unusable", "make_exporter", "wanted_exporters"]

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
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


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
    where = endpoint or otlp_setting("ENDPOINT", signal)
    hide((*(headers or {}).values(), *_header_values(), *_url_secrets(where)))
    for logger in _TALKATIVE:
        guard_log(logger)
    entry = _OTLP[_protocol(where, signal)] if name == "otlp" else name
    given: dict[str, Any] = {}
    is_otlp, is_http = entry in _OTLP.values(), entry == _OTLP["http/protobuf"]
    if is_otlp:
        if where:
            check_endpoint(where, is_http)
        if endpoint:
            given["endpoint"] = _with_path(endpoint, signal) if is_http else endpoint
        if headers:
            given["headers"] = dict(headers)
        if not is_http and otlp_setting("COMPRESSION", signal).lower() == "none":
            given["compression"] = _no_grpc_compression()
    try:
        ours = make_otlp(is_http, given.get("endpoint"), headers) if is_otlp and signal == "traces" else None
        return ours or _made(_entry_point(entry, signal).load(), endpoint, headers, given)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"The exporter {name!r} cannot be made: {type(error).__name__}: {error}. Check its environment variables.",
            setting=f"OTEL_{signal.upper()}_EXPORTER",
        ) from error


def _made(kind: Any, endpoint: str | None, headers: Mapping[str, str] | None, given: dict[str, Any]) -> Any:
    """An exporter of that kind. One that sends somewhere by itself may have a class method ``sending_to(endpoint,
    headers)``, which makes one that sends there instead of where its environment variables say; what was not given is
    None."""
    sending_to = getattr(kind, "sending_to", None)
    if sending_to is None or not (endpoint or headers):
        return kind(**given)
    if endpoint:
        check_endpoint(endpoint, "://" in endpoint)
    return sending_to(endpoint, dict(headers) if headers else None)


def _header_values() -> Iterator[str]:
    """What the environment's headers hold, as it stands there and decoded, with and without its scheme."""
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        for entry in os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}HEADERS", "").split(","):
            value = unquote(entry.partition("=")[2]).strip()
            yield from (entry.partition("=")[2].strip(), value, value.rpartition(" ")[2])


def _url_secrets(url: str) -> Iterator[str]:
    """Password and query values of an endpoint: errors of a connection name it whole."""
    rest = url.rpartition("//")[2]
    yield rest.partition("/")[0].rpartition("@")[0].rpartition(":")[2]
    yield from (pair.partition("=")[2] for pair in rest.partition("?")[2].partition("#")[0].split("&"))


def _no_grpc_compression() -> Any:
    """The specification's ``none``, which the gRPC exporter refuses as an environment variable's value."""
    from grpc import Compression  # type: ignore[import-untyped,unused-ignore]  # its stubs are a package of their own

    return Compression.NoCompression


def _protocol(endpoint: str, signal: str) -> str:
    said = otlp_setting("PROTOCOL", signal).lower()
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


def _with_path(endpoint: str, signal: str) -> str:
    """A base URL with the path for the signal, as the exporter does by itself for the environment variable only."""
    return endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}/v1/{signal}"


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


def wanted_exporters(
    exporters: Iterable[str | SpanExporter] | str | None, endpoint: str | None, headers: Mapping[str, str] | None
) -> list[tuple[str, Any]]:
    """The exporters to use, with their names. Those that the environment asks for never raise."""
    if exporters is None and endpoint is None:
        return [(name, made_or_unusable(name, None, headers)) for name in exporter_names()]
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


def made_or_unusable(name: str, endpoint: str | None, headers: Mapping[str, str] | None, signal: str = "traces") -> Any:
    """The exporter, or where it cannot be made what stands for it."""
    try:
        return make_exporter(name, endpoint, headers, signal)
    except ConfigError as error:
        _logger.error("%s Spans are counted as lost until it is mended.", error)
        return _Unusable()
