"""Carry a function and its context to the thread or process that runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from opentelemetry.trace import get_current_span

from otelflow._propagation.carrier import attached, inject_context
from otelflow._propagation.replay import Submitter, replay
from otelflow._propagation.worker import (
    AsyncWorkerJob,
    JobContext,
    JobResult,
    WorkerJob,
    describe_flow,
    pack_tracer_settings,
)
from otelflow._runs.callable_kind import CallableKind, kind_of
from otelflow._runtime.run_ids import next_run_number
from otelflow._spans.tracer import current_source
from otelflow.context import RUN_KEY, attach, detach, get_current
from otelflow.errors import ArgumentError

__all__ = ["BoundFunction", "Job", "bind"]


P = ParamSpec("P")
R = TypeVar("R")


class BoundFunction:
    """A function that runs in the context that was current at its construction. A pickle has it as a carrier."""

    __slots__ = ("__weakref__", "_context", "_function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._context = get_current()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if get_current() is self._context:  # opentelemetry-instrumentation-threading, for example, attached it already
            return self._function(*args, **kwargs)
        token = attach(self._context)
        try:
            return self._function(*args, **kwargs)
        finally:
            detach(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)  # engines name a job by its function's __name__ and similar attributes

    def __copy__(self) -> BoundFunction:
        return self

    def __deepcopy__(self, memo: Any) -> BoundFunction:
        return self

    def __reduce__(self) -> Any:
        return RemoteFunction, (self._function, self._carrier())

    def _carrier(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        inject_context(carrier, self._context)
        return carrier


class RemoteFunction:
    """A :class:`BoundFunction` after unpickling, usually in another process. It runs in the context of its carrier."""

    def __init__(self, function: Callable[..., Any], carrier: dict[str, str]) -> None:
        self._function, self._carrier = function, carrier

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with attached(self._carrier):
            return self._function(*args, **kwargs)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Bind ``function`` to the current context: for a thread, a timer, or ``run_in_executor``.

    Tasks that the function calls belong to the flow that is current at this call. A bound function can be pickled, so
    ``multiprocessing.Process(target=bind(f))`` works with every start method. In the other process, the function runs
    as in a block of :func:`attached`.

    Args:
        function: A function or coroutine function.

    Returns:
        A function with the same parameters and return value. For a coroutine function, a coroutine function.

    Raises:
        otelflow.errors.ArgumentError: ``function`` cannot be called, or is a generator function.
    """
    if not callable(function):
        raise ArgumentError(
            f"bind({function!r}): this cannot be called. Bind a function, and pass its arguments to the bound function."
        )
    kind = kind_of(function)
    if kind in (CallableKind.GENERATOR, CallableKind.ASYNC_GENERATOR):
        raise ArgumentError(
            f"bind({function!r}): a generator runs where it is iterated. Bind the function that iterates it."
        )
    if kind is CallableKind.CALL:
        return BoundFunction(function)
    return cast("Callable[P, R]", _bind_coroutine_function(function))


def _bind_coroutine_function(function: Callable[..., Any]) -> Any:
    context = get_current()

    @wraps(function)
    async def bound(*args: Any, **kwargs: Any) -> Any:
        token = attach(context)
        try:
            return await function(*args, **kwargs)
        finally:
            detach(token)

    return bound


class Job(BoundFunction):
    """A function for an executor that may run it in another process.

    A pickle is a :class:`WorkerJob`, which returns a :class:`JobResult`. A call in this process returns the function's
    value.
    """

    __slots__ = ("_submitter", "ran_here")

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        run: Any = self._context.get(RUN_KEY)
        recorder = None if run is None else run._recorder
        self._submitter = Submitter(
            None if run is None else run._own_flow(),
            recorder,
            current_source() if recorder is None else recorder.source,
            get_current_span(self._context),
            0 if run is None else run._number,
        )
        self.ran_here = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        self.ran_here = True
        return super().__call__(*args, **kwargs)

    def __reduce__(self) -> Any:
        flow, source = self._submitter.flow, self._submitter.source
        description = None if flow is None else describe_flow(flow)
        tracer_settings = None if source is None else pack_tracer_settings(source)
        job_class = AsyncWorkerJob if kind_of(self._function) is CallableKind.COROUTINE else WorkerJob
        return job_class, (self._function, JobContext(self._carrier(), description, tracer_settings))

    def __dask_tokenize__(self) -> Any:
        """Return a unique token. Dask deduplicates tasks with equal tokens, but each job must run and be recorded."""
        return next_run_number()

    def on_result(self, result: JobResult) -> BaseException | None:
        """Replay what the job did in its worker. Return the job's exception, or None."""
        error = result.exception(self._submitter.run_number)
        replay(result.report, self._submitter, result.value if error is None else error)
        return error
