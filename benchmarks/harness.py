"""Measuring on a noisy machine: process CPU time, interleaved rounds, medians, ratios in one run.

Each round times every case once, in a shuffled order, so that a slow phase of the machine hits all of them. A ratio is
the median of the ratios within the rounds. The garbage collector is off while a sample is taken.
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


@dataclass
class Case:
    """One thing to measure: ``sample(number)`` runs it ``number`` times."""

    name: str
    sample: Sample
    number: int = 1000
    seconds: list[float] = field(default_factory=list)

    def take(self) -> None:
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            self.sample(self.number)
            self.seconds.append((time.process_time() - start) / self.number)
        finally:
            gc.enable()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(cases: list[Case], rounds: int) -> None:
    """Time all ``cases`` in ``rounds`` interleaved rounds, after one that warms up."""
    for case in cases:
        case.sample(max(1, case.number // 10))
    order = list(cases)
    shuffle = random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for case in order:
            case.take()


def ratio(case: Case, base: Case) -> tuple[float, float]:
    """Median of the ratios of ``case`` to ``base`` by round, and half the distance between their quartiles."""
    ratios = [mine / other for mine, other in zip(case.seconds, base.seconds, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return statistics.median(ratios), (high - low) / 2
