"""Set up OpenTelemetry, send the spans, and report their delivery: configure, flush, shutdown, stats."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otelflow._export.registry import log_processors, span_processors
from otelflow._metrics.measurements import measures
from otelflow._providers.exporters import configured_exporters
from otelflow._providers.meter_provider import failed_metric_exports, flush_metrics, set_up_metrics, shut_metrics_down
from otelflow._providers.tracer_provider import new_provider, remove_invalid_limits
from otelflow._runtime.drop_counts import LISTENER_ERRORS, counts
from otelflow._runtime.exit_hooks import arm_watchdog, drain_before_exec, drain_on_signals
from otelflow._runtime.fork import FreshLock
from otelflow._runtime.waiting import BackgroundCall
from otelflow._spans.tracer import SCOPE, _self_metrics, current_source, global_provider, has_lean_spans
from otelflow._values.scrub import Scrub, use_callback
from otelflow._version import __version__
from otelflow.config import (
    EXIT_SECONDS,
    OTELFLOW_EXIT_SECONDS,
    OTELFLOW_SIGNALS,
    choice_from_environment,
    number_from_environment,
)
from otelflow.errors import unknown_argument

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

    from otelflow._export.batch_processor import BatchProcessor

__all__ = ["FlushReport", "Stats", "configure", "configure_apart", "flush", "shutdown", "stats"]

_logger = logging.getLogger("otelflow")
_lock = FreshLock()  # another thread may be in configure() at a fork; the child needs a free lock
_provider: Any = None
_first_arguments: tuple[Any, ...] = ()

_flush_call = BackgroundCall()
"""Runs ``force_flush`` of a provider that ``configure()`` did not create."""

_MAX_TIMEOUT = 1e6
"""Limit of a flush, in seconds."""


@dataclass(frozen=True)
class FlushReport:
    """Result of a flush, in numbers of spans since the start of the process.

    It is true if and only if every exporter accepted everything that was produced so far.

    Attributes:
        delivered: Spans that every exporter accepted.
        pending: Spans that still wait or are being sent.
        lost: Lost spans by reason. Also ``metrics_not_sent``: failed metric exports since the last success; and
            ``artifact_not_stored``: artifacts that their store has not accepted.
        unknown: True if the numbers are not known, because ``configure()`` did not create the provider.
    """

    delivered: int = 0
    pending: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    unknown: bool = False

    def __bool__(self) -> bool:
        return not (self.pending or self.lost or self.unknown)


@dataclass(frozen=True)
class Stats:
    """Numbers since the start of the process.

    Attributes:
        produced: Spans that ended and were sampled.
        delivered: Spans that every exporter accepted.
        pending: Spans that still wait or are being sent.
        dropped: Dropped data by reason: spans (``queue_full``, ``export_failed``, ``after_shutdown``), truncated
            values, events and messages above a limit, data that came after its run had ended.
        listener_errors: Number of exceptions in listeners.
        lean_spans: False if this version of otelflow does not support the SDK's span class. Spans are then created by
            the public API: slower, with the same content. None if no span was created yet.
    """

    produced: int = 0
    delivered: int = 0
    pending: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    listener_errors: int = 0
    lean_spans: bool | None = None


def configure(
    service_name: str | None = None,
    exporters: Iterable[str | SpanExporter] | str | None = None,
    *,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    sampler: Sampler | None = None,
    resource_attributes: Mapping[str, Any] | None = None,
    metrics: bool | None = None,
    scrub: Scrub | None = None,
    **unknown: Any,
) -> trace.TracerProvider:
    """Set up OpenTelemetry from its environment variables; arguments take precedence over them.

    If a global tracer provider is already set, otelflow uses it unchanged. A second call changes nothing. An invalid
    environment variable is logged, not raised; spans that cannot be sent because of it are counted as lost.

    Args:
        service_name: Default: ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``.
        exporters: Entry-point names (``otlp``, ``console``, ``otelflow_tree``, ...) or exporter objects. An empty list
            means none. Default: ``OTEL_TRACES_EXPORTER``, else ``otlp``.
        endpoint: URL for OTLP, also for the spool. Default: ``OTEL_EXPORTER_OTLP_ENDPOINT``. An exporter of your own
            gets it, and the headers, if it has a class method ``sending_to(endpoint, headers)``, which creates it; an
            argument that is not set is None.
        headers: Headers for OTLP, also for the spool. Default: ``OTEL_EXPORTER_OTLP_HEADERS``.
        sampler: Default: ``OTEL_TRACES_SAMPLER``.
        resource_attributes: Added to those of the environment.
        metrics: True to measure durations of flows and tasks, running flows, and dropped data. They go to the global
            meter provider. If there is none, one is created for the exporters in ``OTEL_METRICS_EXPORTER``. Default:
            ``OTELFLOW_METRICS``.
        scrub: ``scrub(name, text, rule)`` is called for every detected secret and every text that leaves the process.
            It returns the text to send, or None for the default. ``rule`` is empty if no rule matched.

    Returns:
        The provider in use.

    Raises:
        ConfigError: An argument has an invalid value.
        ArgumentError: An argument is unknown, or an item of ``exporters`` is not a name or an exporter.
    """
    if unknown:
        raise unknown_argument("configure()", unknown, ["service_name", "exporters", *(configure.__kwdefaults__ or ())])
    if scrub is not None:
        use_callback(scrub)
    global _first_arguments, _provider
    arguments = (service_name, exporters, endpoint, headers, sampler, resource_attributes)
    with _lock:
        existing = global_provider()
        if existing is None:
            remove_invalid_limits()
            exporter_pairs = configured_exporters(exporters, endpoint, headers)
            provider = _provider = new_provider(
                _at_exit, service_name, exporter_pairs, sampler, resource_attributes, endpoint=endpoint, headers=headers
            )
            trace.set_tracer_provider(provider)
            drain_before_exec(_before_exec)
            if choice_from_environment(OTELFLOW_SIGNALS, ("true", "false", "1", "0")) in ("true", "1"):
                drain_on_signals(_on_signal)
            current_source()  # import now what the first span needs
            _first_arguments = arguments
            _apply_metrics(metrics, provider, endpoint, headers)
            return provider
        _apply_metrics(metrics, existing, None, None)
        if arguments != _first_arguments and any(value is not None for value in arguments):
            _logger.warning(
                "A global tracer provider is already set (%s). otelflow uses it unchanged, and the arguments of this "
                "configure() have no effect. Pass them to the first configure(), or to that provider.",
                type(existing).__qualname__,
            )
        return existing


def _apply_metrics(
    metrics: bool | None, provider: Any, endpoint: str | None, headers: Mapping[str, str] | None
) -> None:
    if measures.on if metrics is None else metrics:
        from opentelemetry.sdk.resources import Resource

        resource = getattr(provider, "resource", None) or Resource.create()
        set_up_metrics(resource, endpoint, headers, span_processors)
        arm_watchdog()
        if _provider is None:  # otelflow did not create the tracer provider, so nothing else calls _at_exit
            atexit.register(_at_exit)
        return
    if metrics is False:
        measures.on = False
    if _self_metrics() and provider is _provider:
        # Like the SDK's own processor: on the global meter provider, whether it is set before or later.
        from opentelemetry.metrics import get_meter

        from otelflow._metrics.instruments import ExportInstruments

        ExportInstruments(get_meter(SCOPE, __version__), span_processors)


def configure_apart(service_name: str | None) -> trace.TracerProvider:
    """Return a provider like that of ``configure(service_name)``, without making it the global one.

    For code that the surrounding program must not notice.
    """
    global _provider
    with _lock:
        remove_invalid_limits()
        provider = _provider = new_provider(_at_exit, service_name, configured_exporters(None, None, None))
        return provider


def _start_all() -> list[BatchProcessor]:
    """Start sending in all pipelines at once, and return them: one that hangs takes no time from the others."""
    pipelines = [*span_processors, *log_processors]
    for pipeline in pipelines:
        pipeline.start_flush()
    return pipelines


def _patience() -> tuple[float, float]:
    """Return how many seconds to wait for an exporter without progress, and the time from which they count."""
    return number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS), time.monotonic()


def _patience_left(patience: float, since: float) -> float:
    pipelines = (*span_processors, *log_processors)
    return max((pipeline.patience_left(patience, since) for pipeline in pipelines), default=patience)


def _on_signal() -> None:
    """Send everything that waits, before a signal ends the process without ``atexit``."""
    patience, since = _patience()
    for pipeline in _start_all():
        pipeline.drain(None, patience, since)
    flush_metrics(_patience_left(patience, since))
    _store_artifacts(max(0.0, since + patience - time.monotonic()))
    _log_losses()


def _before_exec() -> None:
    """Send everything that waits, before ``exec`` replaces this program.

    A forked child that only calls ``exec`` has produced nothing, and need not wait.
    """
    if any(pipeline.stats().produced for pipeline in (*span_processors, *log_processors)):
        _on_signal()


def _at_exit() -> None:
    """Send everything that waits; stop waiting for an exporter without progress for ``OTELFLOW_EXIT_SECONDS``."""
    patience, since = _patience()
    for pipeline in _start_all():
        pipeline.stop(None, patience, since)
    shut_metrics_down(_patience_left(patience, since))
    _log_losses()


def _log_losses() -> None:
    report = _build_report()
    if not report:
        reasons = [f"{number} {reason}" for reason, number in {**report.lost, "still waiting": report.pending}.items()]
        _logger.warning(
            "%d spans were not delivered by %s: %s. Check that the endpoint is right and that it responds.",
            report.pending + sum(report.lost.values()),
            ", ".join(
                pipeline.name for pipeline in (*span_processors, *log_processors) if not _is_complete(pipeline.stats())
            ),
            ", ".join(reason for reason in reasons if not reason.startswith("0 ")),
        )
    if failed_metric_exports():
        _logger.warning("The last metrics were not sent. If the endpoint takes none, set OTEL_METRICS_EXPORTER=none.")


def _is_complete(numbers: Any) -> bool:
    return not (numbers.pending or numbers.lost)


def _build_report() -> FlushReport:
    all_numbers = [pipeline.stats() for pipeline in span_processors]
    lost: dict[str, int] = {}
    for numbers in all_numbers:
        for reason, number in numbers.lost.items():
            lost[reason] = lost.get(reason, 0) + number
    for pipeline in log_processors:
        numbers = pipeline.stats()
        for reason, number in {**numbers.lost, "pending": numbers.pending}.items():
            if number:
                lost[f"log_records_{reason}"] = number
    return FlushReport(
        delivered=min((numbers.delivered for numbers in all_numbers), default=0),
        pending=max((numbers.pending for numbers in all_numbers), default=0),
        lost=lost,
    )


def _add_metrics_and_artifacts(report: FlushReport) -> FlushReport:
    """Return the report of spans with the numbers of metrics and artifacts that were not sent."""
    store = _artifact_store()
    missing = {"metrics_not_sent": failed_metric_exports(), "artifact_not_stored": store.not_stored() if store else 0}
    return replace(report, lost={**report.lost, **{reason: number for reason, number in missing.items() if number}})


def flush(timeout: float = 10.0) -> FlushReport:
    """Send everything that was produced so far.

    With a provider that ``configure()`` did not create, call its ``force_flush``; the report is then ``unknown``.

    Args:
        timeout: Time limit in seconds.

    Returns:
        The numbers of delivered, pending and lost spans. The report is true if everything was delivered.
    """
    if _provider is None:
        return _flush_other_provider(timeout)
    end = time.monotonic() + _limit(timeout)
    for pipeline in _start_all():
        pipeline.drain(max(0.0, end - time.monotonic()))
    flush_metrics(max(0.0, end - time.monotonic()))
    _store_artifacts(max(0.0, end - time.monotonic()))
    return _add_metrics_and_artifacts(_build_report())


def _limit(timeout: float) -> float:
    """Limit a timeout in seconds: infinity cannot be converted to milliseconds."""
    return min(max(0.0, timeout), _MAX_TIMEOUT)


def _store_artifacts(timeout: float) -> None:
    """Wait for the artifact store. It is not imported if no artifact was ever stored."""
    store = _artifact_store()
    if store is not None:
        store.drain(timeout)


def _artifact_store() -> Any:
    return sys.modules.get("otelflow._artifacts.store")


def _flush_other_provider(timeout: float) -> FlushReport:
    """Flush a provider that ``configure()`` did not create, in the background: it may exceed the time limit."""
    timeout = _limit(timeout)
    end = time.monotonic() + timeout
    force_flush = getattr(global_provider(), "force_flush", None)
    if force_flush is not None:
        _flush_call.run(partial(_call_and_log_errors, force_flush, int(timeout * 1000)), end)
    flush_metrics(max(0.0, end - time.monotonic()))
    _store_artifacts(max(0.0, end - time.monotonic()))
    return _add_metrics_and_artifacts(FlushReport(unknown=True))


def _call_and_log_errors(call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except Exception:
        _logger.warning("force_flush() of the tracer provider raised an exception.", exc_info=True)


def shutdown(timeout: float = 10.0) -> FlushReport:
    """Send everything, then stop: spans that end later are counted as lost.

    A second call only returns a report. A provider that ``configure()`` did not create is flushed and keeps running.

    Args:
        timeout: Time limit in seconds. The call may take slightly longer.

    Returns:
        The numbers of delivered, pending and lost spans. The report is true if everything was delivered.
    """
    if _provider is None:
        return _flush_other_provider(timeout)
    end = time.monotonic() + _limit(timeout)
    for pipeline in _start_all():
        pipeline.stop(max(0.0, end - time.monotonic()))
    shut_metrics_down(max(0.0, end - time.monotonic()))
    _store_artifacts(max(0.0, end - time.monotonic()))
    atexit.unregister(_at_exit)
    return _add_metrics_and_artifacts(_build_report())


def stats() -> Stats:
    """Return the numbers of produced, delivered and dropped data since the start of the process."""
    numbers = counts.snapshot()
    listener_errors = numbers.pop(LISTENER_ERRORS, 0)
    report = _build_report()
    produced = max((pipeline.stats().produced for pipeline in span_processors), default=0)
    return Stats(
        produced=produced,
        delivered=report.delivered,
        pending=report.pending,
        dropped={**numbers, **report.lost},
        listener_errors=listener_errors,
        lean_spans=has_lean_spans(),
    )
