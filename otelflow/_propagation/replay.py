"""What a worker recorded, said again in the process that submitted the job: through the same door as all else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span

from otelflow._events import emit, exception, outputs, start_stop
from otelflow._events.message import emit_message as emit_message
from otelflow._propagation.pickling import context_from, live_again, unpack
from otelflow._propagation.recorder import HANDLE, EventEntry, JobReport, LinkEntry, StartEntry, StopEntry
from otelflow._propagation.remote_flow import NoFlow
from otelflow._runs.definition import Definition
from otelflow._runs.flow_and_task import Flow, Task
from otelflow._runtime.drop_counts import NO_RELAY_DOOR, counts
from otelflow._runtime.log_once import log_once
from otelflow._spans.tracer import TracerSource
from otelflow.config import FlowRunConfig
from otelflow.context import RUN_KEY, SPAN_KEY, attach, detach, get_current

__all__ = ["Submitter", "replay"]


def in_a_worker() -> None:
    """Stands for the function of a run in a worker."""


_TASK = Definition("task", in_a_worker, flow_class=Flow, task_class=Task)
_FLOW = Definition("flow", in_a_worker, flow_class=Flow, task_class=Task)
_EVERYTHING = FlowRunConfig(log_level=1, capture_output=False)
"""For a flow that ran in a worker: what its own configuration does not want was left out there."""


class Submitter(NamedTuple):
    """Where a job came from, and so where what it did goes."""

    flow: Flow[Any] | None
    relay: Any
    """What records this process, where it is a worker itself."""
    source: TracerSource | None
    """Where the spans of the submitting run come from."""
    span: Span
    """The span that was current at the submission."""
    order: int
    """Number of the run that was current there; 0 outside any."""


def replay(report: JobReport, submitter: Submitter, came_of_it: Any) -> None:
    """Hand on what a job did, as if it had been done here. ``came_of_it`` is the job's result or its exception."""
    relay = submitter.relay
    spans_to = _door(submitter.source) if relay is None else relay.ended_below
    for parts in report.spans:
        spans_to(parts)
    for reason, number in report.left_out.items():
        counts.add(reason, number)
    runs: dict[int | None, Any] = {None: None if relay is None else NoFlow(relay), HANDLE: submitter.flow}
    for entry in report.entries:
        try:
            if type(entry) is LinkEntry:
                submitter.span.add_link(context_from(entry.span))
            else:
                _SAY[type(entry)](runs, entry, came_of_it)
        except BaseException as error:  # a listener's KeyboardInterrupt on the executor's thread: the rest goes on
            log_once(f"replay {type(error).__name__}", "Could not replay %s.", type(entry).__name__, exc_info=True)


def _door(source: TracerSource | None) -> Any:
    """Where spans are let in: a tracer of the SDK's. Others have no such door."""
    tracer = None if source is None else source.tracer
    if not all(hasattr(tracer, name) for name in ("span_processor", "resource", "sampler", "_span_limits")):
        return lambda parts: counts.add(NO_RELAY_DOOR)

    def let_in(parts: tuple[Any, ...]) -> None:
        try:
            live_again(parts, tracer)
        except Exception as error:  # a processor of the user's, an SDK of another shape
            log_once(f"relay {type(error).__name__}", "A span from a worker was refused.", exc_info=True)

    return let_in


@contextmanager
def _current(run: Any) -> Iterator[None]:
    """Within this block ``run`` is the current one, as it was where it ran: listeners may ask."""
    context = Context({**get_current(), RUN_KEY: run})
    token = attach(context if run._span is None else Context({**context, SPAN_KEY: run._span}))
    try:
        yield
    finally:
        detach(token)


def _start(runs: dict[int | None, Any], entry: StartEntry, _: Any) -> None:
    made: Any = Flow.__new__(Flow) if entry.is_flow else Task.__new__(Task)
    made._given_name, made._number, made._started_ns = entry.name, entry.run, entry.ns
    if entry.span is not None:
        made._span_context = context_from(entry.span)
        made._span = NonRecordingSpan(made._span_context)
    if entry.is_flow:
        made._spec, made._given_run_id, made.flow_config, made.data = _FLOW, entry.run_id, _EVERYTHING, {}
        made._memory = made._new_memory()
        made._join(runs[HANDLE] or runs[None])
    else:
        made._spec = _TASK
        made._join(runs.get(entry.flow) or runs[None])
    made._origin = (entry.source, *made._make_origin()[1:])
    runs[entry.run] = made
    with _current(made):
        start_stop.on_start(made)


def _say(runs: dict[int | None, Any], entry: EventEntry, _: Any) -> None:
    run = runs.get(entry.run)
    if run is None:
        return
    with _current(run):
        _SAID[entry.what](run, entry.facts, (entry.ns, entry.source))


def _artifact(run: Any, facts: tuple[Any, ...], at: emit.At) -> None:
    key, data, description, kind = facts
    outputs.emit_artifact(run, key, unpack(data), description, kind, at)


_SAID: dict[str, Callable[[Any, tuple[Any, ...], emit.At], None]] = {
    "message": lambda run, facts, at: emit_message(run, facts[0], facts[1], facts[2], at),
    "artifact": _artifact,
    "result": lambda run, facts, at: outputs.emit_result(run, facts[0], facts[1], at),
    "exception": lambda run, facts, at: exception.record_exception_event(run, facts[0], at[0]),
}


def _stop(runs: dict[int | None, Any], entry: StopEntry, came_of_it: Any) -> None:
    run = runs.pop(entry.run, None)
    if run is None:
        return
    run.status = entry.status
    run.return_value, run.error = unpack(entry.value, came_of_it), unpack(entry.error, came_of_it)
    if entry.status == "failed" and run._flow is not None and not run._is_flow:
        run._flow._memory.task_failed()
    run._ended_ns = entry.ns
    with _current(run):
        start_stop.on_stop(run)
    run._flow = run._origin = run._span = None


_SAY: dict[type, Any] = {StartEntry: _start, EventEntry: _say, StopEntry: _stop}
