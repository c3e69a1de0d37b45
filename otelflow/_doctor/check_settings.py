"""What configure() would set up here: versions, provider, exporters, sampler, resource, limits, queue."""

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
)
from otelflow.errors import near_names

__all__ = ["OTLP_NAMES", "captured_logs", "check_settings"]

OTLP_NAMES = ("otlp", "otlp_proto_http", "otlp_proto_grpc")
"""The exporters that send over the network, by the protocol that is looked into here."""

_PARTS = {
    "api": "opentelemetry-api",
    "sdk": "opentelemetry-sdk",
    "otlp http": "opentelemetry-exporter-otlp-proto-http",
    "otlp grpc": "opentelemetry-exporter-otlp-proto-grpc",
}
_TO_TERMINAL = ("console", "otelflow_tree")
_UNKNOWN_SERVICE = "unknown_service"
_LOGGERS = ("opentelemetry", "otelflow", "urllib3")


class _Kept(logging.Handler):
    """Keeps what is logged, for the diagnosis to say."""

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
    """What OpenTelemetry and otelflow log meanwhile. It is kept from the terminal: it may show a header's value."""
    kept = _Kept()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(kept)
        logger.propagate = False
    try:
        yield kept.texts
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(kept)
            logger.propagate = propagate


def check_settings(report: Report, secrets: Secrets) -> Any:
    """Say what is set up and where each part comes from. Returns the resource of the spans; None where the SDK cannot
    be set up."""
    _versions(report)
    _provider(report)
    _exporters(report)
    resource = None
    with captured_logs() as texts:
        try:
            # The SDK reads its limits when it is imported, too.
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider

            resource = Resource.create()
            provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        except Exception as error:
            named = re.search(r"OTEL_[A-Z_]+", str(error))
            report.wrong(
                "sdk",
                f"configure() raises {type(error).__name__}: {secrets.without(error)}",
                f"Unset {named[0] if named else 'the variable that is named there'}, or set it to a number.",
                rank=DISABLED,
            )
        else:
            _sampler(report, provider)
            _resource(report, resource)
            _limits(report, getattr(provider, "_span_limits", None))
        _numbers(report)
    for text in dict.fromkeys(texts):
        if "sampler" not in text.lower():  # said in words there
            report.warn("logged", secrets.without(text))
    return resource


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _versions(report: Report) -> None:
    more = _installed("otelflow-exporters") or "not installed"
    report.ok("versions", f"otelflow {__version__}, otelflow-exporters {more}, Python {platform.python_version()}")
    versions = {label: _installed(name) or "not installed" for label, name in _PARTS.items()}
    if len(set(versions.values())) == 1:
        report.ok("opentelemetry", f"{versions['api']} ({', '.join(versions)})")
    else:
        report.ok("opentelemetry", ", ".join(f"{label} {number}" for label, number in versions.items()))
    if _installed("opentelemetry-distro") and not otlp_setting("PROTOCOL").text:
        # opentelemetry-distro sets OTEL_EXPORTER_OTLP_PROTOCOL=grpc where nothing is said.
        text = "opentelemetry-instrument would use grpc, as OTEL_EXPORTER_OTLP_PROTOCOL is not set"
        report.skip("starter", text)


def _provider(report: Report) -> None:
    named = os.environ.get("OTEL_PYTHON_TRACER_PROVIDER", "")
    found = global_provider()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        report.wrong(
            "provider",
            "the SDK is switched off: no span is recorded",
            "Unset OTEL_SDK_DISABLED.",
            source="OTEL_SDK_DISABLED",
            rank=DISABLED,
        )
    elif found is not None:
        kind = f"{type(found).__module__}.{type(found).__qualname__}"
        report.warn(
            "provider",
            f"set already, by somebody else ({kind}): configure() leaves it alone, and what it sends is not seen here",
            source="OTEL_PYTHON_TRACER_PROVIDER" if named else "",
        )
    elif named:
        report.warn("provider", f"{named!r}, once somebody asks for it", source="OTEL_PYTHON_TRACER_PROVIDER")
    else:
        report.ok("provider", "none yet: configure() makes it, or `otelflow run`")
    if (said := os.environ.get("OTEL_SDK_DISABLED", "").strip()) and said.lower() not in ("true", "false"):
        # Specification, configuration by environment variables: any value but "true" is false.
        report.warn("provider", f"OTEL_SDK_DISABLED is {said!r}: only 'true' switches the SDK off")


def _exporters(report: Report) -> None:
    variable = "OTEL_TRACES_EXPORTER"
    names, source = exporter_names(), variable if variable in os.environ else "default"
    if not names:
        report.wrong(
            "exporters",
            "none: every span is thrown away",
            f"Unset {variable}, or set {variable}=otlp.",
            source=source,
            rank=DISABLED,
        )
        return
    there = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in names:
        if name in there or name == "otlp":
            _loads(report, name, there.get(name), source)
    for name in names:
        if name not in there and name != "otlp":
            report.wrong(
                "exporters",
                f"{name!r} is not installed. There are: {', '.join(sorted({'otlp', *there}))}",
                _way_to(name, ["otlp", *there]),
                source=source,
                rank=UNUSABLE,
            )
    if all(name in _TO_TERMINAL for name in names):
        report.warn(
            "exporters",
            "spans are printed by the program, and sent nowhere",
            f"Set {variable}=otlp,{names[0]} to have them sent as well.",
            source=source,
            rank=DISABLED,
        )


