"""Run a job in a worker process: record its runs, events and spans there, without exporters and listeners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple

from opentelemetry.context import Context

from otelflow._propagation.carrier import context_from
from otelflow._propagation.pickling import Ids, Packed, ids_of, pack_data, pack_error, span_context_from, unpack
from otelflow._propagation.recorder import JobReport, Recorder
from otelflow._propagation.remote_flow import NoFlow, RemoteFlow
from otelflow._runtime import clock, stdout_capture
from otelflow._runtime.drop_counts import WORKER_LOST
from otelflow._spans.tracer import SCOPE, TracerSource
from otelflow._values.traceback import format_error
from otelflow._version import __version__
from otelflow.config import FlowRunConfig
from otelflow.context import RUN_KEY, attach, detach

__all__ = [
    "AsyncWorkerJob",
    "JobContext",
    "JobFailed",
    "JobResult",
    "WorkerJob",
    "describe_flow",
    "pack_tracer_settings",
]

_MAX_TRACEBACK = 1 << 16
_FIELDS = fields(FlowRunConfig)


# --- sent to the worker ---------------------------------------------------------------------------------------------


class FlowDescription(NamedTuple):
    """The facts that a worker needs about the flow that submits a job."""

    name: str
    run_id: str
    config: FlowRunConfig
    source: str
    captures: bool
    prints_end_messages: bool
    span: Ids | None


class JobContext(NamedTuple):
    """The data that is sent to a worker with a job, in addition to its function and arguments."""

    carrier: dict[str, str]
    flow: FlowDescription | None
    tracer_settings: tuple[Packed, ...] | None
    """How the worker makes spans (see :func:`pack_tracer_settings`); None if it makes none."""


def describe_flow(flow: Any) -> FlowDescription:
    """Return the facts about a flow for its handle in a worker. Printing is off there: the flow's process prints."""
    config, span = flow.flow_config, flow._span_context
    if type(config) is not FlowRunConfig or config.log_to_console or config.print_logs:
        settings = {field.name: getattr(config, field.name) for field in _FIELDS}
        config = FlowRunConfig(**{**settings, "log_to_console": False, "print_logs": False})
    captures, ids = flow._capturing, None if span is None else ids_of(span)
    return FlowDescription(flow.name, flow.run_id, config, flow._spec.source, captures, flow._prints_end_messages, ids)


@lru_cache(maxsize=8)
def pack_tracer_settings(source: TracerSource) -> tuple[Packed, ...]:
    """Pickle the sampler, span limits and id generator class of ``source``, so that a worker makes the same spans."""
    tracer = source.tracer
    names = ("sampler", "_span_limits", "id_generator")
    sampler, limits, id_generator = (getattr(tracer, name, None) for name in names)
    return pack_data(sampler), pack_data(limits), pack_data(type(id_generator))


