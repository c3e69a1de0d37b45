"""List the batch processors in use: one for each exporter."""

from __future__ import annotations

from otelflow._export.batch_processor import BatchProcessor

__all__ = ["log_processors", "span_processors"]

span_processors: list[BatchProcessor] = []
"""One for each span exporter."""

log_processors: list[BatchProcessor] = []
"""One for each log record exporter."""