def _way_to(name: str, there: list[str]) -> str:
    near = near_names(name, there)
    if near:
        return f"Write {near[0]} instead of {name} in OTEL_TRACES_EXPORTER."
    if name.startswith("otelflow_"):
        return f"Install otelflow-exporters, which brings {name}."
    return f"Install the distribution that brings {name}, or take it out of OTEL_TRACES_EXPORTER."


def _loads(report: Report, name: str, entry: Any, source: str) -> None:
    try:
        if entry is not None:
            entry.load()
    except ImportError as error:
        report.wrong(
            "exporters",
            f"{name!r} is installed, but cannot be imported: {error}",
            f"Reinstall the distribution that brings {name}.",
            source=source,
            rank=UNUSABLE,
        )
    except Exception:
        return  # the SDK does not load: said in its place
    else:
        what = (
            "" if name in OTLP_NAMES else ": in the terminal" if name in _TO_TERMINAL else ": not OTLP, not tried here"
        )
        report.ok("exporters", f"{name}{what}", source)


_SAMPLERS = {"always_on": 1.0, "always_off": 0.0}
_RATIOS = "traceidratio"


def _sampler(report: Report, provider: Any) -> None:
    """Say the share of traces that are sent, in words. ``parentbased_…``: of those that begin here."""
    variable = "OTEL_TRACES_SAMPLER"
    said = os.environ.get(variable, "").strip()
    source = variable if said else "default"
    name = said.lower() or "parentbased_always_on"
    base = name.removeprefix("parentbased_")
    of = "" if base == name else "; below a caller's span, as the caller decided"
    if base not in (*_SAMPLERS, _RATIOS):
        report.warn(
            "sampler",
            f"{said!r} is not known to the SDK: {provider.sampler.get_description()} is used",
            f"Set {variable} to one of always_on, always_off, traceidratio, or these with parentbased_ before.",
            source=source,
            rank=UNUSABLE,
        )
        return
    share = _SAMPLERS[base] if base in _SAMPLERS else _ratio(report)
    if base in _SAMPLERS and os.environ.get("OTEL_TRACES_SAMPLER_ARG"):
        report.warn(
            "sampler",
            f"OTEL_TRACES_SAMPLER_ARG has no effect with {name}",
            f"Set {variable}=parentbased_traceidratio for it.",
        )
    if share == 0:
        advice = f"Unset {variable}, or set it to parentbased_always_on."
        report.wrong("sampler", f"{name}: no trace is sent{of}", advice, source=source, rank=DISABLED)
    elif share < 1:
        report.warn(
            "sampler", f"{name}: {share:.3g} of the traces are sent, one in {round(1 / share):,}{of}", source=source
        )
    else:
        report.ok("sampler", f"{name}: every trace is sent{of}", source)


def _ratio(report: Report) -> float:
    text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        share = float(text)
    except ValueError:
        if text:
            report.warn("sampler", f"OTEL_TRACES_SAMPLER_ARG is {text!r}, no number: every trace is sent")
        return 1.0
    return min(max(share, 0.0), 1.0)


def _resource(report: Report, resource: Any) -> None:
    name = str(resource.attributes.get("service.name", ""))
    text = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    source = "OTEL_SERVICE_NAME" if os.environ.get("OTEL_SERVICE_NAME") else "OTEL_RESOURCE_ATTRIBUTES"
    if name.startswith(_UNKNOWN_SERVICE):
        report.warn(
            "service.name",
            f"{name}: hard to find in a backend (`otelflow run` names a program after its file)",
            "Set OTEL_SERVICE_NAME, or configure(service_name=...).",
        )
    else:
        report.ok("service.name", name, source)
    own = ("service.name", "service.instance.id", "telemetry.")
    others = [key for key in resource.attributes if not key.startswith(own)]
    if others:
        pairs = [f"{key}={_value(key, str(resource.attributes[key]))}" for key in sorted(others)]
        report.ok("resource", ", ".join(pairs), "OTEL_RESOURCE_ATTRIBUTES" if text else "")
    for number, pair in enumerate(text.split(","), 1):
        if pair.strip() and not pair.partition("=")[1]:
            report.warn(
                "resource",
                f"entry {number} of OTEL_RESOURCE_ATTRIBUTES has no '=' and is left out",
                "Write OTEL_RESOURCE_ATTRIBUTES as name=value,name=value.",
            )


def _value(name: str, value: str) -> str:
    return REDACTED if looks_secret(name, value) else value[:60]


def _limits(report: Report, limits: Any) -> None:
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
            "limits", f"{text}: flows lose what they say", "Unset the limit that is 0.", source=source, rank=MINOR
        )
    else:
        report.ok("limits", text, source)


def _numbers(report: Report) -> None:
    queue = queue_settings()
    number_from_environment(OTELFLOW_MAX_VALUE_BYTES, 2048, 64)
    number_from_environment(OTELFLOW_HISTORY_SIZE, 1000)
    patience = number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS)
    where = choice_from_environment(OTELFLOW_EVENTS, ("span", "logs", "both"))
    names = (OTELFLOW_QUEUE_SIZE, "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
    used = [
        name
        for name in (*names, "OTEL_BSP_SCHEDULE_DELAY", OTELFLOW_EXIT_SECONDS, OTELFLOW_EVENTS)
        if name in os.environ
    ]
    report.ok(
        "queue",
        f"{queue['queue_size']:,} spans wait at most, {queue['batch_size'] or '512 or more'} a batch, "
        f"sent after {queue['delay']:g} s; {patience:g} s at exit; events go to: {where}",
        ", ".join(used) or "default",
    )
    if OTELFLOW_QUEUE_SIZE in os.environ and "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ:
        report.warn("queue", f"OTEL_BSP_MAX_QUEUE_SIZE has no effect: {OTELFLOW_QUEUE_SIZE} is set")