@lru_cache(maxsize=8)
def _job_tracer_source(tracer_settings: tuple[Packed, ...]) -> TracerSource:
    """Return the source of spans for jobs in a worker. Its provider has no exporter."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    from otelflow._spans.id_generator import ProcessIdGenerator

    sampler, limits, ids_class = (unpack(packed) for packed in tracer_settings)
    has_ids = isinstance(ids_class, type) and issubclass(ids_class, IdGenerator)
    provider = TracerProvider(
        sampler=sampler if hasattr(sampler, "should_sample") else None,
        resource=Resource({}),
        shutdown_on_exit=False,
        id_generator=_new_id_generator(ids_class) if has_ids else ProcessIdGenerator(),
        span_limits=limits if isinstance(limits, SpanLimits) else None,
    )
    provider._disabled = False  # the submitting process decides whether spans are made, not OTEL_SDK_DISABLED here
    return TracerSource(provider.get_tracer(SCOPE, __version__))


def _new_id_generator(ids_class: Any) -> Any:
    """Return a new id generator for this process. A pickled generator would give each worker the same ids."""
    try:
        return ids_class()
    except Exception:
        from otelflow._spans.id_generator import ProcessIdGenerator

        return ProcessIdGenerator()


# --- sent back ------------------------------------------------------------------------------------------------------


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker process, as text: the ``__cause__`` of the future's exception."""

    recorded_below: int = 0
    """Number of the run that submitted the job, if a span of the job has the exception; else 0."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class JobResult:
    """The result of a job in a worker: its value, or its exception with the traceback as text, and its report."""

    __slots__ = ("error", "report", "traceback", "value")

    def __init__(self, value: Any, error: Packed | None, traceback: str, report: JobReport) -> None:
        self.value, self.error, self.traceback, self.report = value, error, traceback, report

    def exception(self, run_number: int) -> BaseException | None:
        """Return the job's exception, or None.

        Its cause has the worker's traceback, because pickling drops the real one. ``run_number`` is the number of the
        run that submitted the job.
        """
        if self.error is None:
            return None
        error: BaseException = unpack(self.error)
        cause = error.__cause__ = WorkerTraceback(self.traceback)
        if self.report.error_is_recorded:
            cause.recorded_below = run_number
        return error


class JobFailed(Exception):
    """Carries the result of a job that raised, so that its executor sees a failure and Dask can retry it.

    The future of the job raises the job's own exception.
    """

    def __init__(self, result: JobResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return f"\n{self.result.traceback}"


# --- in the worker --------------------------------------------------------------------------------------------------


class WorkerJob:
    """The function of a job in a worker process, with the job's context."""

    def __init__(self, function: Callable[..., Any], job_context: JobContext) -> None:
        self._function, self._job_context = function, job_context

    def __getattr__(self, name: str) -> Any:
        if name in ("_function", "_job_context"):  # during unpickling, these are not set yet
            raise AttributeError(name)
        return getattr(self._function, name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with self._record() as execution:
            execution.value = self._function(*args, **kwargs)
        return execution.result()

    @contextmanager
    def _record(self) -> Iterator[_JobExecution]:
        """Record the job's runs within this block, below the submitting span and in the submitting flow."""
        settings = self._job_context.tracer_settings
        execution = _JobExecution(Recorder(None if settings is None else _job_tracer_source(settings)))
        run = self._current_run(execution.recorder)
        token = attach(Context({**context_from(self._job_context.carrier), RUN_KEY: run}))
        stdout_capture.start_capture()
        try:
            yield execution
        except BaseException as error:  # SystemExit, too: the future of the job raises it
            execution.error = error
        finally:
            run._flush_lines()
            stdout_capture.stop_capture()
            detach(token)
            run._ended_ns = clock.now()

    def _current_run(self, recorder: Recorder) -> RemoteFlow | NoFlow:
        flow = self._job_context.flow
        if flow is None:
            return NoFlow(recorder)
        return RemoteFlow(
            flow.name,
            flow.run_id,
            flow.config,
            source=flow.source,
            recorder=recorder,
            captures=flow.captures,
            prints_end_messages=flow.prints_end_messages,
            span_context=None if flow.span is None else span_context_from(flow.span),
        )


class AsyncWorkerJob(WorkerJob):
    """A :class:`WorkerJob` whose function is a coroutine function, for engines that await jobs."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with self._record() as execution:
            execution.value = await self._function(*args, **kwargs)
        return execution.result()


class _JobExecution:
    """One execution of a job: its recorder, and its value or exception."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.value: Any = None
        self.error: BaseException | None = None

    def result(self) -> JobResult:
        """Return the result for the executor. Raise :class:`JobFailed` if the job raised."""
        error = self.error
        if type(error).__module__.partition(".")[0] in ("distributed", "dask"):
            raise error  # type: ignore[misc]  # for the engine, such as Reschedule
        report = self._report()
        if error is None:
            return JobResult(self.value, None, "", report)
        packed = pack_error(error, is_job_error=True)
        raise JobFailed(JobResult(None, packed, format_error(error, _MAX_TRACEBACK), report)) from None

    def _report(self) -> JobReport:
        try:
            return self.recorder.finish(self.value, self.error)
        except Exception:  # a defect of otelflow: the caller must still get the job's result
            return JobReport([], [], {WORKER_LOST: 1}, False)
