"""A job in a worker process: it records what it does there, instead of exporting and calling listeners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple

from opentelemetry.context import Context

from otelflow._propagation.carrier import context_from
from otelflow._propagation.pickling import Ids, Packed, ids_of, pack_data, pack_error, unpack
from otelflow._propagation.pickling import context_from as span_context_from
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
    "describe",
    "spans_like",
]

_LONGEST_TRACEBACK = 1 << 16
_FIELDS = fields(FlowRunConfig)


# --- what goes there ------------------------------------------------------------------------------------------------


class FlowDescription(NamedTuple):
    """What a worker has to know of the flow that submits a job."""

    name: str
    run_id: str
    config: FlowRunConfig
    source: str
    captures: bool
    prints_end_messages: bool
    span: Ids | None


class JobContext(NamedTuple):
    """What travels with a job to a worker, beside its function and arguments."""

    carrier: dict[str, str]
    flow: FlowDescription | None
    spans: tuple[Packed, ...] | None
    """How spans are made there (see :func:`spans_like`); None where none are."""


def describe(flow: Any) -> FlowDescription:
    """The facts of a flow for its handle in a worker. What prints does so in the process where the flow is."""
    config, span = flow.flow_config, flow._span_context
    if type(config) is not FlowRunConfig or config.log_to_console or config.print_logs:
        settings = {field.name: getattr(config, field.name) for field in _FIELDS}
        config = FlowRunConfig(**{**settings, "log_to_console": False, "print_logs": False})
    captures, ids = flow._capturing, None if span is None else ids_of(span)
    return FlowDescription(flow.name, flow.run_id, config, flow._spec.source, captures, flow._prints_end_messages, ids)


@lru_cache(maxsize=8)
def spans_like(source: TracerSource) -> tuple[Packed, ...]:
    """Sampler, limits and kind of ids of ``source``, pickled: spans in a worker are made as they are here."""
    tracer = source.tracer
    sampler, limits, ids = (getattr(tracer, name, None) for name in ("sampler", "_span_limits", "id_generator"))
    return pack_data(sampler), pack_data(limits), pack_data(type(ids))


@lru_cache(maxsize=8)
def _source(spans: tuple[Packed, ...]) -> TracerSource:
    """Where spans of jobs come from in a worker: a provider that nobody exports from."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    from otelflow._spans.id_generator import ProcessIdGenerator

    sampler, limits, ids = (unpack(packed) for packed in spans)
    provider = TracerProvider(
        sampler=sampler if hasattr(sampler, "should_sample") else None,
        resource=Resource({}),
        shutdown_on_exit=False,
        id_generator=_made(ids) if isinstance(ids, type) and issubclass(ids, IdGenerator) else ProcessIdGenerator(),
        span_limits=limits if isinstance(limits, SpanLimits) else None,
    )
    provider._disabled = False  # whether spans are made was decided where the job comes from
    return TracerSource(provider.get_tracer(SCOPE, __version__))


def _made(kind: Any) -> Any:
    """An id generator of this process's own: one that was pickled would give each worker the same ids."""
    try:
        return kind()
    except Exception:
        from otelflow._spans.id_generator import ProcessIdGenerator

        return ProcessIdGenerator()


# --- what comes back ------------------------------------------------------------------------------------------------


class WorkerTraceback(Exception):
    """The traceback of an exception in a worker process, as text: the ``__cause__`` of what the future raises."""

    recorded_below: int = 0
    """Number of the run that submitted the job, where the exception is recorded on a span of the job's."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class JobResult:
    """What comes back from a worker: a value, or an exception with its traceback as text, and the job's report."""

    __slots__ = ("error", "report", "told", "value")

    def __init__(self, value: Any, error: Packed | None, told: str, report: JobReport) -> None:
        self.value, self.error, self.told, self.report = value, error, told, report

    def raised(self, below: int) -> BaseException | None:
        """The exception, with the worker's traceback as its cause: pickling takes the real one off. ``below`` is the
        number of the run that submitted the job."""
        if self.error is None:
            return None
        error: BaseException = unpack(self.error)
        cause = error.__cause__ = WorkerTraceback(self.told)
        if self.report.error_is_recorded:
            cause.recorded_below = below
        return error


class JobFailed(Exception):
    """Carries the outcome of a job that raised, so that its executor sees it fail: Dask tries again where it was told
    to. Who waits for the job gets its own exception."""

    def __init__(self, outcome: JobResult) -> None:
        super().__init__(outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return f"\n{self.outcome.told}"


# --- there ----------------------------------------------------------------------------------------------------------


class WorkerJob:
    """A function in a worker process, with the errand that it is on."""

    def __init__(self, function: Callable[..., Any], errand: JobContext) -> None:
        self._function, self._errand = function, errand

    def __getattr__(self, name: str) -> Any:
        if name in ("_function", "_errand"):  # not unpickled yet
            raise AttributeError(name)
        return getattr(self._function, name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with self._recorded() as made:
            made.value = self._function(*args, **kwargs)
        return made.outcome()

    @contextmanager
    def _recorded(self) -> Iterator[_Made]:
        """Within this block, the job's runs are recorded, below the span and in the flow that it was submitted in."""
        made = _Made(Recorder(None if self._errand.spans is None else _source(self._errand.spans)))
        run = self._place(made.recorder)
        token = attach(Context({**context_from(self._errand.carrier), RUN_KEY: run}))
        stdout_capture.start_capture()
        try:
            yield made
        except BaseException as raised:  # SystemExit, too: executors send it to who waits
            made.error = raised
        finally:
            run._flush_lines()
            stdout_capture.stop_capture()
            detach(token)
            run._ended_ns = clock.now()

    def _place(self, recorder: Recorder) -> RemoteFlow | NoFlow:
        facts = self._errand.flow
        if facts is None:
            return NoFlow(recorder)
        return RemoteFlow(
            facts.name,
            facts.run_id,
            facts.config,
            source=facts.source,
            relay=recorder,
            captures=facts.captures,
            prints_end_messages=facts.prints_end_messages,
            span_context=None if facts.span is None else span_context_from(facts.span),
        )


class AsyncWorkerJob(WorkerJob):
    """The same of a coroutine function, for engines that await those."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with self._recorded() as made:
            made.value = await self._function(*args, **kwargs)
        return made.outcome()


class _Made:
    """What came of a job."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.value: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> JobResult:
        """To be returned to the executor. Raises for a job that failed."""
        error = self.error
        if type(error).__module__.partition(".")[0] in ("distributed", "dask"):
            raise error  # type: ignore[misc]  # a word to the engine: Reschedule
        report = self._report()
        if error is None:
            return JobResult(self.value, None, "", report)
        packed = pack_error(error, jobs_own=True)
        raise JobFailed(JobResult(None, packed, format_error(error, _LONGEST_TRACEBACK), report)) from None

    def _report(self) -> JobReport:
        try:
            return self.recorder.finish(self.value, self.error)
        except Exception:  # of ours: the job's result must reach who waits for it
            return JobReport([], [], {WORKER_LOST: 1}, False)
