"""Create a tracer provider from the environment and the arguments of ``configure()``."""

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
"""The exporter that stores spans on disk; it is part of the distribution otelflow-exporters."""


_LIMITS = [
    *(f"OTEL_SPAN_{part}_LIMIT" for part in ("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH", "EVENT_COUNT", "LINK_COUNT")),
    *(f"OTEL_LOGRECORD_{part}_LIMIT" for part in ("ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH")),
    *(f"OTEL_{part}ATTRIBUTE_COUNT_LIMIT" for part in ("", "EVENT_", "LINK_")),
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
]


def remove_invalid_limits() -> None:
    """Remove invalid limits from the environment, and log them.

    With an invalid limit, importing the SDK fails (opentelemetry-sdk 1.45, ``SpanLimits._from_env_if_absent``).
    """
    for name in _LIMITS:
        text = os.environ.get(name, "").strip()
        try:
            is_invalid = bool(text) and int(text) < 0
        except ValueError:
            is_invalid = True
        if is_invalid:
            _logger.error("%s must be a whole number, at least 0; got %.80r. It is ignored.", name, text)
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
    """Create a provider that sends to ``exporters``.

    ``at_exit`` is called when this process ends, however it was started. ``endpoint`` and ``headers`` are for the
    exporter that gets the overflow of a full queue.
    """
    # The SDK is imported here and not earlier: importing otelflow must stay cheap.
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
        shutdown_on_exit=False,  # otelflow waits at exit, and only while there is progress
        id_generator=ProcessIdGenerator(),
    )
    for name, exporter in exporters:
        pipeline = BatchProcessor(
            exporter, name, **queue_settings(exporter), **_full_queue_settings(name, endpoint, headers)
        )
        span_processors.append(pipeline)
        for processor in _create_span_processor(exporter), ExportSpanProcessor(pipeline):
            if processor is not None:
                provider.add_span_processor(processor)
    if ON_LOGS:
        from otelflow._providers.logger_provider import set_up_logs

        set_up_logs(provider.resource)
    atexit.register(at_exit)
    drain_with_multiprocessing(provider, at_exit)
    drain_with_celery(at_exit)
    return provider


def _create_span_processor(exporter: Any) -> Any:
    """Return the exporter's own span processor, from its method ``span_processor``; None if it has none.

    An exporter that shows running spans needs one: exporters only get spans that have ended.
    """
    create = getattr(exporter, "span_processor", None)
    if create is None:
        return None
    try:
        return create()
    except Exception:
        _logger.warning(
            "The span processor of %s could not be created. Ended spans are still exported.", exporter, exc_info=True
        )
        return None


def _full_queue_settings(name: str, endpoint: str | None, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the settings for a full queue of the exporter ``name``, as arguments of ``BatchProcessor``."""
    policy = choice_from_environment(OTELFLOW_WHEN_FULL, ("drop", "wait", "spool"))
    seconds = number_from_environment(OTELFLOW_WAIT_SECONDS, 1.0)
    if policy == "wait":
        return {"wait": seconds}
    if policy == "drop" or name == _SPOOL:
        return {}
    spool = make_or_placeholder(_SPOOL, endpoint, headers)
    return {"overflow": BatchProcessor(spool, _SPOOL, **queue_settings(spool), wait=seconds)}  # wait for the disk
