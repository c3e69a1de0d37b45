"""Environment variables by name: the ones that are known, misspelt, and without effect on traces."""

from __future__ import annotations

import os
import re
import sys
from difflib import SequenceMatcher
from importlib import import_module
from importlib.metadata import entry_points

from otelflow._doctor.report import MINOR, MISSPELT, Report
from otelflow._providers.exporters import GROUP
from otelflow.errors import near_names

__all__ = ["check_names", "known_names"]

_MODULES = (
    "opentelemetry.environment_variables",
    "opentelemetry.sdk.environment_variables",
    "opentelemetry.instrumentation.environment_variables",
)
"""Where OpenTelemetry keeps the names, a constant each; the last is there with opentelemetry-instrument only."""

_LIKE_OURS = re.compile(r"(?i)^_?(otel|oetl|otle|olte|otlp|open_?telemetry)")
"""What may be meant for us. The specification's names are upper-case: on Linux ``otel_…`` is another variable."""

_FAMILIES = ("OTEL_PYTHON_", "OTEL_INSTRUMENTATION_", "OTEL_SEMCONV_", "OTEL_RESOURCE_PROVIDERS_")
"""Prefixes under which each instrumentation package reads names of its own."""

_OTHER_SIGNALS = re.compile(
    r"^OTEL_(METRIC|LOGS?_|BLRP_|LOGRECORD_|EXPORTER_OTLP_(METRICS|LOGS)_|EXPORTER_PROMETHEUS_)"
)

_WITHOUT_EFFECT = {
    "OTEL_BSP_EXPORT_TIMEOUT": "configure() does not read it: OTEL_EXPORTER_OTLP_TIMEOUT is the limit of one request",
    "OTEL_PYTHON_ID_GENERATOR": "configure() uses an id generator of its own",
    "OTEL_CONFIG_FILE": "configure() does not read it; opentelemetry-instrument does, and then no other OTEL_* counts",
    "OTEL_LOG_LEVEL": "the Python SDK does not read it",
}
_GONE = {
    "OTEL_EXPORTER_JAEGER_": "the Jaeger exporter is gone: Jaeger takes OTLP, by OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_ZIPKIN_": "it is for the Zipkin exporter only",
}
_DECISIVE = ("ENDPOINT", "PROTOCOL", "HEADERS", "EXPORTER", "CERTIFICATE", "INSECURE")
"""A misspelt variable with such a name explains by itself that nothing arrives."""

_NEAR, _VERY_NEAR = 0.84, 0.94


def known_names() -> set[str]:
    """Every variable that OpenTelemetry, otelflow or its exporters have a constant for."""
    modules = [import_module(name) for name in _MODULES if _is_there(name)]
    for entry in entry_points(group=GROUP):
        if entry.name.startswith("otelflow_"):
            try:
                entry.load()
            except Exception:
                continue  # said where the exporters are
    modules += [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in _OURS]
    constants = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    return {name for name in constants if re.fullmatch(r"(OTEL|OTELFLOW)_[A-Z0-9_]+", name)} | _RETRYABLE


_OURS = ("otelflow", "otelflow_exporters")
_RETRYABLE = {"OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"}


def _is_there(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def check_names(report: Report, known: set[str]) -> None:
    """Say which variables that are set have no effect, and which name was probably meant."""
    elsewhere = []
    for name in sorted(filter(_LIKE_OURS.match, os.environ)):
        gone = next((text for prefix, text in _GONE.items() if name.startswith(prefix)), None)
        if gone:  # the names are still known to some versions
            report.warn("no effect", f"{name}: {gone}")
        elif name in known:
            if name in _WITHOUT_EFFECT:
                report.warn("no effect", f"{name}: {_WITHOUT_EFFECT[name]}")
            elif _OTHER_SIGNALS.match(name):
                elsewhere.append(name)
            _check_text(report, name)
        else:
            _unknown(report, name, known)
    if elsewhere:
        report.skip("other signals", f"{', '.join(elsewhere)}: not for traces")


def _unknown(report: Report, name: str, known: set[str]) -> None:
    near = _nearest(name, known)
    if near:
        decisive = any(part in near for part in _DECISIVE)
        report.wrong(
            "misspelt",
            f"{name} is read by nobody; {near} is meant, it seems",
            f"Rename the variable {name} to {near}.",
            rank=MISSPELT if decisive and not os.environ.get(near) else MINOR,
        )
    elif not name.startswith((*_FAMILIES, "OTELFLOW_EXPORTER_")):
        report.warn("unknown", f"{name} is read neither by OpenTelemetry for Python nor by otelflow")


def _nearest(name: str, known: set[str]) -> str | None:
    """The name that was probably meant; None where none is near, or where another package may read this one."""
    upper = name.upper()
    if upper in known:
        return upper
    cutoff = _VERY_NEAR if name.startswith(_FAMILIES) else _NEAR
    near = near_names(upper, known, 3, cutoff)
    # Of equally near ones, the shorter: the specific ones (…_TRACES_…, …_LOGS_…) are longer than the general.
    return min(near, key=lambda one: (-round(SequenceMatcher(None, upper, one).ratio(), 2), len(one)), default=None)


def _check_text(report: Report, name: str) -> None:
    """What is wrong with any value: quotes and white space that belong to the shell, or nothing at all."""
    value = os.environ[name]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        report.wrong(
            "quotes",
            f"the value of {name} begins and ends with a quotation mark",
            f"Take the quotation marks out of {name}: a shell removes them, an env file or a manifest does not.",
            rank=MISSPELT,
        )
    elif not value.strip():
        # Specification, configuration by environment variables: an empty value counts as not set.
        report.warn("empty", f"{name} is set, but empty")
    elif re.search(r"\$\{?\w+\}?", value) and not _OTHER_SIGNALS.match(name):
        report.warn(
            "not expanded",
            f"the value of {name} has a $: a variable that was not expanded?",
            f"Set {name} where variables are expanded, or write the value out.",
        )
