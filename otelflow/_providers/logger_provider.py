"""Set up a logger provider, where events are log records."""

from __future__ import annotations

from typing import Any

from otelflow._export.batch_processor import Pipeline
from otelflow._export.registry import log_pipelines
from otelflow._export.settings import queue_settings
from otelflow._providers.exporters import exporter_names, made_or_unusable

__all__ = ["set_up_logs"]


def set_up_logs(resource: Any) -> None:
    """A logger provider for events as log records, unless a global one is set already."""
    from opentelemetry import _logs
    from opentelemetry.sdk._logs import LoggerProvider

    from otelflow._export.processors import LogDoor

    if isinstance(_logs.get_logger_provider(), LoggerProvider):
        return
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for name in exporter_names("logs"):
        pipeline = Pipeline(made_or_unusable(name, None, None, "logs"), f"{name}-logs", **queue_settings())
        log_pipelines.append(pipeline)
        provider.add_log_record_processor(LogDoor(pipeline))
    _logs.set_logger_provider(provider)
