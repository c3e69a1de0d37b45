"""Jobs: a function with the context in which it was handed on, whichever thread or process runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from opentelemetry.trace import get_current_span

from otelflow._propagation.carrier import attached, inject_context
from otelflow._propagation.replay import Submitter, replay
from otelflow._propagation.worker import AsyncWorkerJob, JobContext, JobResult, WorkerJob, describe, spans_like
from otelflow._runs.callable_kind import CallableKind, kind_of
from otelflow._runtime.run_ids import next_run_number
from otelflow._spans.tracer import current_source
from otelflow.context import RUN_KEY, attach, detach, get_current
from otelflow.errors import ArgumentError

__all__ = ["BoundFunction", "Job", "bind"]


P = ParamSpec("P")
R = TypeVar("R")


class BoundFunction:
    """A function that runs in the context in which this was made. Pickled, it takes the context along as a carrier."""

    __slots__ = ("__weakref__", "_context", "_function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._context = get_current()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if get_current() is self._context:  # something else carried it here, opentelemetry-instrumentation-threading
            return self._function(*args, **kwargs)
        token = attach(self._context)
        try:
            return self._function(*args, **kwargs)
        finally:
            detach(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)  # __name__ and the like: what engines call a job by

    def __copy__(self) -> BoundFunction:
        return self

    def __deepcopy__(self, memo: Any) -> BoundFunction:
        return self

    def __reduce__(self) -> Any:
        return Sent, (self._function, self._carrier())

    def _carrier(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        inject_context(carrier, self._context)
        return carrier


class Sent:
    """A :class:`BoundFunction` in another process."""

    def __init__(self, function: Callable[..., Any], carrier: dict[str, str]) -> None:
        self._function, self._carrier = function, carrier

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with attached(self._carrier):
            return self._function(*args, **kwargs)


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, to be run in the context that is current now: for a thread, a timer, ``run_in_executor``.

    Its tasks belong to the flow of the place where this is called. Works for functions and coroutine functions. A bound
    function can be pickled, so that ``multiprocessing.Process(target=bind(f))`` works with every start method; there,
    :func:`attached` says what holds.

    Raises :class:`otelflow.errors.ArgumentError` for what cannot be called, and for generator functions.
    """
    if not callable(function):
        raise ArgumentError(f"bind({function!r}): use a function, and pass its arguments where it is run.")
    shape = kind_of(function)
    if shape in (CallableKind.GENERATOR, CallableKind.ASYNC_GENERATOR):
        raise ArgumentError(f"bind({function!r}): a generator's steps run where it is iterated. Bind what iterates it.")
    if shape is CallableKind.CALL:
        return BoundFunction(function)
    return cast("Callable[P, R]", _bound_coroutine_function(function))


def _bound_coroutine_function(function: Callable[..., Any]) -> Any:
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
    """A function on its way to an executor that may run it in another process. There it gives an :class:`Outcome`; in
    this process, the function's own value."""

    __slots__ = ("_from", "ran_here")

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        run: Any = self._context.get(RUN_KEY)
        relay = None if run is None else run._relay
        self._from = Submitter(
            None if run is None else run._own_flow(),
            relay,
            current_source() if relay is None else relay.source,
            get_current_span(self._context),
            0 if run is None else run._number,
        )
        self.ran_here = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        self.ran_here = True
        return super().__call__(*args, **kwargs)

    def __reduce__(self) -> Any:
        flow, source = self._from.flow, self._from.source
        told = None if flow is None else describe(flow)
        spans = None if source is None else spans_like(source)
        kind = AsyncWorkerJob if kind_of(self._function) is CallableKind.COROUTINE else WorkerJob
        return kind, (self._function, JobContext(self._carrier(), told, spans))

    def __dask_tokenize__(self) -> Any:
        """Dask merges jobs of one token: what two of these do is to be seen twice."""
        return next_run_number()

    def on_result(self, outcome: JobResult) -> BaseException | None:
        """Hand on what the job did in its worker; returns its exception, or None."""
        error = outcome.raised(self._from.order)
        replay(outcome.report, self._from, outcome.value if error is None else error)
        return error
