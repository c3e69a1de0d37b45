"""A plain task and a flow that calls it."""

from __future__ import annotations

from otelflow import flow, task


@task
def plain(x: int, *, y: int = 0) -> int:
    """Adds."""
    return x + y


@flow
def deferred(x: int) -> int:
    """A deferred flow."""
    return plain(x)
