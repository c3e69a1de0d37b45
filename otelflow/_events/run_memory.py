"""What one run keeps in memory of its messages, artifacts, results and tasks, within bounds."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from otelflow._runtime.drop_counts import MESSAGES, TASKS, counts
from otelflow._runtime.run_ids import run_id
from otelflow.records import Artifact, Message, Result

__all__ = ["RunMemory", "artifact_of", "message_of", "result_of"]

MemoryEntry = tuple[Any, ...]
"""What a run said or made, in the form that costs least to hold: its facts, then the name and number of the task."""


class RunMemory:
    """The memory of a flow run, or of a task run outside any flow. Freed with its run."""

    __slots__ = ("_failures", "_said", "_short", "artifacts", "messages", "numbers", "results", "tasks")

    def __init__(self, max_messages: int, max_tasks: int) -> None:
        self.messages: deque[MemoryEntry] = deque(maxlen=max_messages)
        self.tasks: deque[Any] = deque(maxlen=max_tasks)
        self.artifacts: list[MemoryEntry] = []
        self.results: list[MemoryEntry] = []
        self.numbers = itertools.count()
        """Gives one number to each task that starts: atomic, as tasks may start in several threads at once, and without
        a lock, which a fork might leave shut in the child."""
        self._failures = itertools.count()
        self._said = itertools.count()
        self._short = itertools.count()

    def add_message(self, message: MemoryEntry) -> None:
        """Keep ``message``; where the bound is reached, the oldest goes."""
        next(self._said)
        self.messages.append(message)

    def task_failed(self) -> None:
        """Count a task that failed."""
        next(self._failures)

    def task_was_short(self) -> None:
        """Count a task that left no span, as it was shorter than its ``min_duration``."""
        next(self._short)

    def settle(self, keeps_tasks: bool) -> tuple[int, int, int, int, int]:
        """To be called once, when the run ends: how many tasks started, failed, and were too short for a span; and of
        tasks and of messages, how many the bounds kept out. Counts the latter two."""
        started = next(self.numbers)
        tasks = started - len(self.tasks) if keeps_tasks else 0
        messages = next(self._said) - len(self.messages)
        if tasks:
            counts.add(TASKS, tasks)
        if messages:
            counts.add(MESSAGES, messages)
        return started, next(self._failures), next(self._short), tasks, messages


def _run_id(number: int | None) -> str | None:
    return None if number is None else run_id("task_", number)


def message_of(kept: MemoryEntry) -> Message:
    """The message that was kept."""
    text, level, ns, raw, attributes, task_name, number = kept
    return Message(text, level, ns, task_name, _run_id(number), raw, attributes)


def artifact_of(kept: MemoryEntry) -> Artifact:
    """The artifact that was kept."""
    key, data, description, kind, ns, _, number = kept
    return Artifact(key, data, description, kind, ns, _run_id(number))


def result_of(kept: MemoryEntry) -> Result:
    """The result that was kept."""
    key, description, ns, _, number = kept
    return Result(key, description, ns, _run_id(number))
