"""Instrumenting a service that runs: no call is lost, no result changes, and nothing grows."""

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
    """The package ``shop``, and its module ``use``, which imports from another."""
    shopping.write(tmp_path)
    with shopping.importable(tmp_path):
        yield shopping.load("use")


def call_all(use: Any, number: int) -> None:
    """One call of each kind, each with its answer checked."""
    assert use.both() == (["a", 1], ["b", 2], ["c", 1])
    one = use.Base()
    assert one.place(number) == ["placed", "Base", number]
    assert one.make(number) == ("Base", number)
    assert one.total == 5
    assert list(use.stock.each(2)) == ["begin", (0, None), (1, None)]


def test_threads_that_call_while_it_comes_and_goes(shop: Any, captured: Capture) -> None:
    """40 times on and off, under four threads: every answer is right, and every span that began has ended."""
    done, failures, calls = threading.Event(), [], [0] * 4

    def serve(number: int) -> None:
        try:
            while not done.is_set():
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
    done.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert all(calls)
    call_all(shop, 1)
    assert type(shop.reserve).__name__ == "function"


def test_coroutines_that_wait_while_it_comes_and_goes(shop: Any, captured: Capture) -> None:
    """On one event loop, with calls in flight across each change."""
    stock: Any = shop.stock
    held: set[Any] = set()

    async def slow(sku: str) -> str:
        await asyncio.sleep(0.001)
        return sku

    slow.__module__ = "shop.stock"
    stock.slow = slow

    async def serve(number: int) -> int:
        count = 0
        while not done.is_set():
            assert await stock.slow(f"{number} {count}") == f"{number} {count}"
            count += 1
        return count

    async def main() -> list[int]:
        serving = [asyncio.ensure_future(serve(number)) for number in range(20)]
        held.update(serving)
        for _ in range(100):
            undo = instrument(tasks=["shop.stock:slow"])
            await asyncio.sleep(0.001)
            undo()
            await asyncio.sleep(0.0005)
        done.set()
        return await asyncio.gather(*serving)

    done = asyncio.Event()
    counts = asyncio.run(main())
    assert min(counts) > 10
    assert captured.tasks
    assert {run.status for run in captured.tasks} == {"completed"}
    assert stock.slow is slow


def test_many_times_keep_no_memory(shop: Any, captured: Capture) -> None:
    """What was wrapped and is bare again is freed."""

    def often(times: int) -> None:
        for _ in range(times):
            with instrument(**TARGETS):
                call_all(shop, 1)
            captured.clear()

    often(150)  # the history of events is full then
    gc.collect()
    before = sys.getallocatedblocks()
    often(200)
    gc.collect()
    assert sys.getallocatedblocks() - before < 1000  # less than five for each time
