"""A flow with tasks, a nested flow and another library's span, for tests of captures."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from otelflow import flow, task

tracer = trace.get_tracer("fetched at import")


@task
def extract(path: str, this_task: Any = None) -> list[int]:
    """Record a message, an artifact and a result."""
    this_task.log_info(f"reading {path}", path=path)
    this_task.add_artifact("Rows", key="rows", data={"count": 2})
    this_task.add_result("rows", "2 rows")
    return [1, 2]


@task(raise_on_error=False)
def load() -> None:
    """Fail; the flow continues."""
    with tracer.start_as_current_span("INSERT", attributes={"db.name": "shop"}):
        raise ValueError("disk full")


@flow
def nightly(this_flow: Any = None) -> None:
    """Run two tasks, another library's span, and a nested flow."""
    this_flow.log_warning("begins")
    extract("data/")
    load()
    inner().execute()


@flow
def inner() -> None:
    """A nested flow."""
    extract("more/")
