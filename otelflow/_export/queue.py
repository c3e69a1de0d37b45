"""What waits to be exported: bounded in number and bytes, taken in without a lock, and never lost uncounted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from otelflow._runtime.waiting import WakeUp

__all__ = ["Queue"]


class Queue:
    """Any thread puts in, one takes out.

    ``put`` is on the path of every span, and may be called by a signal handler in the middle of another ``put``: so it
    appends, compares a length, and is done. ``attend`` is called where the length has come to ``threshold``, which the
    thread that takes out sets to what it waits for.
    """

    def __init__(self, most: int, most_bytes: int, attend: Callable[[], None]) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._attend = attend
        self.begin()

    def begin(self) -> None:
        """Start empty; also in a forked child, whose parent sends what was waiting."""
        self._items: deque[Any] = deque()
        self._bytes = 0
        self.in_hand = 0
        """Items that were taken out, and are neither delivered nor lost yet."""
        self.threshold = 0
        self.lock = threading.RLock()
        """Held where items leave: one that is neither here nor there would be missing in the account."""
        self.room = WakeUp()
        """Rings when items have left."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Any, size: int = 0) -> None:
        """Take one item. ``size``: its bytes, told where they are many."""
        items = self._items
        if size:
            with self.lock:  # else the item might be taken out while its bytes are not counted
                self._bytes += size
                items.append(_Sized(item, size))
        else:
            items.append(item)
        if len(items) >= self.threshold or self._bytes > self.most_bytes:
            self._attend()

    @property
    def is_over(self) -> bool:
        """Whether there is more than may be."""
        return len(self._items) > self.most or self._bytes > self.most_bytes

    def take(self, number: int) -> list[Any]:
        """The oldest items, ``number`` at most; they are in hand from now on."""
        with self.lock:
            taken = self._pop(number)
            self.in_hand += len(taken)
        self.room.set()
        return taken

    def drop(self, number: int) -> list[Any]:
        """Take the oldest items out, which nobody will send from here."""
        with self.lock:
            return self._pop(number)

    @contextmanager
    def left_open(self) -> Iterator[None]:
        """Without the lock, should this thread hold it: a signal handler came in between, and is to wait for a thread
        that needs it. What it interrupted goes on as if other threads had been there before."""
        held = 0
        try:
            while True:
                self.lock.release()
                held += 1
        except RuntimeError:  # it is another's, or nobody's
            pass
        try:
            yield
        finally:
            for _ in range(held):
                self.lock.acquire()

    def _pop(self, number: int) -> list[Any]:
        items = self._items
        taken: list[Any] = []
        try:
            for _ in range(min(number, len(items))):
                taken.append(items.popleft())  # noqa: PERF401
        except IndexError:  # see left_open
            pass
        if self._bytes:
            for position, item in enumerate(taken):
                if type(item) is _Sized:
                    self._bytes -= item.size
                    taken[position] = item.item
        return taken


class _Sized:
    """An item with its size in bytes."""

    __slots__ = ("item", "size")

    def __init__(self, item: Any, size: int) -> None:
        self.item, self.size = item, size
