"""Jobs for tests of pools, and the pools. Workers can import this module; they cannot always import ``__main__``."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from otelflow import FlowRunConfig, flow, flow_events, task
from otelflow.propagate import propagating

PROCESSES = ["spawn", "loky", "dask"]
if sys.platform != "win32":
    PROCESSES = ["fork", "forkserver", *PROCESSES]
KINDS = ["threads", *PROCESSES]


@contextlib.contextmanager
def pool_of(kind: str, workers: int = 2) -> Iterator[Executor]:
    """Yield a propagating executor of that kind."""
    if kind == "threads":
        with propagating(ThreadPoolExecutor(workers)) as pool:
            yield pool
    elif kind == "loky":
        from loky import ProcessPoolExecutor as LokyExecutor

        with propagating(LokyExecutor(workers, timeout=60)) as pool:
            yield pool
    elif kind == "dask":
        with _dask(workers) as pool:
            yield pool
    else:
        with propagating(ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(kind))) as pool:
            yield pool


@contextlib.contextmanager
def _dask(workers: int) -> Iterator[Executor]:
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.logging.distributed": "critical"}),
        LocalCluster(
            n_workers=workers, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
        propagating(client.get_executor()) as pool,
    ):
        yield pool


# --- jobs -------------------------------------------------------------------------------------------------------------


@task
def step(number: int, this_task: Any = None, this_flow: Any = None) -> int:
    """Record messages, an artifact and a result, on itself and on its flow."""
    this_task.log_info(f"step {number}", number=number)
    this_flow.log_warning(f"flow hears of {number}")
    this_flow.add_flow_artifact("a table", key=f"table {number}", data={"rows": [number]})
    this_task.add_result(f"result {number}", "done")
    return number


@task
def outer(number: int) -> int:
    """A task that calls a task."""
    return step(number)


@task(name="failing")
def fails(number: int) -> int:
    """Fail in a task below it."""
    return deeper(number)


@task
def deeper(number: int) -> int:
    """Raise the error."""
    raise LookupError(f"no {number}")


@task
def prints(number: int) -> None:
    """Print a line, which becomes a message of this task."""
    print(f"printed {number}")


@flow
def inner(number: int, this_flow: Any = None) -> int:
    """A flow that starts in a worker."""
    this_flow.log_debug("not wanted")
    this_flow.log_info(f"inner {number}")
    return step(number)


def starts_flow(number: int) -> Any:
    """Start a flow; this is not a task."""
    return inner(number).execute().return_value


@task
def uses_data(flow_data: Any = None) -> str:
    """Write the flow's data: threads share it, processes refuse this."""
    try:
        flow_data["found"] = 1
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "shared"


@task
def dies() -> None:
    """Kill the worker."""
    os._exit(3)


def identity(this_flow: Any = None) -> Any:
    """Return the current flow's data as a job sees them."""
    from otelflow import current_flow

    flow_run = current_flow()
    return (
        None
        if flow_run is None
        else (flow_run.name, flow_run.run_id, flow_run.status, flow_run.trace_id, flow_run.span_id)
    )


# --- flows and results ------------------------------------------------------------------------------------------------


@flow(flow_config=FlowRunConfig(capture_output=True))
def everything(pool: Executor, this_flow: Any = None) -> dict[str, Any]:
    """Submit one job of each kind. Return their results, and the flow's state right after the first result."""
    facts: dict[str, Any] = {}
    facts["value"] = pool.submit(outer, 1).result()
    facts["known at once"] = [str(message) for message in this_flow.messages]
    try:
        pool.submit(fails, 2).result()
    except LookupError as error:
        facts["error"] = repr(error)
        facts["cause"] = str(error.__cause__)
    facts["mapped"] = list(pool.map(step, [3, 4]))
    facts["in chunks"] = list(pool.map(step, range(5, 8), chunksize=2))
    pool.submit(prints, 8).result()
    facts["inner"] = pool.submit(starts_flow, 9).result()
    facts["data"] = pool.submit(uses_data).result()
    facts["identity"] = pool.submit(identity).result()
    return facts


def tree_of(spans: list[ReadableSpan]) -> list[Any]:
    """Return spans as nested lists of name, status and children, in an order that does not depend on time."""

    def children_of(parent: int | None) -> list[Any]:
        children = [span for span in spans if (span.parent.span_id if span.parent else None) == parent]
        return sorted(
            [
                [span.name, (span.attributes or {})["otelflow.status"], children_of(span.context.span_id)]
                for span in children
            ]  # type: ignore[union-attr]
        )

    return children_of(None)


def facts_of(pool: Executor, exporter: Any) -> dict[str, Any]:
    """Return all data of one run of :func:`everything`, as plain values that do not depend on time."""
    exporter.clear()
    events: list[Any] = []
    with flow_events.listen(events.append):
        run = everything(pool).execute()
    spans = exporter.get_finished_spans()
    return {
        **(run.return_value or {}),
        "is identity": run.return_value["identity"] == (run.name, run.run_id, "running", run.trace_id, run.span_id),  # type: ignore[index]
        "tree": tree_of(spans),
        "spans": len(spans),
        "traces": len({span.context.trace_id for span in spans}),
        "exceptions": sorted(span.name for span in spans for event in span.events if event.name == "exception"),
        "messages": sorted(run.messages),
        "severities": sorted({message.severity for message in run.messages}),
        "artifacts": sorted([artifact.key, artifact.data] for artifact in run.artifacts),
        "results": sorted(result.key for result in run.results),
        "tasks": sorted([task.name, task.status, repr(task.error), task.return_value] for task in run.tasks),  # type: ignore[type-var]
        "counted": [
            (span.attributes or {})[f"otelflow.flow.{name}"]
            for span in spans
            if span.name == "everything"
            for name in ("tasks", "tasks_failed")
        ],
        "heard": sorted(
            Counter(f"{e.event_type.value} {e.event_data.task_name or e.event_data.flow_name}" for e in events).items()
        ),
        "sources": sorted({e.event_data.event_source for e in events if e.event_data.event_source.startswith("pool")}),
        "durations": all((task.duration or 0) > 0 for task in run.tasks),
    }


@task
def many(this_task: Any = None) -> None:
    """Record more events than a span keeps, and an artifact that cannot be pickled."""
    for number in range(200):
        this_task.log_info(str(number))
    this_task.add_artifact(key="function", data=lambda: None)


@task
async def waits(number: int) -> int:
    """A coroutine function."""
    return number


@task
def tries(folder: str) -> int:
    """Succeed the third time."""
    from pathlib import Path

    number = len(list(Path(folder).iterdir())) + 1
    Path(folder, str(number)).touch()
    if number < 3:
        raise OSError("not yet")
    return number
