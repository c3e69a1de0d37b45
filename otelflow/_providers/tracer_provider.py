"""Make a tracer provider, as the environment and ``configure()`` say."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otelflow._export.batch_processor import BatchProcessor
from otelflow._export.registry import span_processors
from otelflow._export.settings import queue_settings
from otelflow._providers.exporters import make_or_placeholder
from otelflow._runtime.exit_hooks import drain_with_celery, drain_with_multiprocessing
from otelflow._spans.span_events import ON_LOGS
from otelflow.config import OTELFLOW_WAIT_SECONDS, OTELFLOW_WHEN_FULL, choice_from_environment, number_from_environment

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

__all__ = ["new_provider", "remove_invalid_limits"]

_logger = logging.getLogger("otelflow")

_SPOOL = "otelflow_spool"
"""The exporter that keeps spans on disk: of the distribution otelflow-exporters."""


_LIMITS = [
    *(f"OTEL_SPAN_{what}_LIMIT" for what in ("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH", "EVENT_COUNT", "LINK_COUNT")),
    *(f"OTEL_LOGRECORD_{what}_LIMIT" for what in ("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH")),
    *(f"OTEL_{what}ATTRIBUTE_COUNT_LIMIT" for what in ("", "EVENT_", "LINK_")),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
]


def remove_invalid_limits() -> None:
    """Take limits that are none out of the environment, and log it: with one, the SDK cannot even be imported
    (opentelemetry-sdk 1.45, ``SpanLimits._from_env_if_absent``)."""
    for name in _LIMITS:
        text = os.environ.get(name, "").strip()
        try:
            is_wrong = bool(text) and int(text) < 0
        except ValueError:
            is_wrong = True
        if is_wrong:
            _logger.error("%s is %.80r, which is no whole number from 0 up. It is left out of account.", name, text)
            del os.environ[name]


def new_provider(
    at_exit: Callable[[], None],
    service_name: str | None,
    exporters: list[tuple[str, Any]],
    sampler: Sampler | None = None,
    resource_attributes: Mapping[str, Any] | None = None,
    *,
    endpoint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> trace.TracerProvider:
    """A provider that sends to ``exporters``; ``at_exit`` is called when this process ends, however it was started.
    ``endpoint`` and ``headers`` are for what sends the overflow of those."""
    # The SDK is loaded here and nowhere earlier: importing otelflow must stay cheap.
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider

    from otelflow._export.processors import ExportSpanProcessor
    from otelflow._spans.id_generator import ProcessIdGenerator

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
        pipeline = BatchProcessor(exporter, name, **queue_settings(exporter), **_when_full(name, endpoint, headers))
        span_processors.append(pipeline)
        for processor in _own_processor(exporter), ExportSpanProcessor(pipeline):
            if processor is not None:
                provider.add_span_processor(processor)
    if ON_LOGS:
        from otelflow._providers.logger_provider import set_up_logs

        set_up_logs(provider.resource)
    atexit.register(at_exit)
    drain_with_multiprocessing(provider, at_exit)
    drain_with_celery(at_exit)
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


def _when_full(name: str, endpoint: str | None, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """What becomes of spans that find the queue of the exporter ``name`` full."""
    wanted = choice_from_environment(OTELFLOW_WHEN_FULL, ("drop", "wait", "spool"))
    seconds = number_from_environment(OTELFLOW_WAIT_SECONDS, 1.0)
    if wanted == "wait":
        return {"wait": seconds}
    if wanted == "drop" or name == _SPOOL:
        return {}
    spool = make_or_placeholder(_SPOOL, endpoint, headers)
    return {"overflow": BatchProcessor(spool, _SPOOL, **queue_settings(spool), wait=seconds)}  # a disk is waited for
