"""What metrics add to a task: on its path, and in all, beside a span and a histogram by hand. Prints JSON.

The path is the time of the calling thread; the rest is done beside it, and counted in the time of the process.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from by_hand import add as hand_add
from by_hand import set_up
from cases import add, calls, in_flow, in_hand_root
from harness import Case, Sample, measure, ratio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otelflow._metrics import instruments
from otelflow._metrics.measurements import measures


def switched(on: bool, sample: Sample) -> Sample:
    """With metrics or without; what was noted is worked off within the sample."""

    def run(number: int) -> None:
        measures.on = on
        sample(number)
        measures.process()

    return run


tasks = in_flow(calls(add))
by_hand = in_hand_root(calls(hand_add))


def by_hand_with_histogram() -> Sample:
    """Spans and their duration."""
    histogram = metrics.get_meter("benchmark").create_histogram("duration", "s")
    attributes = {"otelflow.flow.name": "root", "otelflow.task.name": "add", "otelflow.status": "completed"}

    def measured(x: int) -> int:
        began = time.perf_counter()
        value = hand_add(x)
        histogram.record(time.perf_counter() - began, attributes)
        return value

    return in_hand_root(calls(measured))


def path(rounds: int, number: int) -> list[float]:
    """Microseconds of the calling thread that metrics add to a task, by round."""
    added = []
    gc.disable()
    for turn in range(rounds):
        seconds = {}
        for on in (turn % 2 == 0, turn % 2 == 1):
            measures.on = on
            began = time.thread_time()
            tasks(number)
            seconds[on] = time.thread_time() - began
            measures.process()
            gc.collect()
        added.append((seconds[True] - seconds[False]) / number * 1e6)
    gc.enable()
    return added


def main() -> None:
    rounds = 5 if "--quick" in sys.argv else 40
    set_up("recording")
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    instruments.use(instruments.RunInstruments(metrics.get_meter_provider()))
    cases = {
        "without": Case("without", switched(False, tasks), 2000),
        "with": Case("with", switched(True, tasks), 2000),
        "by hand": Case("by hand", by_hand, 2000),
        "with histogram": Case("with histogram", by_hand_with_histogram(), 2000),
    }
    measure(list(cases.values()), rounds)
    found = {"added on the path of a task, µs (goal: <= 1)": f"{statistics.median(path(rounds, 4000)):.2f}"}
    for what, mine, other in (
        ("task with metrics, to a span by hand", "with", "by hand"),
        ("task with metrics, to a span and a histogram by hand", "with", "with histogram"),
        ("task without metrics, to a span by hand", "without", "by hand"),
    ):
        middle, stray = ratio(cases[mine], cases[other])
        found[f"CPU in all: {what}"] = f"{middle:.2f} ±{stray:.2f}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
