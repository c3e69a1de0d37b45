"""Read the settings of a pipeline's queue and batches from the environment."""

from __future__ import annotations

from typing import Any

from otelflow.config import OTELFLOW_QUEUE_BYTES, OTELFLOW_QUEUE_SIZE, number_from_environment

__all__ = ["queue_settings"]


def queue_settings(exporter: Any = None) -> dict[str, Any]:
    """From the environment; an exporter that somebody watches says by ``schedule_delay`` that it waits less, in
    seconds."""
    size = number_from_environment(
        OTELFLOW_QUEUE_SIZE, number_from_environment("OTEL_BSP_MAX_QUEUE_SIZE", 100_000, 1), 1
    )
    batch = number_from_environment("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 0, 1)
    return {
        "queue_size": int(size),
        "queue_bytes": int(number_from_environment(OTELFLOW_QUEUE_BYTES, 256_000_000, 1)),
        "batch_size": int(batch) or None,
        "delay": min(
            number_from_environment("OTEL_BSP_SCHEDULE_DELAY", 5000, 1) / 1000,
            getattr(exporter, "schedule_delay", float("inf")),
        ),
    }
