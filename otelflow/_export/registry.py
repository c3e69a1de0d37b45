"""List the pipelines in use, one for each exporter."""

from __future__ import annotations

from otelflow._export.batch_processor import BatchProcessor

__all__ = ["log_processors", "span_processors"]

span_processors: list[BatchProcessor] = []
"""To each span exporter in use, one."""

log_processors: list[BatchProcessor] = []
"""The same of log records."""
