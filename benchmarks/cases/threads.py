"""How many tasks a second threads make at once, to one thread: seconds of the clock, not of the CPU. Prints JSON.

With the GIL, threads take turns, and the figure is about 1. Without it, as of Python 3.13's free-threaded build, it may
be as high as there are cores: ``python3.13t benchmarks/bench.py --only threads``.
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
    """How long ``threads`` take for ``number`` each, in a root of its own."""
    ready = Barrier(threads + 1)

    def work() -> None:
        ready.wait()
        sample(number)

    running = [Thread(target=work) for _ in range(threads)]
    for each in running:
        each.start()
    ready.wait()
    begin = time.perf_counter()
    for each in running:
        each.join()
    return time.perf_counter() - begin


def main() -> None:
    rounds, number = (3, 1000) if "--quick" in sys.argv else (15, 5000)
    by_hand.set_up("recording")
    samples = {
        "otelflow": cases.in_flow(cases.calls(cases.add)),
        "by hand": cases.in_hand_root(cases.calls(by_hand.add)),
    }
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name, sample in samples.items():
            for threads in THREADS:
                found.setdefault((name, threads), []).append(number * threads / seconds(sample, number, threads))
    rate = {key: statistics.median(rates) for key, rates in found.items()}
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    made: dict[str, object] = {"the GIL": "there" if has_gil else "not there"}
    for name in samples:
        made[f"spans a second, 2 threads to 1: {name}"] = round(rate[name, 2] / rate[name, 1], 2)
    made["spans a second, 2 threads: otelflow to by hand"] = round(rate["otelflow", 2] / rate["by hand", 2], 1)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
