"""Measuring on a noisy machine: process CPU time against a yardstick, interleaved rounds, medians, ratios in one run.

Each round takes every case once, in a shuffled order, so that a slow phase of the machine hits all of them. A fixed
piece of Python work is timed right before and right after each sample, and the sample counts in units of that: a
neighbour who takes the caches away slows both. The garbage collector is off while a sample is taken, and what is there
before the first one is not looked at again.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Sample = Callable[[int], None]
"""Runs its subject the given number of times."""


class _Thing:
    def __init__(self, number: int) -> None:
        self.number, self.text = number, f"{number:08x}"

    def about(self) -> dict[str, object]:
        return {"number": self.number, "text": self.text, "kind": "thing"}


def yardstick() -> float:
    """Seconds of this thread for some objects, calls, dicts and texts: what telemetry is made of; 1 to 2 ms."""
    start = time.thread_time()
    kept: dict[str, object] = {}
    for number in range(1000):
        thing = _Thing(number)
        kept.update(thing.about())
        kept[thing.text[-2:]] = (thing, number)
    return time.thread_time() - start


@dataclass
class Case:
    """One thing to measure: ``sample(number)`` runs it ``number`` times."""

    name: str
    sample: Sample
    number: int = 1000
    costs: list[float] = field(default_factory=list)
    """What one of them costs, in yardsticks, by round."""

    yards: list[float] = field(default_factory=list)
    """Seconds of the yardstick, by round."""

    def take(self) -> None:
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
        """What one of them takes, by round, on a machine that is as fast as this one was in the middle."""
        yard = statistics.median(self.yards)
        return [cost * yard for cost in self.costs]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(cases: list[Case], rounds: int) -> None:
    """Take all ``cases`` in ``rounds`` interleaved rounds, after one that warms up."""
    for case in cases:
        case.sample(max(1, case.number // 10))
    gc.collect()
    gc.freeze()
    order = list(cases)
    shuffle = random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for case in order:
            case.take()
    gc.unfreeze()


def ratio(case: Case, base: Case) -> tuple[float, float]:
    """The ratio of the medians of ``case`` and ``base``, and half the distance between the quartiles by round."""
    ratios = [mine / other for mine, other in zip(case.costs, base.costs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(case.costs) / statistics.median(base.costs), (high - low) / 2


def row(name: str, case: Case, base: Case) -> dict[str, object]:
    """A line of the table: microseconds in the middle, the ratio to ``base``, and its spread."""
    middle, spread = ratio(case, base)
    return {"name": name, "micros": round(case.median * 1e6, 2), "ratio": round(middle, 3), "spread": round(spread, 3)}
