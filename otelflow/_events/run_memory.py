"""Hold one run's messages, artifacts, results and tasks in memory, messages and tasks within bounds."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

from otelflow._runtime.drop_counts import MESSAGES, TASKS, counts
from otelflow._runtime.run_ids import run_id
from otelflow.records import Artifact, Message, Result

__all__ = ["RunMemory", "artifact_of", "message_of", "result_of"]

MemoryEntry = tuple[Any, ...]
"""A message, artifact or result as a plain tuple, the cheapest form to hold: its facts, then the task's name and
number."""


class RunMemory:
    """The memory of a flow run, or of a task run outside any flow. Freed with its run."""

    __slots__ = (
        "_messages_added",
        "_tasks_failed",
        "_tasks_too_short",
        "artifacts",
        "messages",
        "numbers",
        "results",
        "tasks",
    )

    def __init__(self, max_messages: int, max_tasks: int) -> None:
        self.messages: deque[MemoryEntry] = deque(maxlen=max_messages)
        self.tasks: deque[Any] = deque(maxlen=max_tasks)
        self.artifacts: list[MemoryEntry] = []
        self.results: list[MemoryEntry] = []
        self.numbers = itertools.count()
        """Counts the tasks that start. ``next()`` is atomic: tasks may start in several threads at once. A lock might
        stay locked in a forked child."""
        self._tasks_failed = itertools.count()
        self._messages_added = itertools.count()
        self._tasks_too_short = itertools.count()

    def add_message(self, message: MemoryEntry) -> None:
        """Append ``message``; at the bound, drop the oldest."""
        next(self._messages_added)
        self.messages.append(message)

    def count_failed_task(self) -> None:
        """Count a task that failed."""
        next(self._tasks_failed)

    def count_short_task(self) -> None:
        """Count a task without a span: it was shorter than its ``min_duration``."""
        next(self._tasks_too_short)

    def close(self, keeps_tasks: bool) -> tuple[int, int, int, int, int]:
        """Return the run's totals: tasks started, failed and too short for a span; tasks and messages dropped.

        Call this once, when the run ends: it adds the dropped tasks and messages to the drop counts, and reading a
        counter changes it.
        """
        started = next(self.numbers)
        tasks = started - len(self.tasks) if keeps_tasks else 0
        messages = next(self._messages_added) - len(self.messages)
        if tasks:
            counts.add(TASKS, tasks)
        if messages:
            counts.add(MESSAGES, messages)
        return started, next(self._tasks_failed), next(self._tasks_too_short), tasks, messages


def _run_id(number: int | None) -> str | None:
    return None if number is None else run_id("task_", number)


def message_of(entry: MemoryEntry) -> Message:
    """Return the :class:`Message` of an entry."""
    text, level, ns, raw, attributes, task_name, number = entry
    return Message(text, level, ns, task_name, _run_id(number), raw, attributes)


def artifact_of(entry: MemoryEntry) -> Artifact:
    """Return the :class:`Artifact` of an entry."""
    key, data, description, kind, ns, _, number = entry
    return Artifact(key, data, description, kind, ns, _run_id(number))


def result_of(entry: MemoryEntry) -> Result:
    """Return the :class:`Result` of an entry."""
    key, description, ns, _, number = entry
    return Result(key, description, ns, _run_id(number))
