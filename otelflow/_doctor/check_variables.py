"""Check the names of environment variables: find those that are misspelt or have no effect on traces."""

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
"""Modules with a constant for each of OpenTelemetry's names. Only opentelemetry-instrument installs the last."""

_SIMILAR_PREFIX = re.compile(r"(?i)^_?(otel|oetl|otle|olte|otlp|open_?telemetry)")
"""Names that may be meant for OpenTelemetry. The specification's are upper-case: on Linux ``otel_…`` differs."""

_FAMILIES = ("OTEL_PYTHON_", "OTEL_INSTRUMENTATION_", "OTEL_SEMCONV_", "OTEL_RESOURCE_PROVIDERS_")
"""Prefixes under which instrumentation packages read further variables."""

_OTHER_SIGNALS = re.compile(
    r"^OTEL_(METRIC|LOGS?_|BLRP_|LOGRECORD_|EXPORTER_OTLP_(METRICS|LOGS)_|EXPORTER_PROMETHEUS_)"
)

_WITHOUT_EFFECT = {
    "OTEL_BSP_EXPORT_TIMEOUT": "configure() does not read it: OTEL_EXPORTER_OTLP_TIMEOUT limits each request",
    "OTEL_PYTHON_ID_GENERATOR": "configure() uses its own id generator",
    "OTEL_CONFIG_FILE": "configure() does not read it; opentelemetry-instrument does, and ignores all other OTEL_*",
    "OTEL_LOG_LEVEL": "the Python SDK does not read it",
}
_REMOVED_EXPORTERS = {
    "OTEL_EXPORTER_JAEGER_": "the Jaeger exporter was removed: Jaeger accepts OTLP, set OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_ZIPKIN_": "only the Zipkin exporter reads it",
}
_DECISIVE_PARTS = ("ENDPOINT", "PROTOCOL", "HEADERS", "EXPORTER", "CERTIFICATE", "INSECURE")
"""Parts of a name. If a variable with one of these is misspelt, that alone can be why nothing arrives."""

_SIMILAR, _VERY_SIMILAR = 0.84, 0.94


def known_names() -> set[str]:
    """Return every variable that OpenTelemetry, otelflow or its exporters have a constant for."""
    modules = [import_module(name) for name in _MODULES if _can_be_imported(name)]
    for entry in entry_points(group=GROUP):
        if entry.name.startswith("otelflow_"):
            try:
                entry.load()
            except Exception:
                continue  # check_settings() reports it
    modules += [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in _OWN_PACKAGES]
    constants = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    return {name for name in constants if re.fullmatch(r"(OTEL|OTELFLOW)_[A-Z0-9_]+", name)} | _RETRYABLE


_OWN_PACKAGES = ("otelflow", "otelflow_exporters")
_RETRYABLE = {"OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES"}


def _can_be_imported(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def check_names(report: Report, known_variables: set[str]) -> None:
    """Report which variables have no effect, and which name was probably meant."""
    other_signals = []
    for name in sorted(filter(_SIMILAR_PREFIX.match, os.environ)):
        reason = next((text for prefix, text in _REMOVED_EXPORTERS.items() if name.startswith(prefix)), None)
        if reason:  # checked first: some versions still have constants for these names
            report.warn("no effect", f"{name}: {reason}")
        elif name in known_variables:
            if name in _WITHOUT_EFFECT:
                report.warn("no effect", f"{name}: {_WITHOUT_EFFECT[name]}")
            elif _OTHER_SIGNALS.match(name):
                other_signals.append(name)
            _check_value(report, name)
        else:
            _check_unknown_name(report, name, known_variables)
    if other_signals:
        report.skip("other signals", f"{', '.join(other_signals)}: not for traces")


def _check_unknown_name(report: Report, name: str, known_variables: set[str]) -> None:
    similar = _nearest_name(name, known_variables)
    if similar:
        is_decisive = any(part in similar for part in _DECISIVE_PARTS)
        report.error(
            "misspelt",
            f"nothing reads {name}; it probably means {similar}",
            f"Rename the variable {name} to {similar}.",
            rank=MISSPELT if is_decisive and not os.environ.get(similar) else MINOR,
        )
    elif not name.startswith((*_FAMILIES, "OTELFLOW_EXPORTER_")):
        report.warn("unknown", f"neither OpenTelemetry for Python nor otelflow reads {name}")


def _nearest_name(name: str, known_variables: set[str]) -> str | None:
    """Return the name that was probably meant; None if none is similar, or if another package may read ``name``."""
    upper = name.upper()
    if upper in known_variables:
        return upper
    cutoff = _VERY_SIMILAR if name.startswith(_FAMILIES) else _SIMILAR
    similar = near_names(upper, known_variables, 3, cutoff)
    # Of equally similar names take the shorter: the specific names (…_TRACES_…, …_LOGS_…) are the longer ones.
    return min(
        similar, key=lambda other: (-round(SequenceMatcher(None, upper, other).ratio(), 2), len(other)), default=None
    )


def _check_value(report: Report, name: str) -> None:
    """Report a value that has the shell's quotation marks, is empty, or has a variable that was not expanded."""
    value = os.environ[name]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        report.error(
            "quotes",
            f"the value of {name} begins and ends with a quotation mark",
            f"Remove the quotation marks from {name}: a shell removes them, an env file or a manifest does not.",
            rank=MISSPELT,
        )
    elif not value.strip():
        # Specification, configuration by environment variables: an empty value means not set.
        report.warn("empty", f"{name} is set, but empty")
    elif re.search(r"\$\{?\w+\}?", value) and not _OTHER_SIGNALS.match(name):
        report.warn(
            "not expanded",
            f"the value of {name} contains a $: was a variable not expanded?",
            f"Set {name} where variables are expanded, or write the value itself.",
        )
