"""Check what ``configure()`` would set up: versions, provider, exporters, sampler, resource, limits, queue."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from otelflow._doctor.report import DISABLED, MINOR, UNUSABLE, Report, Secrets
from otelflow._export.settings import queue_settings
from otelflow._otlp.endpoint import otlp_setting
from otelflow._providers.exporters import GROUP, exporter_names
from otelflow._secrets.detect import REDACTED, looks_secret
from otelflow._spans.tracer import global_provider
from otelflow._version import __version__
from otelflow.config import (
    EXIT_SECONDS,
    OTELFLOW_EVENTS,
    OTELFLOW_EXIT_SECONDS,
    OTELFLOW_HISTORY_SIZE,
    OTELFLOW_MAX_VALUE_BYTES,
    OTELFLOW_QUEUE_SIZE,
    choice_from_environment,
    number_from_environment,
    whole_number_from_environment,
)
from otelflow.errors import near_names

__all__ = ["OTLP_NAMES", "captured_logs", "check_settings"]

OTLP_NAMES = ("otlp", "otlp_proto_http", "otlp_proto_grpc")
"""Names of the exporters that send over OTLP. The doctor checks only their endpoints."""

_PARTS = {
    "api": "opentelemetry-api",
    "sdk": "opentelemetry-sdk",
    "otlp http": "opentelemetry-exporter-otlp-proto-http",
    "otlp grpc": "opentelemetry-exporter-otlp-proto-grpc",
}
_TERMINAL_EXPORTERS = ("console", "otelflow_tree")
_UNKNOWN_SERVICE = "unknown_service"
_LOGGERS = ("opentelemetry", "otelflow", "urllib3")


class _LogCollector(logging.Handler):
    """Log handler that collects messages, so that the diagnosis can report them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.texts.append(record.getMessage())
        except Exception:
            self.texts.append(str(record.msg))


@contextlib.contextmanager
def captured_logs() -> Iterator[list[str]]:
    """Yield a list that collects what OpenTelemetry and otelflow log within the block.

    The terminal does not show these messages: they may contain a header's value.
    """
    collector = _LogCollector()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    propagate_before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.propagate = False
    try:
        yield collector.texts
    finally:
        for logger, propagate in zip(loggers, propagate_before, strict=True):
            logger.removeHandler(collector)
            logger.propagate = propagate


def check_settings(report: Report, secrets: Secrets) -> Any:
    """Report what is set up and where each setting comes from.

    Return the resource of the spans, or None if the SDK cannot be set up.
    """
    _check_versions(report)
    _check_provider(report)
    _check_exporters(report)
    resource = None
    with captured_logs() as texts:
        try:
            # Imported here: the SDK reads its limits at import already, and an invalid one raises.
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider

            resource = Resource.create()
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        except Exception as error:
            variable = re.search(r"OTEL_[A-Z_]+", str(error))
            report.error(
                "sdk",
                f"configure() raises {type(error).__name__}: {secrets.redact(error)}",
                f"Unset {variable[0] if variable else 'the variable in the message'}, or set it to a number.",
                rank=DISABLED,
            )
        else:
            _check_sampler(report, provider)
            _check_resource(report, resource)
            _check_limits(report, getattr(provider, "_span_limits", None))
        _check_numbers(report)
    for text in dict.fromkeys(texts):
        if "sampler" not in text.lower():  # _check_sampler() reports these
            report.warn("logged", secrets.redact(text))
    return resource


def _installed_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _check_versions(report: Report) -> None:
    exporters = _installed_version("otelflow-exporters") or "not installed"
    report.ok("versions", f"otelflow {__version__}, otelflow-exporters {exporters}, Python {platform.python_version()}")
    versions = {label: _installed_version(name) or "not installed" for label, name in _PARTS.items()}
    if len(set(versions.values())) == 1:
        report.ok("opentelemetry", f"{versions['api']} ({', '.join(versions)})")
    else:
        report.ok("opentelemetry", ", ".join(f"{label} {number}" for label, number in versions.items()))
    if _installed_version("opentelemetry-distro") and not otlp_setting("PROTOCOL").text:
        # opentelemetry-distro sets OTEL_EXPORTER_OTLP_PROTOCOL=grpc if it is not set.
        text = "opentelemetry-instrument would use grpc, because OTEL_EXPORTER_OTLP_PROTOCOL is not set"
        report.skip("starter", text)


