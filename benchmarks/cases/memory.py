"""What stays in memory, in bytes: for a finished task, kept and not kept, and for finished flows. Prints JSON."""

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


def kept(make: Callable[[], Any]) -> int:
    """Bytes in use after ``make`` that were not before, its result still held."""
    make()
    flow_events.clear_history()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = make()
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

    few = kept(lambda: dropping(10).execute())
    print(
        json.dumps(
            {
                "a finished task, kept": kept(lambda: keeping(tasks).execute()) // tasks,
                "a finished task, not kept": (kept(lambda: dropping(tasks).execute()) - few) // tasks,
                f"all of {flows:,} finished flows": kept(run_flows),
            }
        )
    )


if __name__ == "__main__":
    main()
