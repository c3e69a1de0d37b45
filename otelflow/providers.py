"""Setting OpenTelemetry up, and asking what became of the spans: configure, flush, shutdown, stats."""

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
_lock = FreshLock()  # a thread of the parent may be in configure() when another forks
_provider: Any = None
_given: tuple[Any, ...] = ()

_flushing = BackgroundCall()
"""Of a provider that is the user's own."""

_LONGEST = 1e6
"""Seconds of a flush, at most."""


@dataclass(frozen=True)
class FlushReport:
    """What a flush came to, in numbers of spans since the start of the process.

    True when, and only when, everything produced so far was accepted by every exporter. ``lost`` is by reason;
    ``metrics_not_sent`` are exports of metrics that failed since the last that did not, ``artifact_not_stored``
    artifacts that their store has not taken.
    ``unknown`` is True where that cannot be known: a provider that ``configure()`` did not make does not tell.
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

    produced, delivered, pending: spans that ended and were sampled; accepted by every exporter; still on their way.
    dropped: what was left out, by reason: spans (``queue_full``, ``export_failed``, ``after_shutdown``), values that
    were cut, events and messages above a limit, whatever came after its run had ended.
    listener_errors: how often a listener raised.
    lean_spans: False where the SDK's spans are not as this version of otelflow knows them: then the SDK makes them by
    its public API, which costs more and shows the same. None where no span was made yet.
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
    """Set OpenTelemetry up as its environment variables say; what is given here goes before them.

    If a global tracer provider is set already, it is used and left alone. A second call changes nothing.

    service_name: else ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``.
    exporters: entry-point names (``otlp``, ``console``, ``otelflow_tree``, ...) or exporter objects; else
        ``OTEL_TRACES_EXPORTER``, else ``otlp``. An empty list: none.
    endpoint, headers: for OTLP, also by way of the spool; else ``OTEL_EXPORTER_OTLP_ENDPOINT``,
        ``OTEL_EXPORTER_OTLP_HEADERS``. An exporter of your own is told by a class method ``sending_to(endpoint,
        headers)``, which makes it; what was not given is None.
    sampler: else ``OTEL_TRACES_SAMPLER``.
    resource_attributes: added to those of the environment.
    metrics: True for durations of flows and tasks, the number of flows that run, and what was left out; else
        ``OTELFLOW_METRICS``. They go to the global meter provider; where there is none it is made, for the exporters
        that ``OTEL_METRICS_EXPORTER`` names.
    scrub: asked about every secret that is found, and every text that goes out: ``scrub(name, text, rule)`` returns
        what is to stand there, None for what would stand there anyway. ``rule`` is empty for what no rule found.

    Returns the provider in use. Raises :class:`otelflow.errors.ConfigError` for a value given here that cannot be
    used; a wrong environment variable is logged, and what cannot be sent for it is counted as lost.
    """
    if unknown:
        raise unknown_argument("configure()", unknown, ["service_name", "exporters", *(configure.__kwdefaults__ or ())])
    if scrub is not None:
        use_callback(scrub)
    global _given, _provider
    given = (service_name, exporters, endpoint, headers, sampler, resource_attributes)
    with _lock:
        existing = global_provider()
        if existing is None:
            remove_invalid_limits()
            wanted = configured_exporters(exporters, endpoint, headers)
            provider = _provider = new_provider(
                _at_exit, service_name, wanted, sampler, resource_attributes, endpoint=endpoint, headers=headers
            )
            trace.set_tracer_provider(provider)
            drain_before_exec(_before_exec)
            if choice_from_environment(OTELFLOW_SIGNALS, ("true", "false", "1", "0")) in ("true", "1"):
                drain_on_signals(_on_signal)
            current_source()  # loads what the first span needs
            _given = given
            _measure(metrics, provider, endpoint, headers)
            return provider
        _measure(metrics, existing, None, None)
        if given != _given and any(value is not None for value in given):
            _logger.warning(
                "A global tracer provider is set already (%s): it is used and left alone, and what was given to this "
                "configure() has no effect. Give it to the first configure(), or to that provider.",
                type(existing).__qualname__,
            )
        return existing


def _measure(wanted: bool | None, provider: Any, endpoint: str | None, headers: Mapping[str, str] | None) -> None:
    if measures.on if wanted is None else wanted:
        from opentelemetry.sdk.resources import Resource

        resource = getattr(provider, "resource", None) or Resource.create()
        set_up_metrics(resource, endpoint, headers, span_processors)
        arm_watchdog()
        if _provider is None:  # the tracer provider is another's, and ends by itself
            atexit.register(_at_exit)
        return
    if wanted is False:
        measures.on = False
    if _self_metrics() and provider is _provider:
        # As the SDK's own processor does, on the global meter provider, whoever sets it, before or after.
        from opentelemetry.metrics import get_meter

        from otelflow._metrics.instruments import ExportInstruments

        ExportInstruments(get_meter(SCOPE, __version__), span_processors)


def configure_apart(service_name: str | None) -> trace.TracerProvider:
    """What ``configure(service_name)`` sets up, without making it the global provider: for what must not be seen by the
    program around it."""
    global _provider
    with _lock:
        remove_invalid_limits()
        provider = _provider = new_provider(_at_exit, service_name, configured_exporters(None, None, None))
        return provider


def _hurried() -> list[BatchProcessor]:
    """All pipelines. They send at once, and are waited for together: one that gets nowhere takes no time of the
    others."""
    hurried = [*span_processors, *log_processors]
    for pipeline in hurried:
        pipeline.hurry()
    return hurried


def _patience() -> tuple[float, float]:
    """How long an exporter without progress is waited for, and since when."""
    return number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS), time.monotonic()


def _patience_left(patience: float, since: float) -> float:
    return max((each.patience_left(patience, since) for each in (*span_processors, *log_processors)), default=patience)


def _on_signal() -> None:
    """Send what is waiting, before a signal ends the process without ``atexit``."""
    patience, since = _patience()
    for pipeline in _hurried():
        pipeline.drain(None, patience, since)
    flush_metrics(_patience_left(patience, since))
    _store_artifacts(max(0.0, since + patience - time.monotonic()))
    _say_what_is_lost()


def _before_exec() -> None:
    """The same before another program takes this one's place. A forked child that does nothing else has nothing to
    send."""
    if any(pipeline.stats().produced for pipeline in (*span_processors, *log_processors)):
        _on_signal()


def _at_exit() -> None:
    """Send what is waiting; give up on an exporter that makes no progress for ``OTELFLOW_EXIT_SECONDS``."""
    patience, since = _patience()
    for pipeline in _hurried():
        pipeline.stop(None, patience, since)
    shut_metrics_down(_patience_left(patience, since))
    _say_what_is_lost()


def _say_what_is_lost() -> None:
    report = _report()
    if not report:
        reasons = [f"{number} {reason}" for reason, number in {**report.lost, "still waiting": report.pending}.items()]
        _logger.warning(
            "%d spans were not delivered by %s: %s. Does the endpoint answer, and is it the right one?",
            report.pending + sum(report.lost.values()),
            ", ".join(
                pipeline.name for pipeline in (*span_processors, *log_processors) if not _is_whole(pipeline.stats())
            ),
            ", ".join(reason for reason in reasons if not reason.startswith("0 ")),
        )
    if failed_metric_exports():
        _logger.warning("The last metrics were not sent. Does the endpoint take metrics? OTEL_METRICS_EXPORTER=none.")


def _is_whole(account: Any) -> bool:
    return not (account.pending or account.lost)


def _report() -> FlushReport:
    accounts = [pipeline.stats() for pipeline in span_processors]
    lost: dict[str, int] = {}
    for account in accounts:
        for reason, number in account.lost.items():
            lost[reason] = lost.get(reason, 0) + number
    for pipeline in log_processors:
        account = pipeline.stats()
        for reason, number in {**account.lost, "pending": account.pending}.items():
            if number:
                lost[f"log_records_{reason}"] = number
    return FlushReport(
        delivered=min((account.delivered for account in accounts), default=0),
        pending=max((account.pending for account in accounts), default=0),
        lost=lost,
    )


def _with_the_rest(report: FlushReport) -> FlushReport:
    """The report of spans, with what is missing of all else that was to be sent."""
    store = _artifact_store()
    missing = {"metrics_not_sent": failed_metric_exports(), "artifact_not_stored": store.not_stored() if store else 0}
    return replace(report, lost={**report.lost, **{what: number for what, number in missing.items() if number}})


def flush(timeout: float = 10.0) -> FlushReport:
    """Send everything produced so far, and say what became of it. Returns within ``timeout`` seconds.

    With a provider that ``configure()`` did not make, its ``force_flush`` is called, and the report says ``unknown``.
    """
    if _provider is None:
        return _flush_foreign(timeout)
    end = time.monotonic() + _bounded(timeout)
    for pipeline in _hurried():
        pipeline.drain(max(0.0, end - time.monotonic()))
    flush_metrics(max(0.0, end - time.monotonic()))
    _store_artifacts(max(0.0, end - time.monotonic()))
    return _with_the_rest(_report())


def _bounded(timeout: float) -> float:
    """A time that all who wait can take: an infinite one is a number of milliseconds to nobody."""
    return min(max(0.0, timeout), _LONGEST)


def _store_artifacts(timeout: float) -> None:
    """Wait for the artifact store, where one was ever used: else it is not loaded."""
    store = _artifact_store()
    if store is not None:
        store.drain(timeout)


def _artifact_store() -> Any:
    return sys.modules.get("otelflow._artifacts.store")


def _flush_foreign(timeout: float) -> FlushReport:
    """Flush a provider of the user's own. It may take as long as it likes, so that is done on a thread beside."""
    timeout = _bounded(timeout)
    end = time.monotonic() + timeout
    force_flush = getattr(global_provider(), "force_flush", None)
    if force_flush is not None:
        _flushing.run(partial(_quietly, force_flush, int(timeout * 1000)), end)
    flush_metrics(max(0.0, end - time.monotonic()))
    _store_artifacts(max(0.0, end - time.monotonic()))
    return _with_the_rest(FlushReport(unknown=True))