def _check_provider(report: Report) -> None:
    entry_point = os.environ.get("OTEL_PYTHON_TRACER_PROVIDER", "")
    provider = global_provider()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        report.error(
            "provider",
            "the SDK is switched off: no span is recorded",
            "Unset OTEL_SDK_DISABLED.",
            source="OTEL_SDK_DISABLED",
            rank=DISABLED,
        )
    elif provider is not None:
        kind = f"{type(provider).__module__}.{type(provider).__qualname__}"
        report.warn(
            "provider",
            f"other code has set one already ({kind}): configure() does not change it, and its exporters are not "
            "checked here",
            source="OTEL_PYTHON_TRACER_PROVIDER" if entry_point else "",
        )
    elif entry_point:
        report.warn(
            "provider", f"{entry_point!r} is loaded when a tracer is first used", source="OTEL_PYTHON_TRACER_PROVIDER"
        )
    else:
        report.ok("provider", "none yet: configure() or `otelflow run` creates it")
    if (flag := os.environ.get("OTEL_SDK_DISABLED", "").strip()) and flag.lower() not in ("true", "false"):
        # Specification, configuration by environment variables: every value except "true" means false.
        report.warn("provider", f"OTEL_SDK_DISABLED is {flag!r}: only 'true' switches the SDK off")


def _check_exporters(report: Report) -> None:
    variable = "OTEL_TRACES_EXPORTER"
    names, source = exporter_names(), variable if variable in os.environ else "default"
    if not names:
        report.error(
            "exporters",
            "none: every span is discarded",
            f"Unset {variable}, or set {variable}=otlp.",
            source=source,
            rank=DISABLED,
        )
        return
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in names:
        if name in installed or name == "otlp":
            _check_exporter_import(report, name, installed.get(name), source)
    for name in names:
        if name not in installed and name != "otlp":
            report.error(
                "exporters",
                f"{name!r} is not installed. Installed are: {', '.join(sorted({'otlp', *installed}))}",
                _exporter_advice(name, ["otlp", *installed]),
                source=source,
                rank=UNUSABLE,
            )
    if all(name in _TERMINAL_EXPORTERS for name in names):
        report.warn(
            "exporters",
            "spans are only printed in the terminal, and sent nowhere",
            f"Set {variable}=otlp,{names[0]} to send them as well.",
            source=source,
            rank=DISABLED,
        )


def _exporter_advice(name: str, installed: list[str]) -> str:
    similar = near_names(name, installed)
    if similar:
        return f"Write {similar[0]} instead of {name} in OTEL_TRACES_EXPORTER."
    if name.startswith("otelflow_"):
        return f"Install otelflow-exporters, which provides {name}."
    return f"Install the package that provides {name}, or remove it from OTEL_TRACES_EXPORTER."


def _check_exporter_import(report: Report, name: str, entry: Any, source: str) -> None:
    try:
        if entry is not None:
            entry.load()
    except ImportError as error:
        report.error(
            "exporters",
            f"{name!r} is installed, but cannot be imported: {error}",
            f"Reinstall the package that provides {name}.",
            source=source,
            rank=UNUSABLE,
        )
    except Exception:
        return  # the SDK raises at import: check_settings() reports that
    else:
        note = (
            ""
            if name in OTLP_NAMES
            else ": prints in the terminal"
            if name in _TERMINAL_EXPORTERS
            else ": not OTLP, not checked here"
        )
        report.ok("exporters", f"{name}{note}", source)


_SAMPLERS = {"always_on": 1.0, "always_off": 0.0}
_RATIOS = "traceidratio"


def _check_sampler(report: Report, provider: Any) -> None:
    """Report the share of traces that the sampler keeps. With ``parentbased_…``: of the traces that start here."""
    variable = "OTEL_TRACES_SAMPLER"
    text = os.environ.get(variable, "").strip()
    source = variable if text else "default"
    name = text.lower() or "parentbased_always_on"
    base = name.removeprefix("parentbased_")
    exception = "" if base == name else "; a span with a remote parent follows the caller's decision"
    if base not in (*_SAMPLERS, _RATIOS):
        report.warn(
            "sampler",
            f"{text!r} is not known to the SDK: {provider.sampler.get_description()} is used",
            f"Set {variable} to always_on, always_off or traceidratio, or to one of these after parentbased_.",
            source=source,
            rank=UNUSABLE,
        )
        return
    share = _SAMPLERS[base] if base in _SAMPLERS else _sampling_ratio(report)
    if base in _SAMPLERS and os.environ.get("OTEL_TRACES_SAMPLER_ARG"):
        report.warn(
            "sampler",
            f"OTEL_TRACES_SAMPLER_ARG has no effect with {name}",
            f"Set {variable}=parentbased_traceidratio to use it.",
        )
    if share == 0:
        advice = f"Unset {variable}, or set it to parentbased_always_on."
        report.error("sampler", f"{name}: no trace is sent{exception}", advice, source=source, rank=DISABLED)
    elif share < 1:
        report.warn(
            "sampler",
            f"{name}: {share:.3g} of the traces are sent, one in {round(1 / share):,}{exception}",
            source=source,
        )
    else:
        report.ok("sampler", f"{name}: every trace is sent{exception}", source)


