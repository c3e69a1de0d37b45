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

    __slots__ = ("_lock", "artifacts", "messages", "numbers", "results", "said", "tasks", "tasks_failed")

    def __init__(self, max_messages: int, max_tasks: int) -> None:
        self.messages: deque[Message] = deque(maxlen=max_messages)
        self.tasks: deque[Any] = deque(maxlen=max_tasks)
        self.artifacts: Keyed[Artifact] = Keyed()
        self.results: Keyed[Result] = Keyed()
        self.numbers = itertools.count()
        """Gives one number to each task that starts: atomic, as tasks may start in several threads at once."""
        self.said = 0
        self.tasks_failed = 0
        self._lock = threading.Lock()

    def add_message(self, message: Message) -> None:
        """Keep ``message``; where the bound is reached, the oldest goes."""
        with self._lock:
            self.said += 1
            self.messages.append(message)

    def task_failed(self) -> None:
        """Count a task that failed."""
        with self._lock:
            self.tasks_failed += 1

    def settle(self, keeps_tasks: bool) -> tuple[int, int, int]:
        """To be called once, when the run ends: how many tasks started, and of tasks and of messages, how many the
        bounds kept out. Counts the latter two."""
        started = next(self.numbers)
        tasks = started - len(self.tasks) if keeps_tasks else 0
        messages = self.said - len(self.messages)
        if tasks:
            counts.add(TASKS, tasks)
        if messages:
            counts.add(MESSAGES, messages)
        return started, tasks, messages
