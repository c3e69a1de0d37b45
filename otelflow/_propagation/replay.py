"""Replay a worker's recorded events and spans in the submitting process, through the normal emit path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span

from otelflow._events import emit, exception, outputs, start_stop
from otelflow._events.message import emit_message as emit_message
from otelflow._propagation.pickling import replay_span, span_context_from, unpack
from otelflow._propagation.recorder import SUBMITTING_FLOW, EventEntry, JobReport, LinkEntry, StartEntry, StopEntry
from otelflow._propagation.remote_flow import NoFlow
from otelflow._runs.definition import Definition
from otelflow._runs.flow_and_task import Flow, Task
from otelflow._runtime.drop_counts import NO_SDK_PROVIDER, counts
from otelflow._runtime.log_once import log_once
from otelflow._spans.tracer import TracerSource
from otelflow.config import FlowRunConfig
from otelflow.context import RUN_KEY, SPAN_KEY, attach, detach, get_current

__all__ = ["Submitter", "replay"]


def in_a_worker() -> None:
    """Placeholder for the function of a run in a worker."""


_TASK = Definition("task", in_a_worker, flow_class=Flow, task_class=Task)
_FLOW = Definition("flow", in_a_worker, flow_class=Flow, task_class=Task)
_REPLAY_CONFIG = FlowRunConfig(log_level=1, capture_output=False)
"""Configuration of a flow that ran in a worker. It drops nothing: the flow's own one applied in the worker."""


class Submitter(NamedTuple):
    """The place where a job was submitted. The job's events and spans are replayed there."""

    flow: Flow[Any] | None
    recorder: Any
    """The recorder of this process, if it is a worker itself."""
    source: TracerSource | None
    """The source of the submitting run's spans."""
    span: Span
    """The span that was current at the submission."""
    run_number: int
    """Number of the run that was current at the submission; 0 outside any run."""


def replay(report: JobReport, submitter: Submitter, job_outcome: Any) -> None:
    """Emit a job's events and spans as if it had run here. ``job_outcome`` is its return value or exception."""
    recorder = submitter.recorder
    add_span = _span_replayer(submitter.source) if recorder is None else recorder.record_worker_span
    for fields in report.spans:
        add_span(fields)
    for reason, number in report.drop_counts.items():
        counts.add(reason, number)
    runs: dict[int | None, Any] = {
        None: None if recorder is None else NoFlow(recorder),
        SUBMITTING_FLOW: submitter.flow,
    }
    for entry in report.entries:
        try:
            if type(entry) is LinkEntry:
                submitter.span.add_link(span_context_from(entry.span))
            else:
                _REPLAY_ENTRY[type(entry)](runs, entry, job_outcome)
        except BaseException as error:  # also a listener's KeyboardInterrupt: other entries must not be lost
            message = "Could not replay an event from a worker (%s). Replaying the next one."
            log_once(f"replay {type(error).__name__}", message, type(entry).__name__, exc_info=True)


def _span_replayer(source: TracerSource | None) -> Any:
    """Return a function that replays a span. If the tracer is not the SDK's, it counts a drop instead."""
    tracer = None if source is None else source.tracer
    if not all(hasattr(tracer, name) for name in ("span_processor", "resource", "sampler", "_span_limits")):
        return lambda fields: counts.add(NO_SDK_PROVIDER)

    def replay_or_log(fields: tuple[Any, ...]) -> None:
        try:
            replay_span(fields, tracer)
        except Exception as error:  # from the user's span processor, or an SDK with other internals
            log_once(f"replay span {type(error).__name__}", "Could not replay a span from a worker.", exc_info=True)

    return replay_or_log


@contextmanager
def _as_current(run: Any) -> Iterator[None]:
    """Make ``run`` the current run within this block, as in its worker: listeners may read it."""
    context = Context({**get_current(), RUN_KEY: run})
    token = attach(context if run._span is None else Context({**context, SPAN_KEY: run._span}))
    try:
        yield
    finally:
        detach(token)


def _replay_start(runs: dict[int | None, Any], entry: StartEntry, _: Any) -> None:
    run: Any = Flow.__new__(Flow) if entry.is_flow else Task.__new__(Task)
    run._given_name, run._number, run._started_ns = entry.name, entry.run, entry.ns
    if entry.span is not None:
        run._span_context = span_context_from(entry.span)
        run._span = NonRecordingSpan(run._span_context)
    if entry.is_flow:
        run._spec, run._given_run_id, run.flow_config, run.data = _FLOW, entry.run_id, _REPLAY_CONFIG, {}
        run._memory = run._new_memory()
        run._join(runs[SUBMITTING_FLOW] or runs[None])
    else:
        run._spec = _TASK
        run._join(runs.get(entry.flow) or runs[None])
    run._origin = (entry.source, *run._make_origin()[1:])
    runs[entry.run] = run
    with _as_current(run):
        start_stop.on_start(run)


def _replay_event(runs: dict[int | None, Any], entry: EventEntry, _: Any) -> None:
    run = runs.get(entry.run)
    if run is None:
        return
    with _as_current(run):
        _EMIT_BY_KIND[entry.kind](run, entry.facts, (entry.ns, entry.source))


def _emit_artifact(run: Any, facts: tuple[Any, ...], at: emit.At) -> None:
    key, data, description, kind = facts
    outputs.emit_artifact(run, key, unpack(data), description, kind, at)


_EMIT_BY_KIND: dict[str, Callable[[Any, tuple[Any, ...], emit.At], None]] = {
    "message": lambda run, facts, at: emit_message(run, facts[0], facts[1], facts[2], at),
    "artifact": _emit_artifact,
    "result": lambda run, facts, at: outputs.emit_result(run, facts[0], facts[1], at),
    "exception": lambda run, facts, at: exception.record_exception_event(run, facts[0], at[0]),
}


def _replay_stop(runs: dict[int | None, Any], entry: StopEntry, job_outcome: Any) -> None:
    run = runs.pop(entry.run, None)
    if run is None:
        return
    run.status = entry.status
    run.return_value, run.error = unpack(entry.value, job_outcome), unpack(entry.error, job_outcome)
    if entry.status == "failed" and run._flow is not None and not run._is_flow:
        run._flow._memory.count_failed_task()
    run._ended_ns = entry.ns
    with _as_current(run):
        start_stop.on_stop(run)
    run._flow = run._origin = run._span = None


_REPLAY_ENTRY: dict[type, Any] = {StartEntry: _replay_start, EventEntry: _replay_event, StopEntry: _replay_stop}
