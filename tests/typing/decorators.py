"""Types of the decorators. Checked by mypy strict and pyright; never run."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from typing_extensions import assert_type

from otelflow import Flow, FlowRunConfig, FlowRunEvent, Task, current_flow, current_task, flow, flow_events, task


@flow
def bare(x: int) -> str:
    return str(x)


@flow()
def called(x: int) -> str:
    return str(x)


@flow(name="configured", flow_config=FlowRunConfig(raise_flow_error=False))
async def deferred_async(x: int, *, y: float = 0) -> str:
    return str(x)


@flow(transparent=True)
def transparent(x: int) -> str:
    return str(x)


@flow(transparent=True)
async def transparent_async(x: int) -> str:
    return str(x)


@task
def plain(x: int, y: str = "") -> list[int]:
    return [x]


@task(raise_on_error=False)
async def coroutine(x: int) -> bytes:
    return b""


@task
def generator() -> Iterator[int]:
    yield 1


@task
async def async_generator() -> AsyncIterator[int]:
    yield 1


class Service:
    @flow
    def prepared(self, x: int) -> str:
        return str(x)

    @task
    def method(self, x: int) -> str:
        return str(x)

    @classmethod
    @task
    def of_class(cls, x: int) -> str:
        return str(x)

    @staticmethod
    @task
    def static(x: int) -> str:
        return str(x)


async def check() -> None:
    assert_type(bare(1), Flow[str])
    assert_type(bare(1).execute(), Flow[str])
    assert_type(bare(1).execute().return_value, str | None)
    assert_type(called(1), Flow[str])
    assert_type(deferred_async(1, y=2.0), Flow[str])
    assert_type(await deferred_async(1), Flow[str])
    assert_type(transparent(1), str)
    assert_type(await transparent_async(1), str)
    assert_type(plain(1, y="a"), list[int])
    assert_type(await coroutine(1), bytes)
    assert_type(generator(), Iterator[int])
    assert_type(async_generator(), AsyncIterator[int])
    assert_type(Service().prepared(1), Flow[str])
    assert_type(Service().method(1), str)
    assert_type(Service.of_class(1), str)
    assert_type(Service.static(1), str)
    assert_type(current_flow(), Flow[Any] | None)
    assert_type(current_task(), Task | None)
    assert_type(bare(1).tasks, list[Task])
    with flow_events.listen(lambda event: None):
        pass
    listener: Callable[[FlowRunEvent], None] = print
    undo = flow_events.listen(listener)
    undo()
    named: Callable[[int], Coroutine[Any, Any, bytes]] = coroutine
    functools.partial(named, 1)


def rejected() -> None:
    bare("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    flow(retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    task(name=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
