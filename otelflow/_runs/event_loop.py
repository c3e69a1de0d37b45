"""Running a coroutine to its end from code that is not async."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["loop_is_running", "run_to_end"]


def loop_is_running() -> bool:
    """Whether this thread is inside an asyncio event loop."""
    return asyncio._get_running_loop() is not None


def run_to_end(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """The value of the coroutine that ``make`` makes, run on an event loop of its own, in the caller's context.

    Inside a running loop it runs in a thread beside it, and the caller blocks. Unlike ``asyncio.run`` this leaves the
    thread's event loop as it is: the loop that the user set stays set.
    """
    if not loop_is_running():
        return _on_new_loop(make)
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(_on_new_loop(make))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="otelflow-execute")
    thread.start()
    thread.join()
    if failure:
        raise failure.pop()
    return outcome[0]


def _on_new_loop(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(make())
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """What ``asyncio.run`` does at its end: tasks that the flow left behind are cancelled and waited for."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
