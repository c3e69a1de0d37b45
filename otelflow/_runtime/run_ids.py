"""Number runs, so that each run has a unique id across threads, forks and processes."""

from __future__ import annotations

import itertools
import os

from otelflow._runtime.fork import after_fork_in_child

__all__ = ["is_inherited", "next_run_number", "run_id"]

# A run's identity is one integer: 64 random bits of the process, then a running number. It is unique across processes,
# gives the order in which two runs of one process began, costs 0.05 µs, and becomes text only when it is read.
_COUNTER_BITS = 48


is_forked_child = False
"""Whether this process is a forked child. Only then its memory may contain runs of another process."""


_seed: int
_numbers: itertools.count[int]


def _start_counter() -> None:
    global _seed, _numbers
    _seed = int.from_bytes(os.urandom(8), "big") | 1 << 63  # the top bit keeps all ids the same length
    _numbers = itertools.count(_seed << _COUNTER_BITS)


def _after_fork_in_child() -> None:
    """Start a new counter: a child that continued the parent's counter would create the same ids."""
    global is_forked_child
    is_forked_child = True
    _start_counter()


_start_counter()
after_fork_in_child(_after_fork_in_child)


def is_inherited(run_number: int) -> bool:
    """Return whether the run of that number began in a process that this one was forked from."""
    return is_forked_child and run_number != 0 and run_number >> _COUNTER_BITS != _seed


def next_run_number() -> int:
    """Return a number that is larger than all previous ones of this process, and that no other process uses."""
    return next(_numbers)


def run_id(prefix: str, run_number: int) -> str:
    """Return the text form of a run's number: ``prefix`` and 28 lower-case hex digits."""
    return f"{prefix}{run_number:028x}"
