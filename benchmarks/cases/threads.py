"""Measure the tasks a second of concurrent threads against one thread, by the clock and not by CPU time. Prints JSON.

With the GIL, threads take turns, and the ratio is about 1. Without it, in Python 3.13's free-threaded build, it can
reach the number of cores: ``python3.13t benchmarks/bench.py --only threads``.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import by_hand
import cases

THREADS = (1, 2)


def seconds(sample: Callable[[int], Any], number: int, threads: int) -> float:
    """Return the seconds for ``number`` repetitions in each of ``threads`` threads. Each thread has its own root."""
    ready = Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        sample(number)

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def main() -> None:
    rounds, number = (3, 1000) if "--quick" in sys.argv else (15, 5000)
    by_hand.set_up("recording")
    samples = {
        "otelflow": cases.in_flow(cases.calls(cases.add)),
        "by hand": cases.in_root_by_hand(cases.calls(by_hand.add)),
    }
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name, sample in samples.items():
            for threads in THREADS:
                rates.setdefault((name, threads), []).append(number * threads / seconds(sample, number, threads))
    rate = {key: statistics.median(values) for key, values in rates.items()}
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    results: dict[str, object] = {"the GIL": "there" if has_gil else "not there"}
    for name in samples:
        results[f"spans a second, 2 threads to 1: {name}"] = round(rate[name, 2] / rate[name, 1], 2)
    results["spans a second, 2 threads: otelflow to by hand"] = round(rate["otelflow", 2] / rate["by hand", 2], 1)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
