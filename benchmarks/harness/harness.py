"""Measure on a noisy machine: CPU time against a yardstick, interleaved rounds, medians, ratios within one run.

Each round measures every case once, in a shuffled order, so that a slow phase of the machine affects all of them. A
fixed piece of Python work, the yardstick, is timed right before and after each sample. It is the unit of the sample:
another program that evicts the caches slows both. The garbage collector is off during a sample, and never scans objects
from before the first sample.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Sample = Callable[[int], None]
"""Runs the measured code the given number of times."""


class _Item:
    def __init__(self, number: int) -> None:
        self.number, self.text = number, f"{number:08x}"

    def to_dict(self) -> dict[str, object]:
        return {"number": self.number, "text": self.text, "kind": "thing"}


def yardstick() -> float:
    """Return the CPU seconds of this thread for some objects, calls, dicts and texts, as in telemetry; 1 to 2 ms."""
    start = time.thread_time()
    items: dict[str, object] = {}
    for number in range(1000):
        item = _Item(number)
        items.update(item.to_dict())
        items[item.text[-2:]] = (item, number)
    return time.thread_time() - start


@dataclass
class Case:
    """One case to measure: ``sample(number)`` runs it ``number`` times."""

    name: str
    sample: Sample
    number: int = 1000
    costs: list[float] = field(default_factory=list)
    """Cost of one repetition in each round, in yardsticks."""

    yards: list[float] = field(default_factory=list)
    """Seconds of the yardstick in each round."""

    def measure_once(self) -> None:
        """Take one sample."""
        gc.collect()
        gc.disable()
        try:
            before = yardstick()
            start = time.process_time()
            self.sample(self.number)
            seconds = time.process_time() - start
            yard = (before + yardstick()) / 2
        finally:
            gc.enable()
        self.costs.append(seconds / self.number / yard)
        self.yards.append(yard)

    @property
    def seconds(self) -> list[float]:
        """Seconds of one repetition in each round, on a machine with the median speed of this run."""
        yard = statistics.median(self.yards)
        return [cost * yard for cost in self.costs]

    @property
    def median(self) -> float:
        """Median of :attr:`seconds`."""
        return statistics.median(self.seconds)


def measure(cases: list[Case], rounds: int) -> None:
    """Measure all ``cases`` in ``rounds`` interleaved rounds, after a short one for warming up."""
    for case in cases:
        case.sample(max(1, case.number // 10))
    gc.collect()
    gc.freeze()
    order = list(cases)
    shuffle = random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for case in order:
            case.measure_once()
    gc.unfreeze()


def ratio(case: Case, base: Case) -> tuple[float, float]:
    """Return the ratio of the medians of ``case`` and ``base``, and half the distance between its quartiles."""
    ratios = [cost / base_cost for cost, base_cost in zip(case.costs, base.costs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(case.costs) / statistics.median(base.costs), (high - low) / 2


def row(name: str, case: Case, base: Case) -> dict[str, object]:
    """Return a row of the table: median of microseconds, the ratio to ``base``, and its spread."""
    median, spread = ratio(case, base)
    return {"name": name, "micros": round(case.median * 1e6, 2), "ratio": round(median, 3), "spread": round(spread, 3)}
