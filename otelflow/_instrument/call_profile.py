"""Count and time the calls of configured functions, in each process of a command.

Calls are counted and make no spans. This shows functions that are called in a tight loop before their spans cost
time.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from otelflow._instrument.api import instrument_leniently
from otelflow._instrument.targets import Target
from otelflow._runs.callable_kind import CallableKind, kind_of
from otelflow._runtime.fork import after_fork_in_child
from otelflow._runtime.names import function_name

__all__ = ["HOT", "CallCount", "read_profile", "start_counting"]

HOT = 1000
"""A function is hot from this number of calls in one second of one process: at 10 µs a span, 1 % of a core."""

_WRITE_INTERVAL_SECONDS = 0.5


class CallCount(NamedTuple):
    """Calls of one function, in all processes together."""

    calls: int
    max_per_second: int
    """The highest number of calls in one second of one process."""
    seconds: float | None
    """Total time in the function, including its callees; None for a coroutine or generator function."""

    @property
    def is_hot(self) -> bool:
        return self.max_per_second >= HOT


class _Counter:
    """Call counter of one function. It has no lock: two threads at once may lose a call, which a profile can accept."""

    __slots__ = ("calls", "calls_in_second", "current_second", "max_per_second", "ns")

    def __init__(self, ns: int | None) -> None:
        self.calls = self.max_per_second = self.calls_in_second = self.current_second = 0
        self.ns = ns

    def count(self, now: int) -> None:
        self.calls += 1
        second = now // 1_000_000_000
        if second != self.current_second:
            self.current_second, self.calls_in_second = second, 0
        self.calls_in_second += 1
        if self.calls_in_second > self.max_per_second:
            self.max_per_second = self.calls_in_second


_counters: dict[tuple[str, str], _Counter] = {}


def _make_counting_call(target: Target, function: Any) -> tuple[Any, Any]:
    is_timed = kind_of(function) is CallableKind.CALL
    key = (str(target), function_name(function))
    counter = _counters.setdefault(key, _Counter(0 if is_timed else None))
    clock = time.perf_counter_ns

    def call(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        started_ns = clock()
        counter.count(started_ns)
        if not is_timed:
            return wrapped(*args, **kwargs)
        try:
            return wrapped(*args, **kwargs)
        finally:
            counter.ns += clock() - started_ns  # type: ignore[operator]  # set if is_timed

    return call, lambda: None


def start_counting(folder: Path) -> None:
    """Count calls from now on. Each process writes its own file in ``folder``; so do forked children.

    The file is written every half second and at exit. A process that is killed does not reach its exit.
    """
    instrument_leniently(make_call=_make_counting_call)
    atexit.register(_write_counts, folder)

    def write_periodically() -> None:
        while folder.is_dir():  # `otelflow check` removes the folder when it has read the counts
            time.sleep(_WRITE_INTERVAL_SECONDS)
            _write_counts(folder)

    def start_writer() -> None:
        threading.Thread(target=write_periodically, name="otelflow-profile", daemon=True).start()

    def reset_in_child() -> None:
        for counter in _counters.values():
            counter.calls = counter.max_per_second = 0
            counter.ns = None if counter.ns is None else 0
        start_writer()

    start_writer()
    after_fork_in_child(reset_in_child)


def _write_counts(folder: Path) -> None:
    rows = [
        [*key, counter.calls, counter.max_per_second, counter.ns]
        for key, counter in list(_counters.items())
        if counter.calls
    ]
    try:
        part = folder / f"{os.getpid()}.part"
        part.write_text(json.dumps(rows))
        part.replace(folder / f"{os.getpid()}.json")
    except OSError:  # the folder was removed
        pass


def read_profile(folder: Path) -> dict[tuple[str, str], CallCount]:
    """Return the counts of all processes, by target and function."""
    totals: dict[tuple[str, str], CallCount] = {}
    for path in sorted(folder.glob("*.json")):
        for target, function, calls, max_per_second, ns in json.loads(path.read_text()):
            previous = totals.get((target, function), CallCount(0, 0, None if ns is None else 0.0))
            seconds = None if ns is None or previous.seconds is None else previous.seconds + ns / 1e9
            totals[target, function] = CallCount(
                previous.calls + calls, max(previous.max_per_second, max_per_second), seconds
            )
    return totals
