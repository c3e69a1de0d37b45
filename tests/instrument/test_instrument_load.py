"""Instrument a running service: no call is lost, no result changes, and memory does not grow."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shopping

from otelflow import instrument
from otelflow.testing import Capture

TARGETS: dict[str, Any] = {
    "flows": [{"target": "shop.stock:Base.place", "attributes": {"order": "order"}}],
    "tasks": [
        "shop.stock:reserve",
        "shop.stock:fetch",
        "shop.stock:each",
        "shop.stock:Base.make",
        "shop.stock:Base.total",
    ],
}


@pytest.fixture(autouse=True)
def shop(tmp_path: Path) -> Iterator[Any]:
    """Write the package ``shop`` and yield its module ``use``, which imports from another module."""
    shopping.write(tmp_path)
    with shopping.importable(tmp_path):
        yield shopping.load("use")


def call_all(use: Any, number: int) -> None:
    """Make one call of each kind and check its value."""
    assert use.both() == (["a", 1], ["b", 2], ["c", 1])
    item = use.Base()
    assert item.place(number) == ["placed", "Base", number]
    assert item.make(number) == ("Base", number)
    assert item.total == 5
    assert list(use.stock.each(2)) == ["begin", (0, None), (1, None)]


def test_threads_call_while_functions_are_wrapped_and_restored(shop: Any, captured: Capture) -> None:
    """40 times, under four threads: every value is correct, and every started span ends."""
    stop, failures, calls = threading.Event(), [], [0] * 4

    def serve(number: int) -> None:
        try:
            while not stop.is_set():
                call_all(shop, number)
                calls[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        with instrument(**TARGETS):
            time.sleep(0.0005)
        if len(captured.spans) > 20_000:
            captured.clear()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert all(calls)
    call_all(shop, 1)
    assert type(shop.reserve).__name__ == "function"


def test_coroutines_wait_while_functions_are_wrapped_and_restored(shop: Any, captured: Capture) -> None:
    """On one event loop, with running calls during each change."""
    stock: Any = shop.stock
    references: set[Any] = set()

    async def slow(sku: str) -> str:
        await asyncio.sleep(0.001)
        return sku

    slow.__module__ = "shop.stock"
    stock.slow = slow

    async def serve(number: int) -> int:
        count = 0
        while not stop.is_set():
            assert await stock.slow(f"{number} {count}") == f"{number} {count}"
            count += 1
        return count

    async def main() -> list[int]:
        serving = [asyncio.ensure_future(serve(number)) for number in range(20)]
        references.update(serving)
        for _ in range(100):
            undo = instrument(tasks=["shop.stock:slow"])
            await asyncio.sleep(0.001)
            undo()
            await asyncio.sleep(0.0005)
        stop.set()
        return await asyncio.gather(*serving)

    stop = asyncio.Event()
    counts = asyncio.run(main())
    assert min(counts) > 10
    assert captured.tasks
    assert {run.status for run in captured.tasks} == {"completed"}
    assert stock.slow is slow


def test_repeated_instrumenting_keeps_no_memory(shop: Any, captured: Capture) -> None:
    """Wrappers are freed after the undo."""

    def repeat(times: int) -> None:
        for _ in range(times):
            with instrument(**TARGETS):
                call_all(shop, 1)
            captured.clear()

    repeat(150)  # fills the history of events
    gc.collect()
    blocks = sys.getallocatedblocks()
    repeat(200)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 1000  # less than five for each repetition