def _sampling_ratio(report: Report) -> float:
    text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        share = float(text)
    except ValueError:
        if text:
            report.warn("sampler", f"OTEL_TRACES_SAMPLER_ARG is {text!r}, not a number: every trace is sent")
        return 1.0
    return min(max(share, 0.0), 1.0)


def _check_resource(report: Report, resource: Any) -> None:
    name = str(resource.attributes.get("service.name", ""))
    text = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    source = "OTEL_SERVICE_NAME" if os.environ.get("OTEL_SERVICE_NAME") else "OTEL_RESOURCE_ATTRIBUTES"
    if name.startswith(_UNKNOWN_SERVICE):
        report.warn(
            "service.name",
            f"{name}: hard to find in a backend (`otelflow run` would use the name of the program's file)",
            "Set OTEL_SERVICE_NAME, or configure(service_name=...).",
        )
    else:
        report.ok("service.name", name, source)
    standard_keys = ("service.name", "service.instance.id", "telemetry.")
    others = [key for key in resource.attributes if not key.startswith(standard_keys)]
    if others:
        pairs = [f"{key}={_redacted_value(key, str(resource.attributes[key]))}" for key in sorted(others)]
        report.ok("resource", ", ".join(pairs), "OTEL_RESOURCE_ATTRIBUTES" if text else "")
    for number, pair in enumerate(text.split(","), 1):
        if pair.strip() and not pair.partition("=")[1]:
            report.warn(
                "resource",
                f"entry {number} of OTEL_RESOURCE_ATTRIBUTES has no '=' and is ignored",
                "Write OTEL_RESOURCE_ATTRIBUTES as name=value,name=value.",
            )


def _redacted_value(name: str, value: str) -> str:
    return REDACTED if looks_secret(name, value) else value[:60]


def _check_limits(report: Report, limits: Any) -> None:
    if limits is None:
        return
    names = [
        name for name in os.environ if name.endswith(("_COUNT_LIMIT", "_LENGTH_LIMIT")) and "LOGRECORD" not in name
    ]
    length = getattr(limits, "max_span_attribute_length", None)
    text = (
        f"a span keeps {limits.max_span_attributes} attributes, {limits.max_events} events, {limits.max_links} links"
        f"{'' if length is None else f', {length} characters of a value'}"
    )
    source = ", ".join(sorted(name for name in names if name.startswith("OTEL_"))) or "default"
    if 0 in (limits.max_span_attributes, limits.max_events):
        report.warn(
            "limits",
            f"{text}: flows lose their attributes or messages",
            "Unset the limit that is 0.",
            source=source,
            rank=MINOR,
        )
    else:
        report.ok("limits", text, source)


def _check_numbers(report: Report) -> None:
    queue = queue_settings()
    whole_number_from_environment(OTELFLOW_MAX_VALUE_BYTES, 2048, 64)
    whole_number_from_environment(OTELFLOW_HISTORY_SIZE, 1000)
    exit_seconds = number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS)
    events = choice_from_environment(OTELFLOW_EVENTS, ("span", "logs", "both"))
    names = (OTELFLOW_QUEUE_SIZE, "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    sources = [
        name
        for name in (*names, "OTEL_BSP_SCHEDULE_DELAY", OTELFLOW_EXIT_SECONDS, OTELFLOW_EVENTS)
        if name in os.environ
    ]
    report.ok(
        "queue",
        f"at most {queue['queue_size']:,} spans, {queue['batch_size'] or '512 or more'} in a batch, "
        f"sent after {queue['delay']:g} s; at most {exit_seconds:g} s at exit; events go to: {events}",
        ", ".join(sources) or "default",
    )
    if OTELFLOW_QUEUE_SIZE in os.environ and "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ:
        report.warn("queue", f"OTEL_BSP_MAX_QUEUE_SIZE has no effect: {OTELFLOW_QUEUE_SIZE} is set")
