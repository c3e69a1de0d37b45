"""Drive runs through their lifecycle: one driver for each kind of callable.

A driver opens the run, calls the body, and closes the run with the body's value or exception. Exceptions reach the
caller unchanged. Every driver has its run in a local variable ``run``, and replaces it with the run's number when an
exception has ended the run: see :data:`otelflow._runs.outcome.DRIVERS`.
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
    """Run a coroutine function. The run starts when the coroutine is first awaited."""
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

    ``yield from`` is not used, for two reasons. It would hide the value that a closed generator returns (Python 3.13
    returns it from ``close()``). It would also leave the run current for the consumer between two steps.
    """
    run._open()
    try:
        run._begin()
        inner = body(*args, **(run._inject(args, kwargs, bound) if run._needs_injection else kwargs))
        reply, error_to_throw = None, None
        while True:
            try:
                item = inner.send(reply) if error_to_throw is None else inner.throw(error_to_throw)
            except StopIteration as stop:
                value = stop.value
                break
            reply = error_to_throw = None
            run._pause()
            try:
                reply = yield item
            except GeneratorExit:
                run._resume()
                value = inner.close()
                if value is None:
                    raise
                break
            except BaseException as error:
                error_to_throw = error
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
        reply, error_to_throw = None, None
        while True:
            try:
                item = await (inner.asend(reply) if error_to_throw is None else inner.athrow(error_to_throw))
            except StopAsyncIteration:
                break
            reply = error_to_throw = None
            run._pause()
            try:
                reply = yield item
            except GeneratorExit:
                run._resume()
                await inner.aclose()
                raise
            except BaseException as error:
                error_to_throw = error
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
    """Give the coroutines or generators that ``call`` returns the name of the decorated function.

    "never awaited" warnings and asyncio's description of tasks show that name. Plain functions need none.
    """
    if spec.callable_kind is CallableKind.CALL:
        return call
    name, qualname = target_name(spec.target), getattr(spec.target, "__qualname__", spec.name)
    if inspect.iscoroutinefunction(call):  # its coroutines take their names from it
        call.__name__, call.__qualname__ = name, qualname
        return call

    def call_and_name(wrapped: Any, instance: Any, args: Args, kwargs: Kwargs) -> Any:
        steps = call(wrapped, instance, args, kwargs)
        steps.__name__, steps.__qualname__ = name, qualname
        return steps

    return call_and_name


# --- hooks: a run whose class has on_start or on_stop runs a body that calls them ----------------------------------


def body_with_hooks(run: Any, target: Body, callable_kind: CallableKind) -> Body:
    """Return the body for a driver of ``callable_kind``: the target, or the class's own ``main``, with its hooks."""
    body = run.main if run._has_own_main else target
    return _WITH_HOOKS[callable_kind](run, body) if run._has_hooks else body


def _call_with_hooks(run: Run, body: Body) -> Body:
    def call(*args: Any, **kwargs: Any) -> Any:
        run.on_start()
        try:
            return body(*args, **kwargs)
        finally:
            run.on_stop()

    return call


async def _call_hook(hook: Callable[[], Any]) -> None:
    result = hook()
    if inspect.isawaitable(result):
        await result


def _coroutine_with_hooks(run: Run, body: Body) -> Body:
    async def call(*args: Any, **kwargs: Any) -> Any:
        await _call_hook(run.on_start)
        try:
            return await body(*args, **kwargs)
        finally:
            await _call_hook(run.on_stop)

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
    """Call the hooks before the first and after the last step. The steps between are the generator's own."""

    class Steps:
        def __init__(self, inner: Any) -> None:
            self.inner, self.has_started = inner, False

        async def asend(self, value: Any) -> Any:
            if not self.has_started:
                await _call_hook(run.on_start)
                self.has_started = True
            return await self._step(self.inner.asend(value))

        async def athrow(self, error: BaseException) -> Any:
            return await self._step(self.inner.athrow(error))

        async def aclose(self) -> None:
            try:
                await self.inner.aclose()
            finally:
                await _call_hook(run.on_stop)

        async def _step(self, step: Any) -> Any:
            try:
                return await step
            except BaseException:
                await _call_hook(run.on_stop)
                raise

    return lambda *args, **kwargs: Steps(body(*args, **kwargs))


_WITH_HOOKS: dict[CallableKind, Callable[[Run, Body], Body]] = {
    CallableKind.CALL: _call_with_hooks,
    CallableKind.COROUTINE: _coroutine_with_hooks,
    CallableKind.GENERATOR: _generator_with_hooks,
    CallableKind.ASYNC_GENERATOR: _async_generator_with_hooks,
}
