"""Measure what metrics add to a task: on its path, and in total, against a span and a histogram by hand. Prints JSON.

The path is the CPU time of the calling thread. The rest runs in the background, and counts in the time of the process.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from by_hand import add as add_by_hand
from by_hand import set_up
from cases import add, calls, in_flow, in_root_by_hand
from harness import Case, Sample, measure, ratio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otelflow._metrics import instruments
from otelflow._metrics.measurements import measures


def with_metrics(on: bool, sample: Sample) -> Sample:
    """Run ``sample`` with or without metrics. The sample includes the processing of buffered measurements."""

    def run(number: int) -> None:
        measures.on = on
        sample(number)
        measures.process()

    return run


tasks = in_flow(calls(add))
by_hand = in_root_by_hand(calls(add_by_hand))


def by_hand_with_histogram() -> Sample:
    """Return a sample that records spans and their durations."""
    histogram = metrics.get_meter("benchmark").create_histogram("duration", "s")
    attributes = {"otelflow.flow.name": "root", "otelflow.task.name": "add", "otelflow.status": "completed"}

    def measured(x: int) -> int:
        start = time.perf_counter()
        value = add_by_hand(x)
        histogram.record(time.perf_counter() - start, attributes)
        return value

    return in_root_by_hand(calls(measured))


def path(rounds: int, number: int) -> list[float]:
    """Return the microseconds of the calling thread that metrics add to a task, for each round."""
    differences = []
    gc.disable()
    for turn in range(rounds):
        seconds = {}
        for on in (turn % 2 == 0, turn % 2 == 1):
            measures.on = on
            start = time.thread_time()
            tasks(number)
            seconds[on] = time.thread_time() - start
            measures.process()
            gc.collect()
        differences.append((seconds[True] - seconds[False]) / number * 1e6)
    gc.enable()
    return differences


def main() -> None:
    rounds = 5 if "--quick" in sys.argv else 40
    set_up("recording")
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    instruments.use(instruments.RunInstruments(metrics.get_meter_provider()))
    cases = {
        "without": Case("without", with_metrics(False, tasks), 2000),
        "with": Case("with", with_metrics(True, tasks), 2000),
        "by hand": Case("by hand", by_hand, 2000),
        "with histogram": Case("with histogram", by_hand_with_histogram(), 2000),
    }
    measure(list(cases.values()), rounds)
    results = {"added on the path of a task, µs (goal: <= 1)": f"{statistics.median(path(rounds, 4000)):.2f}"}
    for title, name, base in (
        ("task with metrics, to a span by hand", "with", "by hand"),
        ("task with metrics, to a span and a histogram by hand", "with", "with histogram"),
        ("task without metrics, to a span by hand", "without", "by hand"),
    ):
        median, spread = ratio(cases[name], cases[base])
        results[f"CPU in all: {title}"] = f"{median:.2f} ±{spread:.2f}"
    print(json.dumps(results))


if __name__ == "__main__":
    main()
