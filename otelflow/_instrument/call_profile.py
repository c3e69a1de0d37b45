"""How often the functions of a configuration are called, and how long they take: counted in each process of a command.

In the place of spans: so that a function which is called in a tight loop shows before it costs anything.
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

__all__ = ["HOT", "CallCount", "begin", "read_profile"]

HOT = 1000
"""Calls in one second of one process from which a function is hot: at 10 µs a span, one per cent of a core."""

_EVERY_SECONDS = 0.5


class CallCount(NamedTuple):
    """What was counted of one function, in all processes together."""

    calls: int
    busiest: int
    """Most calls in one second of one process."""
    seconds: float | None
    """Time in the function, its callees included; None where it is a coroutine or generator function."""

    @property
    def is_hot(self) -> bool:
        return self.busiest >= HOT


class _Counter:
    """Counts one function. Two threads may count at once and lose a call: it is a profile."""

    __slots__ = ("busiest", "calls", "in_second", "ns", "second")

    def __init__(self, ns: int | None) -> None:
        self.calls = self.busiest = self.in_second = self.second = 0
        self.ns = ns

    def count(self, now: int) -> None:
        self.calls += 1
        second = now // 1_000_000_000
        if second != self.second:
            self.second, self.in_second = second, 0
        self.in_second += 1
        if self.in_second > self.busiest:
            self.busiest = self.in_second


_counters: dict[tuple[str, str], _Counter] = {}


def _counting(target: Target, function: Any) -> tuple[Any, Any]:
    is_timed = kind_of(function) is CallableKind.CALL
    key = (str(target), function_name(function))
    counter = _counters.setdefault(key, _Counter(0 if is_timed else None))
    clock = time.perf_counter_ns

    def call(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begun = clock()
        counter.count(begun)
        if not is_timed:
            return wrapped(*args, **kwargs)
        try:
            return wrapped(*args, **kwargs)
        finally:
            counter.ns += clock() - begun  # type: ignore[operator]  # it is timed

    return call, lambda: None


def begin(folder: Path) -> None:
    """Count from now on, into a file of this process in ``folder``; forked children have their own.

    It is written every half second, and at the end where a process comes to it: some are killed.
    """
    instrument_leniently(make=_counting)
    atexit.register(_write, folder)

    def write_on() -> None:
        while folder.is_dir():  # else nobody waits for it any more
            time.sleep(_EVERY_SECONDS)
            _write(folder)

    def in_background() -> None:
        threading.Thread(target=write_on, name="otelflow-profile", daemon=True).start()

    def in_child() -> None:
        for counter in _counters.values():
            counter.calls = counter.busiest = 0
            counter.ns = None if counter.ns is None else 0
        in_background()

    in_background()
    after_fork_in_child(in_child)


def _write(folder: Path) -> None:
    rows = [[*key, one.calls, one.busiest, one.ns] for key, one in list(_counters.items()) if one.calls]
    try:
        part = folder / f"{os.getpid()}.part"
        part.write_text(json.dumps(rows))
        part.replace(folder / f"{os.getpid()}.json")
    except OSError:  # the folder is gone
        pass


def read_profile(folder: Path) -> dict[tuple[str, str], CallCount]:
    """What all processes counted, by target and function."""
    summed: dict[tuple[str, str], CallCount] = {}
    for path in sorted(folder.glob("*.json")):
        for target, function, calls, busiest, ns in json.loads(path.read_text()):
            before = summed.get((target, function), CallCount(0, 0, None if ns is None else 0.0))
            seconds = None if ns is None or before.seconds is None else before.seconds + ns / 1e9
            summed[target, function] = CallCount(before.calls + calls, max(before.busiest, busiest), seconds)
    return summed
