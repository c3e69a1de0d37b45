"""Read a batch processor's settings from the environment: limits of the queue and the batches."""

from __future__ import annotations

import os
from typing import Any

from otelflow.config import (
    OTELFLOW_QUEUE_BYTES,
    OTELFLOW_QUEUE_SIZE,
    number_from_environment,
    whole_number_from_environment,
)

__all__ = ["queue_settings"]

_BATCH_SIZE = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"


def queue_settings(exporter: Any = None) -> dict[str, Any]:
    """Return the settings of the environment, as arguments of ``BatchProcessor``.

    An exporter that a person watches may have a shorter delay: its attribute ``schedule_delay``, in seconds.
    """
    queue_size = whole_number_from_environment("OTEL_BSP_MAX_QUEUE_SIZE", 100_000, 1)
    is_batch_size_set = os.environ.get(_BATCH_SIZE, "").strip()
    return {
        "queue_size": whole_number_from_environment(OTELFLOW_QUEUE_SIZE, queue_size, 1),
        "queue_bytes": whole_number_from_environment(OTELFLOW_QUEUE_BYTES, 256_000_000, 1),
        "batch_size": whole_number_from_environment(_BATCH_SIZE, 512, 1) if is_batch_size_set else None,
        "delay": min(
            number_from_environment("OTEL_BSP_SCHEDULE_DELAY", 5000, 1) / 1000,
            getattr(exporter, "schedule_delay", float("inf")),
        ),
    }
