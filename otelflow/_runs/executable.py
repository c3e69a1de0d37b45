"""Prepare a run and execute it later: the common base of ``Flow`` and ``Task``.

``execute()`` also runs a coroutine to its end, from code that is not async.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from types import FunctionType
from typing import Any, TypeVar

from otelflow._runs.callable_kind import CallableKind, kind_of
from otelflow._runs.definition import Definition
from otelflow._runs.drivers import DRIVER_FOR, body_with_hooks
from otelflow._runs.run_api import RunApi
from otelflow._runtime.fork import FreshLock
from otelflow.errors import ArgumentError, NothingToRun, OtelflowError

__all__ = ["Executable", "name_methods_after"]

Self = TypeVar("Self", bound="Executable")
_claim_lock = FreshLock()


class Executable(RunApi):
    """A run with its function and arguments, which can be executed any number of times."""

    _function: Any = None
    _args: tuple[Any, ...] = ()
    _kwargs: dict[str, Any]
    _bound: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._has_own_main = cls.main is not Executable.main

    def __init__(self, target: Any = None, /, *args: Any, **kwargs: Any) -> None:
        """Prepare a run of ``target``.

        Args:
            target: the function to run; None if a subclass overrides ``main``.
            *args: positional arguments for the function.
            **kwargs: keyword arguments for the function.

        Raises:
            ArgumentError: ``target`` is not callable.
        """
        kind = type(self).__name__
        if target is not None and not callable(target):
            raise ArgumentError(
                f"{kind}({target!r}): the target must be callable. Use {kind}(function, *args, **kwargs)."
            )
        spec = self._new_spec(self.main, kind) if target is None else self._new_spec(target, None)
        self._prepare(spec, target, args, kwargs, bound=False)

    @classmethod
    def _create(cls: type[Self], target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Self:
        """Create the object for a call of a decorated function. A subclass's own ``__init__`` is called."""
        return cls.__new__(cls) if cls.__init__ is Executable.__init__ else cls(target, *args, **kwargs)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Hook: run the function. Override it to do something else, or to add steps before and after.

        Args:
            *args: the positional arguments of the run.
            **kwargs: the keyword arguments of the run, injected ones included.

        Returns:
            The function's return value.
        """
        return self._function(*args, **kwargs)

    def _new_spec(self, target: Any, name: str | None) -> Definition:
        raise NotImplementedError

    def _prepare(
        self, spec: Definition, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
    ) -> None:
        """Store all that is known before the run starts."""
        self._spec = spec
        self._is_prepared = True
        self.status = "pending"
        own_name = getattr(type(self), "name", None)  # a subclass may set it: name = "nightly"
        if isinstance(own_name, str) and not spec.is_named:
            self._given_name = own_name
        elif isinstance(own_name, str):
            self.name = spec.name
        self._function = target
        self._args, self._kwargs, self._bound = args, kwargs, bound
        self._origin = self._make_origin()

    def _callable_kind(self) -> CallableKind:
        """Return the kind of callable to run: that of an overridden ``main``. If ``main`` is a plain function that
        wraps the target, the target's kind counts."""
        if not self._has_own_main:
            return self._spec.callable_kind
        own = kind_of(self.main)
        return self._spec.callable_kind if own is CallableKind.CALL and self._function is not None else own

    def _check_ready(self) -> CallableKind:
        if self._function is None and not self._has_own_main:
            raise self._nothing_to_run_error()
        if self.status == "running":
            raise self._already_running_error()
        return self._callable_kind()

    def _claim(self) -> None:
        with _claim_lock:
            if self.status == "running":
                raise self._already_running_error()
            previous_status, self.status = self.status, "running"
        if previous_status != "pending":
            self._reset()

    def _already_running_error(self) -> Exception:
        return OtelflowError(f"{self!r} is running already. Create another object to run it a second time at once.")

    def _reset(self) -> None:
        """Clear the state of the previous run."""
        self.error = self.return_value = self._span_context = None
        self._failure: tuple[str, str, str | None] | None = None
        self.__dict__.pop("_lines", None)
        self._ended_ns = self._events = self._truncated = self._redacted = 0
        self.__dict__.pop("_overflow", None)

    def _nothing_to_run_error(self) -> Exception:
        kind = type(self).__name__
        return NothingToRun(
            f"{kind} has nothing to run: it was created without a function, and {kind}.main is not overridden. "
            f"Use {kind}(function, *args, **kwargs), or override main() in a subclass."
        )

    def _drive(self, callable_kind: CallableKind) -> Any:
        body = body_with_hooks(self, self._function, callable_kind)
        return DRIVER_FOR[callable_kind](self, body, self._args, self._kwargs, self._bound)

    def execute(self: Self) -> Self:
        """Run the function to its end.

        An async function runs on a new event loop, in the caller's context. Inside a running event loop this blocks
        that loop and issues a RuntimeWarning: ``await`` the object instead. A generator is drained.

        Returns:
            This object; ``return_value`` and ``error`` hold the outcome.

        Raises:
            NothingToRun: the object has no function, and its class does not override ``main``.
            OtelflowError: this object is running already.
            BaseException: the exception that the function raised, unless the flow or task tolerates it.
        """
        callable_kind = self._check_ready()
        if callable_kind.is_async:
            if loop_is_running():
                warnings.warn(
                    f"{self.name!r} is async: execute() blocks the running event loop until the run has ended. "
                    f"Use `await {self.name}(...)` here.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            run_to_end(self.execute_async)
        else:
            self._run_to_end(callable_kind)
        return self

    async def execute_async(self: Self) -> Self:
        """Run the function to its end on the running event loop. ``await`` on this object does the same.

        Returns:
            This object; ``return_value`` and ``error`` hold the outcome.

        Raises:
            BaseException: the same as :meth:`execute`.
        """
        callable_kind = self._check_ready()
        if callable_kind is CallableKind.COROUTINE:
            await self._drive(callable_kind)
        elif callable_kind is CallableKind.ASYNC_GENERATOR:
            async for _ in self._drive(callable_kind):
                pass
        else:
            self._run_to_end(callable_kind)
        return self

    def _run_to_end(self, callable_kind: CallableKind) -> None:
        steps = self._drive(callable_kind)
        if callable_kind is CallableKind.GENERATOR:
            for _ in steps:
                pass

    def __await__(self: Self) -> Generator[Any, Any, Self]:
        return self.execute_async().__await__()

    def __iter__(self) -> Iterator[Any]:
        return self._iterate(CallableKind.GENERATOR)  # type: ignore[no-any-return]

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate(CallableKind.ASYNC_GENERATOR)  # type: ignore[no-any-return]

    def _iterate(self, expected: CallableKind) -> Any:
        callable_kind = self._check_ready()
        if callable_kind is not expected:
            alternative = "`await`" if callable_kind.is_async else "execute()"
            raise ArgumentError(
                f"{self.name!r} is a {callable_kind.value}, not a {expected.value}. Use {alternative} instead."
            )
        return self._drive(callable_kind)


def name_methods_after(cls: type[Executable]) -> None:
    """Give ``cls`` copies of the public methods whose ``__qualname__`` names ``cls``, a class that users know.

    Python's own errors show it: ``Flow.log_info() missing 1 required positional argument``, not ``RunApi.log_info()``.
    ``main`` is not copied: ``_has_own_main`` depends on its identity.
    """
    for name in {**vars(RunApi), **vars(Executable)}:
        method = getattr(cls, name)  # a class in between may override it
        if isinstance(method, FunctionType) and not name.startswith("_") and name not in ("main", *vars(cls)):
            copied = FunctionType(method.__code__, method.__globals__, name, method.__defaults__, method.__closure__)
            copied.__kwdefaults__, copied.__annotations__ = method.__kwdefaults__, method.__annotations__
            copied.__qualname__ = f"{cls.__qualname__}.{name}"
            setattr(cls, name, copied)


def loop_is_running() -> bool:
    """Return whether this thread is inside a running asyncio event loop."""
    return asyncio._get_running_loop() is not None


def run_to_end(make_coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run the coroutine from ``make_coroutine`` on a new event loop, in the caller's context, and return its value.

    Inside a running loop, the new loop runs in a thread of its own, and the caller blocks. Unlike ``asyncio.run``, this
    does not change the thread's event loop: a loop that the user set stays set.
    """
    if not loop_is_running():
        return _on_new_loop(make_coroutine)
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(_on_new_loop(make_coroutine))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="otelflow-execute")
    thread.start()
    thread.join()
    if failure:
        raise failure.pop()
    return outcome[0]


def _on_new_loop(make_coroutine: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(make_coroutine())
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks that the flow left running and wait for them, as ``asyncio.run`` does at its end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
