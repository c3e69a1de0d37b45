"""The four ways through a run's lifecycle: one driver for each shape of callable.

A driver opens the run, calls the body, and closes the run with what came of it. Exceptions go through as they are.
Every driver calls its run ``run``, and puts the run's number there when an exception has ended it: see
:data:`otelflow._runs.outcome.DRIVERS`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from otelflow._runs.callable_kind import CallableKind
from otelflow._runs.definition import Definition
from otelflow._runs.outcome import DRIVERS
from otelflow._runs.run import Run
from otelflow._runtime.names import target_name

__all__ = ["DRIVER_FOR", "body_with_hooks", "copy_name"]

Body = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def drive_call(run: Any, body: Body, args: Args, kwargs: Kwargs, bound: bool) -> Any:
    """Run a plain function."""
    run._open()
    try:
        run._begin()
        value = body(*args, **(run._inject(args, kwargs, bound) if run._needs_injection else kwargs))
    except BaseException as error:
        reaches_caller = run._close(None, error)
        run = run._number
        if reaches_caller:
            raise
        return None
    run._close(value, None)
    return value


async def drive_coroutine(run: Any, body: Body, args: Args, kwargs: Kwargs, bound: bool) -> Any:
    """Run a coroutine function. Nothing happens before the coroutine is awaited."""
    run._open()
    try:
        run._begin()
        value = await body(*args, **(run._inject(args, kwargs, bound) if run._needs_injection else kwargs))
    except BaseException as error:
        reaches_caller = run._close(None, error, CallableKind.COROUTINE)
        run = run._number
        if reaches_caller:
            raise
        return None
    run._close(value, None)
    return value


def drive_generator(run: Any, body: Body, args: Args, kwargs: Kwargs, bound: bool) -> Generator[Any, Any, Any]:
    """Run a generator function: the run lasts from the first step to the last.

    Not by ``yield from``: it would hide what the generator returns when it is closed (Python 3.13 gives it to the
    caller of ``close()``), and leave the run current for the consumer between two steps.
    """
    run._open()
    try:
        run._begin()
        inner = body(*args, **(run._inject(args, kwargs, bound) if run._needs_injection else kwargs))
        sent, thrown = None, None
        while True:
            try:
                item = inner.send(sent) if thrown is None else inner.throw(thrown)
            except StopIteration as stop:
                value = stop.value
                break
            sent = thrown = None
            run._pause()
            try:
                sent = yield item
            except GeneratorExit:
                run._resume()
                value = inner.close()
                if value is None:
                    raise
                break
            except BaseException as error:
                thrown = error
            run._resume()
    except BaseException as error:
        reaches_caller = run._close(None, error, CallableKind.GENERATOR)
        run = run._number
        if reaches_caller:
            raise
        return None
    run._close(value, None)
    return value


async def drive_async_generator(
    run: Any, body: Body, args: Args, kwargs: Kwargs, bound: bool
) -> AsyncGenerator[Any, Any]:
    """Run an async generator function: the run lasts from the first step to the last."""
    run._open()
    try:
        run._begin()
        inner = body(*args, **(run._inject(args, kwargs, bound) if run._needs_injection else kwargs))
        sent, thrown = None, None
        while True:
            try:
                item = await (inner.asend(sent) if thrown is None else inner.athrow(thrown))
            except StopAsyncIteration:
                break
            sent = thrown = None
            run._pause()
            try:
                sent = yield item
            except GeneratorExit:
                run._resume()
                await inner.aclose()
                raise
            except BaseException as error:
                thrown = error
            run._resume()
    except BaseException as error:
        reaches_caller = run._close(None, error, CallableKind.ASYNC_GENERATOR)
        run = run._number
        if reaches_caller:
            raise
        return
    run._close(None, None)


DRIVER_FOR: dict[CallableKind, Callable[..., Any]] = {
    CallableKind.CALL: drive_call,
    CallableKind.COROUTINE: drive_coroutine,
    CallableKind.GENERATOR: drive_generator,
    CallableKind.ASYNC_GENERATOR: drive_async_generator,
}

DRIVERS.update(driver.__code__ for driver in DRIVER_FOR.values())


def copy_name(call: Callable[..., Any], spec: Definition) -> Callable[..., Any]:
    """``call`` with the names of what it makes set, where that is a coroutine or generator: as the function's own is
    named, in "never awaited" warnings and in what asyncio says of its tasks."""
    if spec.shape is CallableKind.CALL:
        return call
    name, qualname = target_name(spec.target), getattr(spec.target, "__qualname__", spec.name)
    if inspect.iscoroutinefunction(call):  # its coroutines have their names from it
        call.__name__, call.__qualname__ = name, qualname
        return call

    def naming(wrapped: Any, instance: Any, args: Args, kwargs: Kwargs) -> Any:
        made = call(wrapped, instance, args, kwargs)
        made.__name__, made.__qualname__ = name, qualname
        return made

    return naming


# --- hooks: a run whose class has on_start or on_stop runs a body that calls them ----------------------------------


def body_with_hooks(run: Any, target: Body, shape: CallableKind) -> Body:
    """What a driver of ``shape`` has to call: the target, or ``main`` where the class overrides it, with its hooks."""
    body = run.main if run._own_main else target
    return _WITH_HOOKS[shape](run, body) if run._hooked else body


def _call_with_hooks(run: Run, body: Body) -> Body:
    def call(*args: Any, **kwargs: Any) -> Any:
        run.on_start()
        try:
            return body(*args, **kwargs)
        finally:
            run.on_stop()

    return call


async def _hook(hook: Callable[[], Any]) -> None:
    made = hook()
    if inspect.isawaitable(made):
        await made


def _coroutine_with_hooks(run: Run, body: Body) -> Body:
    async def call(*args: Any, **kwargs: Any) -> Any:
        await _hook(run.on_start)
        try:
            return await body(*args, **kwargs)
        finally:
            await _hook(run.on_stop)

    return call


def _generator_with_hooks(run: Run, body: Body) -> Body:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        run.on_start()
        try:
            return (yield from body(*args, **kwargs))
        finally:
            run.on_stop()

    return call


def _async_generator_with_hooks(run: Run, body: Body) -> Body:
    """The hooks stand before the first and after the last step; the steps in between are the generator's own."""

    class Steps:
        def __init__(self, inner: Any) -> None:
            self.inner, self.begun = inner, False

        async def asend(self, value: Any) -> Any:
            if not self.begun:
                await _hook(run.on_start)
                self.begun = True
            return await self._step(self.inner.asend(value))

        async def athrow(self, error: BaseException) -> Any:
            return await self._step(self.inner.athrow(error))

        async def aclose(self) -> None:
            try:
                await self.inner.aclose()
            finally:
                await _hook(run.on_stop)

        async def _step(self, step: Any) -> Any:
            try:
                return await step
            except BaseException:
                await _hook(run.on_stop)
                raise

    return lambda *args, **kwargs: Steps(body(*args, **kwargs))


_WITH_HOOKS: dict[CallableKind, Callable[[Run, Body], Body]] = {
    CallableKind.CALL: _call_with_hooks,
    CallableKind.COROUTINE: _coroutine_with_hooks,
    CallableKind.GENERATOR: _generator_with_hooks,
    CallableKind.ASYNC_GENERATOR: _async_generator_with_hooks,
}
