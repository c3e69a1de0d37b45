"""Queue of items that wait for export: limited in number and bytes, appended to without a lock, fully counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from otelflow._runtime.waiting import WakeUp

__all__ = ["Queue"]


class Queue:
    """Queue that any thread puts items into, and one thread takes items from.

    ``put`` runs for every span, and a signal handler may call it in the middle of another ``put``. So it only appends
    and compares a length. It calls ``on_threshold`` when the length reaches ``threshold``; the thread that takes items
    sets that to the length that it waits for.
    """

    def __init__(self, max_items: int, max_bytes: int, on_threshold: Callable[[], None]) -> None:
        self.max_items, self.max_bytes = max_items, max_bytes
        self._on_threshold = on_threshold
        self.reset()

    def reset(self) -> None:
        """Make the queue empty. Also called in a forked child, whose parent sends the waiting items."""
        self._items: deque[Any] = deque()
        self._bytes = 0
        self.in_flight = 0
        """Items that were taken, and are neither delivered nor lost yet."""
        self.threshold = 0
        self.lock = threading.RLock()
        """Held while items leave: otherwise a count at that moment would miss them."""
        self.room = WakeUp()
        """Set when items have left."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Any, size: int = 0) -> None:
        """Append an item. ``size`` is its bytes if it is large, else 0."""
        items = self._items
        if size:
            with self.lock:  # otherwise the item could be taken before its bytes are counted
                self._bytes += size
                items.append(_SizedItem(item, size))
        else:
            items.append(item)
        if len(items) >= self.threshold or self._bytes > self.max_bytes:
            self._on_threshold()

    @property
    def is_over_limit(self) -> bool:
        """True if there are more items or bytes than the limit."""
        return len(self._items) > self.max_items or self._bytes > self.max_bytes

    def take(self, number: int) -> list[Any]:
        """Take up to ``number`` of the oldest items; they count as in flight from now on."""
        with self.lock:
            items = self._pop(number)
            self.in_flight += len(items)
        self.room.set()
        return items

    def pop_oldest(self, number: int) -> list[Any]:
        """Remove up to ``number`` of the oldest items and return them; they do not count as in flight."""
        with self.lock:
            return self._pop(number)

    @contextmanager
    def lock_released(self) -> Iterator[None]:
        """Release the lock for the duration of the block if this thread holds it.

        A signal handler may have interrupted a holder, and must wait for the export thread, which needs the lock. The
        interrupted code continues as if the other thread had come before it.
        """
        depth = 0
        try:
            while True:
                self.lock.release()
                depth += 1
        except RuntimeError:  # another thread holds it, or none
            pass
        try:
            yield
        finally:
            for _ in range(depth):
                self.lock.acquire()

    def _pop(self, number: int) -> list[Any]:
        items = self._items
        popped: list[Any] = []
        try:
            for _ in range(min(number, len(items))):
                popped.append(items.popleft())  # noqa: PERF401
        except IndexError:  # another thread took items while lock_released() was in effect
            pass
        if self._bytes:
            for position, item in enumerate(popped):
                if type(item) is _SizedItem:
                    self._bytes -= item.size
                    popped[position] = item.item
        return popped


class _SizedItem:
    """An item with its size in bytes."""

    __slots__ = ("item", "size")

    def __init__(self, item: Any, size: int) -> None:
        self.item, self.size = item, size