def _quietly(call: Any, *arguments: Any) -> None:
    try:
        call(*arguments)
    except Exception:
        _logger.warning("force_flush of the tracer provider in use raised.", exc_info=True)


def shutdown(timeout: float = 10.0) -> FlushReport:
    """Send everything, then stop sending: spans that end later are counted as lost. Returns within about ``timeout``
    seconds, and says what became of the spans. A second call only reports. A provider of the user's own is flushed and
    left running."""
    if _provider is None:
        return _flush_foreign(timeout)
    end = time.monotonic() + _bounded(timeout)
    for pipeline in _hurried():
        pipeline.stop(max(0.0, end - time.monotonic()))
    shut_metrics_down(max(0.0, end - time.monotonic()))
    _store_artifacts(max(0.0, end - time.monotonic()))
    atexit.unregister(_at_exit)
    return _with_the_rest(_report())


def stats() -> Stats:
    """How much was produced, delivered and left out since the start of the process."""
    numbers = counts.snapshot()
    listener_errors = numbers.pop(LISTENER_ERRORS, 0)
    report = _report()
    produced = max((pipeline.stats().produced for pipeline in span_processors), default=0)
    return Stats(
        produced=produced,
        delivered=report.delivered,
        pending=report.pending,
        dropped={**numbers, **report.lost},
        listener_errors=listener_errors,
        lean_spans=has_lean_spans(),
    )
