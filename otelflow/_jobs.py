"""Jobs: a function with the context in which it was handed on, whichever thread or process runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from opentelemetry.context import Context

from otelflow import _clock, _stdout
from otelflow._carrier import attached, context_from, inject_context
from otelflow._naming import next_order
from otelflow._packing import Packed, pack_data, unpack
from otelflow._relay import JobReport, Recorder
from otelflow._remote import NoFlow, RemoteFlow
from otelflow._replay import replay
from otelflow._shapes import Shape, shape_of
from otelflow._span_parts import Ids, ids_of
from otelflow._span_parts import context_from as span_context_from
from otelflow._telemetry import Source, current_source
from otelflow._tracebacks import format_error
from otelflow.config import FlowRunConfig
from otelflow.context import RUN_KEY, attach, get_current, give_back
from otelflow.errors import ArgumentError

__all__ = ["Bound", "Job", "Outcome", "bind"]


P = ParamSpec("P")
R = TypeVar("R")


class Bound:
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
            give_back(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)  # __name__ and the like: what engines call a job by

    def __reduce__(self) -> Any:
        return Sent, (self._function, self._carrier())

    def _carrier(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        inject_context(carrier, self._context)
        return carrier


class Sent:
    """A :class:`Bound` in another process."""

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
    shape = shape_of(function)
    if shape in (Shape.GENERATOR, Shape.ASYNC_GENERATOR):
        raise ArgumentError(f"bind({function!r}): a generator's steps run where it is iterated. Bind what iterates it.")
    if shape is Shape.CALL:
        return Bound(function)
    return cast("Callable[P, R]", _bound_coroutine_function(function))


def _bound_coroutine_function(function: Callable[..., Any]) -> Any:
    context = get_current()

    @wraps(function)
    async def bound(*args: Any, **kwargs: Any) -> Any:
        token = attach(context)
        try:
            return await function(*args, **kwargs)
        finally:
            give_back(token)

    return bound


class Errand(NamedTuple):
    """What travels with a job to a worker, beside its function and arguments."""

    carrier: dict[str, str]
    flow: tuple[str, str, FlowRunConfig, str, bool, Ids | None] | None
    """Name, run id, configuration, source, whether it captures output, and span of the flow; None outside any."""
    sampler: Packed | None
    """For spans that begin a trace of their own in the worker; None where no spans are made."""


class Job(Bound):
    """A function on its way to an executor that may run it in another process. There it returns an :class:`Outcome`;
    in this process, the function's own value."""

    __slots__ = ("_flow", "_order", "_relay", "_source")

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        run: Any = self._context.get(RUN_KEY)
        self._flow: Any = None if run is None else run._own_flow()
        self._relay: Any = None if run is None else run._relay
        self._order: int = 0 if run is None else run._order
        self._source: Source | None = current_source() if self._relay is None else self._relay.source

    def __reduce__(self) -> Any:
        flow, source = self._flow, self._source
        told = None
        if flow is not None:
            span = flow._span_context
            config = _in_worker(flow.flow_config)
            where = flow._spec.source
            told = (flow.name, flow.run_id, config, where, flow._capturing, None if span is None else ids_of(span))
        sampler = None if source is None else _packed_sampler(getattr(source.tracer, "sampler", None))
        return WorkerJob, (self._function, Errand(self._carrier(), told, sampler))

    def __dask_tokenize__(self) -> Any:
        """Dask merges jobs of one token: what two of these do is to be seen twice."""
        return next_order()

    def landed(self, outcome: Outcome) -> None:
        """Hand on what the job did in its worker."""
        came_of_it = outcome.raised(self._order) if outcome.error is not None else outcome.value
        replay(outcome.report, self._flow, self._relay, self._source, came_of_it)


_LONGEST_TRACEBACK = 1 << 16
_FIELDS = fields(FlowRunConfig)


def _in_worker(config: Any) -> FlowRunConfig:
    """The settings for a worker's handle: what prints does so in the process where the flow is."""
    if type(config) is FlowRunConfig and not (config.log_to_console or config.print_logs):
        return config
    settings = {field.name: getattr(config, field.name) for field in _FIELDS}
    return FlowRunConfig(**{**settings, "log_to_console": False, "print_logs": False})


@lru_cache(maxsize=8)
def _packed_sampler(sampler: Any) -> Packed:
    return pack_data(sampler)


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker process, as text: the ``__cause__`` of what the future raises."""

    recorded_below: int = 0
    """Number of the run that submitted the job, where the exception is recorded on a span of the job's."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Outcome:
    """What comes back from a worker: a value or an exception with its traceback as text, and the job's report."""

    __slots__ = ("error", "report", "told", "value")

    def __init__(self, value: Any, error: BaseException | None, told: str, report: JobReport) -> None:
        self.value, self.error, self.told, self.report = value, error, told, report

    def raised(self, below: int) -> BaseException | None:
        """The exception, with the worker's traceback as its cause: pickling takes the real one off. ``below`` is the
        number of the run that submitted the job."""
        if self.error is not None:
            cause = self.error.__cause__ = WorkerTraceback(self.told)
            if self.report.error_is_recorded:
                cause.recorded_below = below
        return self.error


class WorkerJob:
    """A :class:`Job` in a worker process: records what it does, instead of exporting and calling listeners there."""

    def __init__(self, function: Callable[..., Any], errand: Errand) -> None:
        self._function, self._errand = function, errand

    def __getattr__(self, name: str) -> Any:
        if name in ("_function", "_errand"):  # not unpickled yet
            raise AttributeError(name)
        return getattr(self._function, name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Outcome:
        recorder = Recorder(None if self._errand.sampler is None else _source(self._errand.sampler))
        run = self._place(recorder)
        value, error, told = None, None, ""
        token = attach(Context({**context_from(self._errand.carrier), RUN_KEY: run}))
        _stdout.start_capture()
        try:
            value = self._function(*args, **kwargs)
        except BaseException as raised:  # SystemExit, too: executors send it to who waits
            error = raised
            told = format_error(raised, _LONGEST_TRACEBACK)
        finally:
            _stdout.stop_capture()
            give_back(token)
            run._ended_ns = _clock.now()
        return Outcome(value, error, told, recorder.finish(value, error))

    def _place(self, recorder: Recorder) -> RemoteFlow | NoFlow:
        if self._errand.flow is None:
            return NoFlow(recorder)
        name, run_id, config, source, captures, span = self._errand.flow
        span_context = None if span is None else span_context_from(span)
        return RemoteFlow(
            name, run_id, config, source=source, relay=recorder, captures=captures, span_context=span_context
        )


_sources: dict[Packed, Source] = {}


def _source(sampler: Packed) -> Source:
    """Where spans of jobs come from in a worker: a provider that nobody exports from, with the submitter's sampler."""
    if sampler not in _sources:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider

        from otelflow._ids import ProcessIdGenerator
        from otelflow._telemetry import SCOPE
        from otelflow._version import __version__

        chosen = unpack(sampler)
        provider = TracerProvider(
            sampler=chosen if hasattr(chosen, "should_sample") else None,
            resource=Resource({}),
            shutdown_on_exit=False,
            id_generator=ProcessIdGenerator(),
        )
        _sources[sampler] = Source(provider.get_tracer(SCOPE, __version__))
    return _sources[sampler]
