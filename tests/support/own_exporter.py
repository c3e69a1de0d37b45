"""A worker that has an exporter of its own, and spans that are not otelflow's."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

import otelflow


def set_up() -> None:
    """What a program or a worker does at its start."""
    otelflow.configure()


@otelflow.task(name="step")
def other_spans(number: int) -> Any:
    """A task with a span of someone else's below it."""
    with trace.get_tracer("other").start_as_current_span("other"):
        return number
