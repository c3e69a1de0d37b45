"""Setting OpenTelemetry up, and asking what became of the spans: configure, flush, shutdown, stats."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otelflow._counts import LISTENER_ERRORS, counts
from otelflow._log_events import ON_LOGS
from otelflow._telemetry import current_source, global_provider
from otelflow.config import EXIT_SECONDS, OTELFLOW_EXIT_SECONDS, OTELFLOW_QUEUE_SIZE, number_from_environment
from otelflow.errors import ArgumentError, ConfigError, unknown_argument

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["FlushReport", "Stats", "configure", "configure_apart", "flush", "shutdown", "stats"]

_logger = logging.getLogger("otelflow")
_lock = threading.Lock()
_pipelines: list[Any] = []
_log_pipelines: list[Any] = []
_provider: Any = None
_given: tuple[Any, ...] = ()


@dataclass(frozen=True)
class FlushReport:
    """What a flush came to, in numbers of spans since the start of the process.

    True when, and only when, everything produced so far was accepted by every exporter. ``lost`` is by reason.
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
    """

    produced: int = 0
    delivered: int = 0
    pending: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    listener_errors: int = 0


def configure(
    service_name: str | None = None,
    exporters: Iterable[str | SpanExporter] | str | None = None,
    *,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
    sampler: Sampler | None = None,
    resource_attributes: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> trace.TracerProvider:
    """Set OpenTelemetry up as its environment variables say; what is given here goes before them.

    If a global tracer provider is set already, it is used and left alone. A second call changes nothing.

    service_name: else ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``.
    exporters: entry-point names (``otlp``, ``console``, ``otelflow_tree``, ...) or exporter objects; else
        ``OTEL_TRACES_EXPORTER``, else ``otlp``. An empty list: none.
    endpoint, headers: for OTLP; else ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_HEADERS``.
    sampler: else ``OTEL_TRACES_SAMPLER``.
    resource_attributes: added to those of the environment.

    Returns the provider in use. Raises :class:`otelflow.errors.ConfigError` for a value given here that cannot be
    used; a wrong environment variable is logged, and what cannot be sent for it is counted as lost.
    """
    if unknown:
        raise unknown_argument("configure()", unknown, ["service_name", "exporters", *(configure.__kwdefaults__ or ())])
    global _given
    given = (service_name, exporters, endpoint, headers, sampler, resource_attributes)
    with _lock:
        existing = global_provider()
        if existing is None:
            provider = _set_up(service_name, _wanted(exporters, endpoint, headers), sampler, resource_attributes)
            trace.set_tracer_provider(provider)
            current_source()  # loads what the first span needs
            _given = given
            return provider
        if given != _given and any(value is not None for value in given):
            _logger.warning(
                "A global tracer provider is set already (%s): it is used and left alone, and what was given to this "
                "configure() has no effect. Give it to the first configure(), or to that provider.",
                type(existing).__qualname__,
            )
        return existing


def configure_apart(service_name: str | None) -> trace.TracerProvider:
    """What ``configure(service_name)`` sets up, without making it the global provider: for what must not be seen by the
    program around it."""
    with _lock:
        return _set_up(service_name, _wanted(None, None, None), None, None)


def _wanted(
    exporters: Iterable[str | SpanExporter] | str | None, endpoint: str | None, headers: Mapping[str, str] | None
) -> list[tuple[str, Any]]:
    """The exporters to use, with their names. Those that the environment asks for never raise."""
    from otelflow._exporters import exporter_names, make_exporter  # importlib.metadata: 10 ms that few programs need

    if exporters is None and endpoint is None:
        return [(name, _made_or_unusable(name, headers)) for name in exporter_names()]
    named = exporter_names() if exporters is None else [exporters] if isinstance(exporters, str) else list(exporters)
    made: list[tuple[str, Any]] = []
    for item in named:
        if isinstance(item, str):
            made.append((item, make_exporter(item, endpoint, headers)))
        elif hasattr(item, "export") and hasattr(item, "shutdown"):
            made.append((type(item).__name__, item))
        else:
            raise ArgumentError(
                f"configure(exporters=...) got {item!r}. Use entry-point names or SpanExporter objects."
            )
    return made


class _Unusable:
    """Stands for an exporter that could not be made: it refuses everything, so that the account shows the loss."""

    def export(self, spans: Any) -> Any:
        from opentelemetry.sdk.trace.export import SpanExportResult

        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass


def _made_or_unusable(name: str, headers: Mapping[str, str] | None, signal: str = "traces") -> Any:
    from otelflow._exporters import make_exporter

    try:
        return make_exporter(name, None, headers, signal)
    except ConfigError as error:
        _logger.error("%s Spans are counted as lost until it is mended.", error)
        return _Unusable()


def _set_up(
    service_name: str | None,
    exporters: list[tuple[str, Any]],
    sampler: Sampler | None,
    resource_attributes: Mapping[str, Any] | None,
) -> trace.TracerProvider:
    global _provider
    # The SDK is loaded here and nowhere earlier: importing otelflow must stay cheap.
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider

    from otelflow._ids import ProcessIdGenerator
    from otelflow._pipeline import Pipeline
    from otelflow._processors import SpanDoor

    attributes = dict(resource_attributes or {})
    if service_name:
        attributes[SERVICE_NAME] = service_name
    provider = TracerProvider(
        sampler=sampler,
        resource=Resource.create(attributes),
        shutdown_on_exit=False,  # ours waits for what makes progress, and for nothing else
        id_generator=ProcessIdGenerator(),
    )
    for name, exporter in exporters:
        pipeline = Pipeline(exporter, name, **_queue_settings(exporter))
        _pipelines.append(pipeline)
        for processor in _own_processor(exporter), SpanDoor(pipeline):
            if processor is not None:
                provider.add_span_processor(processor)
    _provider = provider
    if ON_LOGS:
        _set_up_logs(provider.resource)
    atexit.register(_at_exit)
    _end_with_multiprocessing(provider)
    _end_with_celery()
    return provider


def _own_processor(exporter: Any) -> Any:
    """The span processor that an exporter brings along, by its method ``span_processor``: of what is running it would
    not hear otherwise. None where it brings none."""
    make = getattr(exporter, "span_processor", None)
    if make is None:
        return None
    try:
        return make()
    except Exception:
        _logger.warning("%s makes no span processor; what it exports is not touched by that.", exporter, exc_info=True)
        return None


def _end_with_multiprocessing(provider: Any) -> None:
    """Send what is waiting when a child process of :mod:`multiprocessing` ends, too: it leaves without ``atexit``.

    A forked child has forgotten its parent's finalizers by the time that it runs; so it is given its own there.
    """
    from multiprocessing import process, util

    def at_end(_: object = None) -> None:
        util.Finalize(None, _at_exit, exitpriority=10)

    util.register_after_fork(provider, at_end)
    if process.parent_process() is not None:  # a spawned child that calls configure() itself
        at_end()


def _end_with_celery() -> None:
    """The same for the processes of Celery's prefork pool: billiard ends them by ``os._exit``, and this signal is all
    that is called before."""
    signals = getattr(sys.modules.get("celery"), "signals", None)
    if signals is not None:
        signals.worker_process_shutdown.connect(lambda **_: _at_exit(), weak=False)


def _set_up_logs(resource: Any) -> None:
    """A logger provider for events as log records, unless a global one is set already."""
    from opentelemetry import _logs
    from opentelemetry.sdk._logs import LoggerProvider

    from otelflow._exporters import exporter_names
    from otelflow._pipeline import Pipeline
    from otelflow._processors import LogDoor

    if isinstance(_logs.get_logger_provider(), LoggerProvider):
        return
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for name in exporter_names("logs"):
        pipeline = Pipeline(_made_or_unusable(name, None, "logs"), f"{name}-logs", **_queue_settings())
        _log_pipelines.append(pipeline)
        provider.add_log_record_processor(LogDoor(pipeline))
    _logs.set_logger_provider(provider)


def _queue_settings(exporter: Any = None) -> dict[str, Any]:
    """From the environment; an exporter that somebody watches says by ``schedule_delay`` that it waits less, in
    seconds."""
    size = number_from_environment(
        OTELFLOW_QUEUE_SIZE, number_from_environment("OTEL_BSP_MAX_QUEUE_SIZE", 50_000, 1), 1
    )
    return {
        "queue_size": int(size),
        "batch_size": int(number_from_environment("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1)),
        "delay": min(
            number_from_environment("OTEL_BSP_SCHEDULE_DELAY", 5000, 1) / 1000,
            getattr(exporter, "schedule_delay", float("inf")),
        ),
    }


def _at_exit() -> None:
    """Send what is waiting; give up on an exporter that makes no progress for ``OTELFLOW_EXIT_SECONDS``."""
    patience = number_from_environment(OTELFLOW_EXIT_SECONDS, EXIT_SECONDS)
    for pipeline in (*_pipelines, *_log_pipelines):
        pipeline.stop(None, patience)
    report = _report()
    if not report:
        reasons = [f"{number} {reason}" for reason, number in {**report.lost, "still waiting": report.pending}.items()]
        _logger.warning(
            "%d spans were not delivered by %s: %s. Does the endpoint answer, and is it the right one?",
            report.pending + sum(report.lost.values()),
            ", ".join(
                pipeline.name for pipeline in (*_pipelines, *_log_pipelines) if not _is_whole(pipeline.account())
            ),
            ", ".join(reason for reason in reasons if not reason.startswith("0 ")),
        )


def _is_whole(account: Any) -> bool:
    return not (account.pending or account.lost)


def _report() -> FlushReport:
    accounts = [pipeline.account() for pipeline in _pipelines]
    lost: dict[str, int] = {}
    for account in accounts:
        for reason, number in account.lost.items():
            lost[reason] = lost.get(reason, 0) + number
    for pipeline in _log_pipelines:
        account = pipeline.account()
        for reason, number in {**account.lost, "pending": account.pending}.items():
            if number:
                lost[f"log_records_{reason}"] = number
    return FlushReport(
        delivered=min((account.delivered for account in accounts), default=0),
        pending=max((account.pending for account in accounts), default=0),
        lost=lost,
    )


def flush(timeout: float = 10.0) -> FlushReport:
    """Send everything produced so far, and say what became of it. Returns within ``timeout`` seconds.

    With a provider that ``configure()`` did not make, its ``force_flush`` is called, and the report says ``unknown``.
    """
    if _provider is None:
        return _flush_foreign(timeout)
    end = time.monotonic() + timeout
    for pipeline in (*_pipelines, *_log_pipelines):
        pipeline.drain(max(0.0, end - time.monotonic()))
    return _report()


def _flush_foreign(timeout: float) -> FlushReport:
    """Flush a provider of the user's own. It may take as long as it likes, so that is done on a thread beside."""
    force_flush = getattr(global_provider(), "force_flush", None)
    if force_flush is not None:
        thread = threading.Thread(target=_quietly, args=(force_flush, int(timeout * 1000)), daemon=True)
        thread.start()
        thread.join(timeout)
    return FlushReport(unknown=True)


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
    end = time.monotonic() + timeout
    for pipeline in (*_pipelines, *_log_pipelines):
        pipeline.stop(max(0.0, end - time.monotonic()))
    atexit.unregister(_at_exit)
    return _report()


def stats() -> Stats:
    """How much was produced, delivered and left out since the start of the process."""
    numbers = counts.snapshot()
    listener_errors = numbers.pop(LISTENER_ERRORS, 0)
    report = _report()
    produced = max((pipeline.account().produced for pipeline in _pipelines), default=0)
    return Stats(
        produced=produced,
        delivered=report.delivered,
        pending=report.pending,
        dropped={**numbers, **report.lost},
        listener_errors=listener_errors,
    )
