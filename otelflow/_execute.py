"""Runs that are prepared first and executed later: what ``Flow`` and ``Task`` objects have in common."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, TypeVar

from otelflow._drive import DRIVER_FOR, body_of
from otelflow._loops import loop_is_running, run_to_end
from otelflow._run import Run
from otelflow._shapes import Shape, shape_of
from otelflow._spec import Spec
from otelflow._voice import Voice
from otelflow.errors import ArgumentError, NothingToRun, OtelflowError

__all__ = ["Executable"]

Self = TypeVar("Self", bound="Executable")


class Executable(Voice):
    """A run with its function and arguments, to be executed once or more often."""

    __slots__ = ("_args", "_bound", "_function", "_kwargs")

    _function: Any
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _bound: bool

    def __init__(self, target: Any = None, /, *args: Any, **kwargs: Any) -> None:
        if target is not None and not callable(target):
            kind = type(self).__name__
            raise ArgumentError(f"{kind}({target!r}): a target is a callable. Use {kind}(function, *args, **kwargs).")
        spec = self._new_spec(target if target is not None else self.main, type(self).__name__ if target is None else None)
        self._prepare(spec, target, args, kwargs, bound=False)

    def _new_spec(self, target: Any, name: str | None) -> Spec:
        raise NotImplementedError

    def _prepare(self, spec: Spec, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> None:
        """Set up with everything that is known before the run."""
        self._spec = spec
        self._function = target
        self._args, self._kwargs, self._bound = args, kwargs, bound
        self._reset()

    def _reset(self) -> None:
        self.status = "pending"
        self.error = self.return_value = self._span = self._span_context = self._lines = None
        self._order = self._started_ns = self._ended_ns = self._events = self._cut = 0
        self._origin = self._make_origin()

    @property
    def _target(self) -> Any:
        return self._function

    def _shape(self) -> Shape:
        """The shape to run: of an own ``main``, or of the target where that only passes its result on."""
        if not self._own_main:
            return self._spec.shape
        own = shape_of(self.main)
        return self._spec.shape if own is Shape.CALL and self._function is not None else own

    def _ready(self) -> Shape:
        if self._function is None and not self._own_main:
            raise self._nothing_to_run()
        if self.status == "running":
            raise OtelflowError(f"{self!r} is running already. Make another object for a run at the same time.")
        return self._shape()

    def _nothing_to_run(self) -> Exception:
        kind = type(self).__name__
        return NothingToRun(
            f"{kind} has nothing to run: it was made without a function, and {kind}.main is not overridden. "
            f"Use {kind}(function, *args, **kwargs), or override main() in a subclass."
        )

    def _drive(self, shape: Shape) -> Any:
        body = body_of(self, self._function, shape)
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
        elif shape is Shape.GENERATOR:
            for _ in self._drive(shape):
                pass
        else:
            self._drive(shape)
        return self

    async def execute_async(self: Self) -> Self:
        """Run the function to its end on the running event loop and return this object. ``await`` does the same."""
        shape = self._ready()
        if shape is Shape.COROUTINE:
            await self._drive(shape)
        elif shape is Shape.ASYNC_GENERATOR:
            async for _ in self._drive(shape):
                pass
        elif shape is Shape.GENERATOR:
            for _ in self._drive(shape):
                pass
        else:
            self._drive(shape)
        return self

    def __await__(self: Self) -> Generator[Any, Any, Self]:
        return self.execute_async().__await__()

    def __iter__(self) -> Iterator[Any]:
        if self._ready() is not Shape.GENERATOR:
            raise TypeError(f"{self.name!r} is a {self._shape().value}: only generators can be iterated. Use execute().")
        return self._drive(Shape.GENERATOR)  # type: ignore[no-any-return]

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._ready() is not Shape.ASYNC_GENERATOR:
            raise TypeError(f"{self.name!r} is a {self._shape().value}: only async generators can. Use `await`.")
        return self._drive(Shape.ASYNC_GENERATOR)  # type: ignore[no-any-return]

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; so far, while it runs; None before it has started."""
        if not self._started_ns:
            return None
        from time import time_ns

        return max(0, (self._ended_ns or time_ns()) - self._started_ns) / 1e9

    @property
    def trace_id(self) -> str | None:
        """32 hex digits; None where there is no span."""
        return None if self._span_context is None else format(self._span_context.trace_id, "032x")

    @property
    def span_id(self) -> str | None:
        """16 hex digits; None where there is no span."""
        return None if self._span_context is None else format(self._span_context.span_id, "016x")


def light(cls: type[Run], spec: Spec) -> Any:
    """An object of ``cls`` for one call, without target and arguments: the driver has those, and lets them go."""
    run = cls.__new__(cls)
    run._spec = spec
    return run
