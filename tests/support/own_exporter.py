"""A worker with its own exporter, and a span of another library."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

import otelflow


def set_up() -> None:
    """Configure otelflow, as a program or a worker does at its start."""
    otelflow.configure()


@otelflow.task(name="step")
def other_spans(number: int) -> Any:
    """A task with another library's span below it."""
    with trace.get_tracer("other").start_as_current_span("other"):
        return number
