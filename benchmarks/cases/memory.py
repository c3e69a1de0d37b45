"""Measure the bytes that stay in memory: for a finished task, kept or not, and for finished flows. Prints JSON."""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from otelflow import FlowRunConfig, flow, flow_events, task


@task
def step(x: int) -> int:
    return x


def flow_of(**config: Any) -> Any:
    @flow(flow_config=FlowRunConfig(**config))
    def root(number: int) -> None:
        for x in range(number):
            step(x)

    return root


def retained_bytes(run: Callable[[], Any]) -> int:
    """Return the bytes that ``run`` leaves in use while its result still exists."""
    run()
    flow_events.clear_history()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = run()
    flow_events.clear_history()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del result
    return after - before


def main() -> None:
    tasks, flows = (2_000, 2_000) if "--quick" in sys.argv else (50_000, 1_000_000)
    keeping, dropping = flow_of(max_tasks=tasks), flow_of(add_task_to_self=False)

    def run_flows() -> None:
        for _ in range(flows):
            dropping(1).execute()

    few = retained_bytes(lambda: dropping(10).execute())
    print(
        json.dumps(
            {
                "a finished task, kept": retained_bytes(lambda: keeping(tasks).execute()) // tasks,
                "a finished task, not kept": (retained_bytes(lambda: dropping(tasks).execute()) - few) // tasks,
                f"all of {flows:,} finished flows": retained_bytes(run_flows),
            }
        )
    )


if __name__ == "__main__":
    main()
