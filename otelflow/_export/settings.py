"""Read a batch processor's settings from the environment: limits of the queue and the batches."""

from __future__ import annotations

from typing import Any

from otelflow.config import OTELFLOW_QUEUE_BYTES, OTELFLOW_QUEUE_SIZE, number_from_environment

__all__ = ["queue_settings"]


def queue_settings(exporter: Any = None) -> dict[str, Any]:
    """Return the settings of the environment, as arguments of ``BatchProcessor``.

    An exporter that a person watches may have a shorter delay: its attribute ``schedule_delay``, in seconds.
    """
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
