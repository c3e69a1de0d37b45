"""Set up a logger provider for events that are sent as log records."""

from __future__ import annotations

from typing import Any

from otelflow._export.batch_processor import BatchProcessor
from otelflow._export.registry import log_processors
from otelflow._export.settings import queue_settings
from otelflow._providers.exporters import exporter_names, make_or_placeholder

__all__ = ["set_up_logs"]


def set_up_logs(resource: Any) -> None:
    """Create a logger provider and make it the global one. Do nothing if a global one of the SDK is already set."""
    from opentelemetry import _logs
    from opentelemetry.sdk._logs import LoggerProvider

    from otelflow._export.processors import ExportLogProcessor

    if isinstance(_logs.get_logger_provider(), LoggerProvider):
        return
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for name in exporter_names("logs"):
        pipeline = BatchProcessor(make_or_placeholder(name, None, None, "logs"), f"{name}-logs", **queue_settings())
        log_processors.append(pipeline)
        provider.add_log_record_processor(ExportLogProcessor(pipeline))
    _logs.set_logger_provider(provider)
