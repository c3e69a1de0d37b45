"""What a worker recorded, said again in the process that submitted the job: through the same door as all else."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import NonRecordingSpan

from otelflow import _emit
from otelflow._counts import NO_RELAY_DOOR, counts, log_once
from otelflow._flow import Flow, Task
from otelflow._packing import unpack
from otelflow._relay import HANDLE, JobReport, Said, Started, Stopped
from otelflow._remote import NoFlow
from otelflow._span_parts import context_from, span_from
from otelflow._spec import Spec
from otelflow._telemetry import SCOPE, Source
from otelflow._version import __version__
from otelflow.config import FlowRunConfig

__all__ = ["replay"]


def in_a_worker() -> None:
    """Stands for the function of a run in a worker."""


_TASK = Spec("task", in_a_worker, flow_class=Flow, task_class=Task)
_FLOW = Spec("flow", in_a_worker, flow_class=Flow, task_class=Task)
_EVERYTHING = FlowRunConfig(log_level=1, capture_output=False)
"""For a flow that ran in a worker: what its own configuration does not want was left out there."""


def replay(report: JobReport, flow: Flow[Any] | None, relay: Any, source: Source | None, came_of_it: Any) -> None:
    """Hand on what a job did, as if it had been done here.

    ``flow`` submitted the job, or None; ``relay`` records this process in turn, where it is a worker itself; ``source``
    is where the spans of the submitting run come from; ``came_of_it`` is the job's result or its exception.
    """
    spans_to = _door(source) if relay is None else relay.ended_below
    for parts in report.spans:
        spans_to(parts)
    for reason, number in report.left_out.items():
        counts.add(reason, number)
    runs: dict[int | None, Any] = {None: None if relay is None else NoFlow(relay), HANDLE: flow}
    for entry in report.entries:
        try:
            _SAY[type(entry)](runs, entry, came_of_it)
        except BaseException as error:  # a listener's KeyboardInterrupt on the executor's thread: the rest goes on
            log_once(f"replay {type(error).__name__}", "Could not replay %s.", type(entry).__name__, exc_info=True)


def _door(source: Source | None) -> Any:
    """Where ended spans are let in: the span processors of the SDK's provider. Others have no such door."""
    tracer = None if source is None else source.tracer
    processor: Any = getattr(tracer, "span_processor", None)
    resource = getattr(tracer, "resource", None)
    if not hasattr(processor, "on_end") or resource is None:
        return lambda parts: counts.add(NO_RELAY_DOOR)
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    scope = InstrumentationScope(SCOPE, __version__)

    def let_in(parts: tuple[Any, ...]) -> None:
        try:
            processor.on_end(span_from(parts, resource, scope))
        except Exception as error:  # a processor of the user's
            log_once(f"relay {type(error).__name__}", "A span processor raised.", exc_info=True)

    return let_in


def _start(runs: dict[int | None, Any], entry: Started, _: Any) -> None:
    made: Any = Flow.__new__(Flow) if entry.is_flow else Task.__new__(Task)
    made._given_name, made._order, made._started_ns = entry.name, entry.run, entry.ns
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
    _emit.started(made)


def _say(runs: dict[int | None, Any], entry: Said, _: Any) -> None:
    run = runs.get(entry.run)
    if run is None:
        return
    at, facts = (entry.ns, entry.source), entry.facts
    if entry.what == "message":
        level, text, attributes = facts
        _emit.message(run, level, text, attributes, at)
    elif entry.what == "artifact":
        key, data, description, kind = facts
        _emit.artifact(run, key, unpack(data), description, kind, at)
    elif entry.what == "result":
        key, description = facts
        _emit.result(run, key, description, at)
    else:
        _emit.exception(run, facts[0], entry.ns)


def _stop(runs: dict[int | None, Any], entry: Stopped, came_of_it: Any) -> None:
    run = runs.pop(entry.run, None)
    if run is None:
        return
    run.status = entry.status
    run.return_value, run.error = unpack(entry.value, came_of_it), unpack(entry.error, came_of_it)
    if entry.status == "failed" and run._flow is not None and not run._is_flow:
        run._flow._memory.task_failed()
    run._ended_ns = entry.ns
    _emit.stopped(run)
    run._flow = run._origin = run._span = None


_SAY: dict[type, Any] = {Started: _start, Said: _say, Stopped: _stop}
