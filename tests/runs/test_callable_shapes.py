"""Test decorated callables of each kind: how they look to inspect, and what passes through them."""

from __future__ import annotations

import asyncio
import functools
import gc
import pickle
from copy import copy, deepcopy
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from plain_runs import deferred, plain

from otelflow import FlowRunConfig, current_task, flow, task
from otelflow.testing import Capture


class Thing:
    """Decorated methods of each kind."""

    @task
    def method(self, x: int) -> tuple[str, int]:
        return type(self).__name__, x

    @classmethod
    @task
    def of_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @task
    @classmethod
    def of_class_below(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @staticmethod
    @task
    def static(x: int) -> tuple[str, int]:
        return "", x

    @task
    @staticmethod
    def static_below(x: int) -> tuple[str, int]:
        return "", x

    @flow
    def as_flow(self, x: int) -> tuple[str, int]:
        return type(self).__name__, x


# --- kinds of callables ---------------------------------------------------------------------------


def test_a_decorated_function_looks_like_the_function() -> None:
    """Signature, name, documentation and kind are the function's."""

    @task
    async def coroutine() -> None: ...

    @flow(transparent=True)
    def generator() -> Any:
        yield

    @task
    async def async_generator() -> Any:
        yield

    assert str(signature(plain)) == "(x: 'int', *, y: 'int' = 0) -> 'int'"
    assert (plain.__name__, plain.__doc__, plain.__module__) == ("plain", "Adds.", "plain_runs")
    assert iscoroutinefunction(coroutine)
    assert isgeneratorfunction(generator)
    assert isasyncgenfunction(async_generator)


def test_methods_in_both_orders_of_decoration() -> None:
    """Methods, class methods and static methods work on instances and on the class."""
    thing = Thing()
    assert thing.method(1) == Thing.method(thing, 1) == ("Thing", 1)
    assert thing.of_class(2) == Thing.of_class(2) == ("Thing", 2)
    assert thing.of_class_below(2) == Thing.of_class_below(2) == ("Thing", 2)
    assert thing.static(3) == Thing.static(3) == ("", 3)
    assert thing.static_below(3) == Thing.static_below(3) == ("", 3)
    assert thing.as_flow(4).execute().return_value == ("Thing", 4)


def test_partials_and_callable_objects(captured: Capture) -> None:
    """They are named after the function or the class."""

    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

    class AsyncAdder:
        async def __call__(self, x: int) -> int:
            return x + 1

    assert task(functools.partial(plain.__wrapped__, y=2))(1) == 3
    assert task(Adder())(1) == 2
    assert asyncio.run(task(AsyncAdder())(1)) == 2
    assert flow(Adder())(1).execute().return_value == 2
    assert flow(AsyncAdder())(1).execute().return_value == 2
    assert [run.name for run in captured.spans] == ["plain", "Adder", "AsyncAdder", "Adder", "AsyncAdder"]


def test_decorated_functions_can_be_pickled_and_copied() -> None:
    """Functions are pickled by name, as plain ones are; bound methods with their object."""
    thing = Thing()
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert pickle.loads(pickle.dumps(thing.method))(1) == ("Thing", 1)
    assert copy(plain) is plain
    assert deepcopy([plain])[0] is plain


def test_a_generator_task_passes_everything_through(captured: Capture) -> None:
    """send, throw and the return value work; the consumer's context does not change; the span covers the iteration."""
    outer_span = trace.get_current_span()
    tasks: list[Any] = []

    @task
    def talks() -> Any:
        try:
            value = yield 1
        finally:
            tasks.append(current_task())
        try:
            yield value
        except KeyError:
            yield "caught"
        return "end"

    steps = talks()
    assert captured.spans == []
    assert next(steps) == 1
    assert trace.get_current_span() is outer_span
    assert steps.send("hello") == "hello"
    assert steps.throw(KeyError("k")) == "caught"
    assert current_task() is None
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "end"
    assert captured.span("talks").status == "completed"
    assert tasks[0].return_value == "end"


def test_a_generator_closed_early_is_no_error(captured: Capture) -> None:
    """break, close() and garbage collection end the span once, as completed."""

    @task
    def counts() -> Any:
        yield from range(10)

    for number in counts():
        if number == 3:
            break
    steps = counts()
    next(steps)
    steps.close()
    steps = counts()
    next(steps)
    del steps
    gc.collect()
    ends = [(run.status, run.span.status.status_code) for run in captured.spans]
    assert ends == [("completed", StatusCode.UNSET)] * 3


def test_a_span_around_a_yield_is_current_only_in_the_generator() -> None:
    """It is current again when the generator goes on, and never for its consumer."""
    tracer = trace.get_tracer("mine")
    is_current: list[bool] = []

    @task
    def wraps() -> Any:
        with tracer.start_as_current_span("mine") as span:
            yield
            is_current.append(trace.get_current_span() is span)

    outer_span = trace.get_current_span()
    for _ in wraps():
        assert trace.get_current_span() is outer_span
    assert is_current == [True]


def test_an_async_generator_task(captured: Capture) -> None:
    """asend, athrow, aclose and an early break work; the consumer's context does not change."""

    @task
    async def talks() -> Any:
        value = yield 1
        try:
            yield value
        except KeyError:
            yield current_task().name  # type: ignore[union-attr]

    async def main() -> None:
        steps = talks()
        assert await steps.asend(None) == 1
        assert current_task() is None
        assert await steps.asend("hi") == "hi"
        assert await steps.athrow(KeyError("k")) == "talks"
        await steps.aclose()
        async for _ in talks():
            break
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert [run.status for run in captured.spans] == ["completed"] * 2


def test_a_deferred_generator_flow() -> None:
    """execute() drains it and keeps the return value; a Flow can also be iterated."""

    @flow
    def yields() -> Any:
        yield 1
        yield 2
        return "end"

    @flow
    async def ayields() -> Any:
        yield 1
        yield 2

    async def steps() -> list[int]:
        return [item async for item in ayields()]

    assert yields().execute().return_value == "end"
    assert list(yields()) == [1, 2]
    assert ayields().execute().status == "completed"
    assert asyncio.run(steps()) == [1, 2]
    with pytest.raises(TypeError, match=r"'deferred' is a function, not a generator function\. Use execute\(\)"):
        list(deferred(1))


def test_a_transparent_flow_behaves_like_the_function(captured: Capture) -> None:
    """transparent=True: the call runs the function and returns its value; errors reach the caller."""

    @flow(transparent=True)
    def runs(x: int, this_flow: Any = None) -> tuple[int, str]:
        return plain(x), this_flow.name

    @flow(transparent=True)
    async def runs_async(x: int) -> int:
        return plain(x)

    @flow(transparent=True, flow_config=FlowRunConfig(raise_flow_error=False))
    def tolerant() -> int:
        raise ValueError

    assert runs(1) == (1, "runs")
    assert asyncio.run(runs_async(2)) == 2
    assert tolerant() is None
    captured.assert_tree("runs\n  plain\nruns_async\n  plain\ntolerant  !ValueError")
