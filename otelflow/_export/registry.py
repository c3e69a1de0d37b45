"""List the pipelines in use, one for each exporter."""

from __future__ import annotations

from otelflow._export.batch_processor import Pipeline

__all__ = ["log_pipelines", "pipelines"]

pipelines: list[Pipeline] = []
"""To each span exporter in use, one."""

log_pipelines: list[Pipeline] = []
"""The same of log records."""
