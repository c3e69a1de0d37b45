"""What one run keeps in memory of its messages, artifacts, results and tasks, within bounds."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import Any

from otelflow._counts import MESSAGES, TASKS, counts
from otelflow.records import Artifact, Keyed, Message, Result

__all__ = ["Journal"]


class Journal:
    """The memory of a flow run, or of a task run outside any flow. Freed with its run."""

    __slots__ = ("_failed_lock", "_number", "artifacts", "dropped_messages", "messages", "results", "tasks", "tasks_failed")

    def __init__(self, max_messages: int, max_tasks: int) -> None:
        self.messages: deque[Message] = deque(maxlen=max_messages)
        self.tasks: deque[Any] = deque(maxlen=max_tasks)
        self.artifacts: Keyed[Artifact] = Keyed()
        self.results: Keyed[Result] = Keyed()
        self.dropped_messages = 0
        self.tasks_failed = 0
        self._number = itertools.count()
        self._failed_lock = threading.Lock()

    def add_message(self, message: Message) -> None:
        """Keep ``message``; where the bound is reached, the oldest goes and is counted."""
        if len(self.messages) == self.messages.maxlen:
            self.dropped_messages += 1
            counts.add(MESSAGES)
        self.messages.append(message)

    def add_task(self, task: Any, keep: bool) -> None:
        """Count a task that starts, and ``keep`` it."""
        next(self._number)  # atomic: tasks may start in several threads at once
        if keep:
            if len(self.tasks) == self.tasks.maxlen:
                counts.add(TASKS)
            self.tasks.append(task)

    def task_failed(self) -> None:
        """Count a task that failed."""
        with self._failed_lock:
            self.tasks_failed += 1

    def task_count(self) -> int:
        """How many tasks were started. To be asked once, when the run ends: asking counts as one."""
        return next(self._number)
