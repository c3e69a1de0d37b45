"""Prepare a run first and execute it later: what ``Flow`` and ``Task`` objects have in common.

A coroutine runs to its end here, also from code that is not async.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar

from otelflow._runs.callable_kind import CallableKind, kind_of
from otelflow._runs.definition import Definition
from otelflow._runs.drivers import DRIVER_FOR, body_with_hooks
from otelflow._runs.run_api import RunApi
from otelflow._runtime.fork import FreshLock
from otelflow.errors import ArgumentError, NothingToRun, OtelflowError

__all__ = ["Executable"]

Self = TypeVar("Self", bound="Executable")
_claims = FreshLock()


class Executable(RunApi):
    """A run with its function and arguments, to be executed once or more often."""

    _function: Any = None
    _args: tuple[Any, ...] = ()
    _kwargs: dict[str, Any]
    _bound: bool = False

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        cls._own_main = cls.main is not Executable.main

    def __init__(self, target: Any = None, /, *args: Any, **kwargs: Any) -> None:
        kind = type(self).__name__
        if target is not None and not callable(target):
            raise ArgumentError(f"{kind}({target!r}): a target is a callable. Use {kind}(function, *args, **kwargs).")
        spec = self._new_spec(self.main, kind) if target is None else self._new_spec(target, None)
        self._prepare(spec, target, args, kwargs, bound=False)

    @classmethod
    def _made(cls: type[Self], target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self:
        """An object for a call of a decorated function; a subclass with an ``__init__`` of its own gets it called."""
        return cls.__new__(cls) if cls.__init__ is Executable.__init__ else cls(target, *args, **kwargs)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Hook: the work. Calls the function; override it to do something else, or something around it."""
        return self._function(*args, **kwargs)

    def _new_spec(self, target: Any, name: str | None) -> Definition:
        raise NotImplementedError

    def _prepare(
        self, spec: Definition, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
    ) -> None:
        """Set up with everything that is known before the run."""
        self._spec = spec
        self._is_prepared = True
        self.status = "pending"
        own_name = getattr(type(self), "name", None)  # a subclass may say: name = "nightly"
        if isinstance(own_name, str) and not spec.is_named:
            self._given_name = own_name
        elif isinstance(own_name, str):
            self.name = spec.name
        self._function = target
        self._args, self._kwargs, self._bound = args, kwargs, bound
        self._origin = self._make_origin()

    def _shape(self) -> CallableKind:
        """The shape to run: of an own ``main``, or of the function where that only passes its result on."""
        if not self._own_main:
            return self._spec.shape
        own = kind_of(self.main)
        return self._spec.shape if own is CallableKind.CALL and self._function is not None else own

    def _ready(self) -> CallableKind:
        if self._function is None and not self._own_main:
            raise self._nothing_to_run()
        if self.status == "running":
            raise self._running_already()
        return self._shape()

    def _claim(self) -> None:
        with _claims:
            if self.status == "running":
                raise self._running_already()
            before, self.status = self.status, "running"
        if before != "pending":
            self._start_clean()

    def _running_already(self) -> Exception:
        return OtelflowError(f"{self!r} is running already. Make another object for a run at the same time.")

    def _start_clean(self) -> None:
        """Forget the run before."""
        self.error = self.return_value = self._span_context = None
        self._failure: tuple[str, str, str | None] | None = None
        self.__dict__.pop("_lines", None)
        self._ended_ns = self._events = self._cut = self._redacted = 0
        self.__dict__.pop("_overflow", None)

    def _nothing_to_run(self) -> Exception:
        kind = type(self).__name__
        return NothingToRun(
            f"{kind} has nothing to run: it was made without a function, and {kind}.main is not overridden. "
            f"Use {kind}(function, *args, **kwargs), or override main() in a subclass."
        )

    def _drive(self, shape: CallableKind) -> Any:
        body = body_with_hooks(self, self._function, shape)
        return DRIVER_FOR[shape](self, body, self._args, self._kwargs, self._bound)

    def execute(self: Self) -> Self:
        """Run the function to its end and return this object.

        An async function runs on an event loop of its own, in the caller's context; inside a running loop that blocks
        the loop, with a RuntimeWarning: there, ``await`` the object instead. A generator is drained.

        Raises what the function raised, and :class:`otelflow.errors.NothingToRun` where there is none.
        """
        shape = self._ready()
        if shape.is_async:
            if loop_is_running():
                warnings.warn(
                    f"{self.name!r} is async: execute() blocks the running event loop until it has ended. "
                    f"Use `await {self.name}(...)` here.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            run_to_end(self.execute_async)
        else:
            self._to_end(shape)
        return self

    async def execute_async(self: Self) -> Self:
        """Run the function to its end on the running event loop and return this object. ``await`` does the same."""
        shape = self._ready()
        if shape is CallableKind.COROUTINE:
            await self._drive(shape)
        elif shape is CallableKind.ASYNC_GENERATOR:
            async for _ in self._drive(shape):
                pass
        else:
            self._to_end(shape)
        return self

    def _to_end(self, shape: CallableKind) -> None:
        made = self._drive(shape)
        if shape is CallableKind.GENERATOR:
            for _ in made:
                pass

    def __await__(self: Self) -> Generator[Any, Any, Self]:
        return self.execute_async().__await__()

    def __iter__(self) -> Iterator[Any]:
        return self._stepped(CallableKind.GENERATOR)  # type: ignore[no-any-return]

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._stepped(CallableKind.ASYNC_GENERATOR)  # type: ignore[no-any-return]

    def _stepped(self, wanted: CallableKind) -> Any:
        shape = self._ready()
        if shape is not wanted:
            way_out = "`await`" if shape.is_async else "execute()"
            raise ArgumentError(f"{self.name!r} is a {shape.value}, not a {wanted.value}. Use {way_out} instead.")
        return self._drive(shape)


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
