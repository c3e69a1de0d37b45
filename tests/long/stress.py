"""A hundred flows at once with a hundred tasks each: is every span there, once, below its own flow?

    python tests/long/stress.py asyncio | threads | processes | dask

prints what it found as JSON. Run by ``test_stress.py``; the table in the README has its figures.
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
    """All flows on one loop, their tasks interleaved."""

    @flow
    async def one(number: int) -> None:
        await asyncio.gather(*(unit_async(number, index) for index in range(TASKS)))

    async def main() -> list[Any]:
        return list(await asyncio.gather(*(one(number).execute_async() for number in range(FLOWS))))

    return asyncio.run(main())


def in_threads() -> list[Any]:
    """A thread each."""

    @flow
    def one(number: int) -> None:
        for index in range(TASKS):
            unit(number, index)

    return _in_threads_of_their_own(one)


def in_pool(kind: str, workers: int) -> list[Any]:
    """A thread each, and all tasks in one pool of processes; on Dask in jobs of ten, as one costs it milliseconds."""
    from pool_work import pool_of

    with pool_of(kind, workers) as pool:

        @flow
        def one(number: int) -> None:
            list(pool.map(unit, [number] * TASKS, range(TASKS), chunksize=10 if kind == "dask" else 1))

        return _in_threads_of_their_own(one)


def _in_threads_of_their_own(one: Any) -> list[Any]:
    runs: list[Any] = []
    threads = [threading.Thread(target=lambda n=number: runs.append(one(n).execute())) for number in range(FLOWS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return runs


WAYS: dict[str, Any] = {
    "asyncio": in_asyncio,
    "threads": in_threads,
    "processes": lambda: in_pool("forkserver", 4),
    "dask": lambda: in_pool("dask", 2),
}


def look(runs: list[Any], spans: Any) -> dict[str, Any]:
    """The figures: task spans, those below another flow than their own, ids that are there twice, what is missing."""
    flows = {run.run_id: int(run.span_id, 16) for run in runs}
    tasks = [span for span in spans if span.name.startswith("unit")]
    ids = Counter(span.context.span_id for span in spans)
    each = Counter(span.attributes["otelflow.flow.run_id"] for span in tasks)
    return {
        "flows": len(runs),
        "tasks": len(tasks),
        "wrong parent": sum(
            span.parent is None or span.parent.span_id != flows[span.attributes["otelflow.flow.run_id"]]
            for span in tasks
        ),
        "twice": sum(number - 1 for number in ids.values()),
        "lost": FLOWS * TASKS - len(tasks),
        "tasks a flow": sorted(set(each.values())),
        "messages of others": sum(
            message.attributes["flow"] != run.messages[0].attributes["flow"] for run in runs for message in run.messages
        ),
        "kept": sorted({(len(run.tasks), len(run.messages)) for run in runs}),
        "dropped": stats().dropped,
    }


if __name__ == "__main__":
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    print(json.dumps(look(WAYS[sys.argv[1]](), exporter.get_finished_spans())))
