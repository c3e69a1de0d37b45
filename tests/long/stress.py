"""Run a hundred flows at once with a hundred tasks each, and check that every span is there once, below its flow.

    python tests/long/stress.py asyncio | threads | processes | dask

It prints its counts as JSON. ``test_stress.py`` runs it; the table in the README has its figures.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stress_work import unit, unit_async

from otelflow import flow, stats

FLOWS = TASKS = 100


def in_asyncio() -> list[Any]:
    """Run all flows on one loop, with their tasks interleaved."""

    @flow
    async def run_tasks(number: int) -> None:
        await asyncio.gather(*(unit_async(number, index) for index in range(TASKS)))

    async def main() -> list[Any]:
        return list(await asyncio.gather(*(run_tasks(number).execute_async() for number in range(FLOWS))))

    return asyncio.run(main())


def in_threads() -> list[Any]:
    """Run each flow in a thread."""

    @flow
    def run_tasks(number: int) -> None:
        for index in range(TASKS):
            unit(number, index)

    return _run_in_threads(run_tasks)


def in_pool(kind: str, workers: int) -> list[Any]:
    """Run each flow in a thread, and all tasks in one pool of processes.

    On Dask, jobs have ten tasks each, because one job takes milliseconds.
    """
    from pool_work import pool_of

    with pool_of(kind, workers) as pool:

        @flow
        def run_tasks(number: int) -> None:
            list(pool.map(unit, [number] * TASKS, range(TASKS), chunksize=10 if kind == "dask" else 1))

        return _run_in_threads(run_tasks)


def _run_in_threads(start: Any) -> list[Any]:
    runs: list[Any] = []
    threads = [threading.Thread(target=lambda n=number: runs.append(start(n).execute())) for number in range(FLOWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs


RUNNERS: dict[str, Any] = {
    "asyncio": in_asyncio,
    "threads": in_threads,
    "processes": lambda: in_pool("forkserver", 4),
    "dask": lambda: in_pool("dask", 2),
}


def count_facts(runs: list[Any], spans: Any) -> dict[str, Any]:
    """Return the counts: task spans, wrong parents, duplicate ids, and what is missing."""
    flows = {run.run_id: int(run.span_id, 16) for run in runs}
    tasks = [span for span in spans if span.name.startswith("unit")]
    ids = Counter(span.context.span_id for span in spans)
    tasks_by_flow = Counter(span.attributes["otelflow.flow.run_id"] for span in tasks)
    return {
        "flows": len(runs),
        "tasks": len(tasks),
        "wrong parent": sum(
            span.parent is None or span.parent.span_id != flows[span.attributes["otelflow.flow.run_id"]]
            for span in tasks
        ),
        "duplicates": sum(number - 1 for number in ids.values()),
        "lost": FLOWS * TASKS - len(tasks),
        "tasks a flow": sorted(set(tasks_by_flow.values())),
        "messages of others": sum(
            message.attributes["flow"] != run.messages[0].attributes["flow"] for run in runs for message in run.messages
        ),
        "in memory": sorted({(len(run.tasks), len(run.messages)) for run in runs}),
        "dropped": stats().dropped,
    }


if __name__ == "__main__":
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    print(json.dumps(count_facts(RUNNERS[sys.argv[1]](), exporter.get_finished_spans())))
