"""Test decorated methods on the fast path: they bind as plain functions do."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import types
import weakref
from typing import Any

import wrapt

from otelflow import current_task, flow, task


class Counter:
    """Tasks as methods."""

    def __init__(self) -> None:
        self.number = 0

    @task
    def add(self, more: int, this_task: Any = None) -> int:
        """Adds."""
        self.number += more
        return self.number if this_task is current_task() else -1

    @task
    async def later(self, more: int) -> int:
        return self.number + more


def test_a_method_binds_as_a_function_does() -> None:
    """A task that is a method is Python's own bound method: for inspect, pickle, weak references and comparison."""
    counter = Counter()
    bound: Any = counter.add
    assert type(bound) is types.MethodType
    assert bound == counter.add
    assert (bound.__self__, bound.__name__, bound.__doc__) == (counter, "add", "Adds.")
    assert list(inspect.signature(bound).parameters) == ["more", "this_task"]
    assert inspect.iscoroutinefunction(counter.later)
    assert weakref.WeakMethod(bound)() == bound
    copied = pickle.loads(pickle.dumps(bound))
    assert (copied.__self__.number, copied(3)) == (0, 3)
    assert bound(1) == 1
    assert Counter.add(counter, 2) == 3
    assert asyncio.run(counter.later(1)) == 4
    assert Counter.add is vars(Counter)["add"]

    @flow
    def root() -> None:
        counter.add(1)

    assert [task_run.name for task_run in root().execute().tasks] == ["add"]
    assert counter.number == 4


def test_a_wrapt_decorator_below_a_task_gets_the_object_of_the_method() -> None:
    """``wrapt.synchronized`` needs it: without the object, all objects of a class would wait for one another."""
    calls: list[Any] = []

    @wrapt.decorator
    def records(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        calls.append((instance, args))
        return wrapped(*args, **kwargs)

    class Shop:
        @task
        @records
        def sell(self, count: int) -> int:
            return count

        @task
        @task
        @records
        async def buy(self, count: int) -> int:
            return count

    shop = Shop()
    assert shop.sell(3) == 3
    assert asyncio.run(shop.buy(4)) == 4
    assert calls == [(shop, (3,)), (shop, (4,))]
