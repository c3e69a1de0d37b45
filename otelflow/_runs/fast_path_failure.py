"""The end of a task that raised, in one breath: what ``Run._close`` does for every run, where nothing is unusual."""

from __future__ import annotations

from typing import Any

from otelflow import attributes as wire
from otelflow._events.emit import ended_with, tell_stop
from otelflow._events.exception import failure, stack_trace
from otelflow._metrics.measurements import measures
from otelflow._runs.callable_kind import Shape
from otelflow._runs.outcome import came_from_inside
from otelflow._runtime import clock, run_ids
from otelflow._runtime.log_once import not_ended
from otelflow._spans.span_events import settle
from otelflow.context import UNRESETTABLE, reset
from otelflow.events import FlowRunEventType
from otelflow.listeners import flow_events

__all__ = ["close_failed"]

_NOTHING: dict[str, Any] = {}
_STOP, _INFO = FlowRunEventType.TASK_STOP, 20
_remember = flow_events.remember


def close_failed(run: Any, error: BaseException, token: Any, shape: Shape = Shape.CALL) -> bool:
    """End ``run`` with ``error``; returns whether that has to reach the caller. ``token`` is what takes back that
    ``run`` is the current one."""
    flow, span = run._flow, run._span
    is_plain = isinstance(error, Exception) and hasattr(type(span), "finish")  # no mere stop; a lean span
    is_watched = flow_events.event_listeners or measures.on or flow._talks
    if is_watched or not is_plain or (flow._capturing and run._lines is not None) or run_ids.forked:
        run._token = token
        return run._close(None, error, shape)  # type: ignore[no-any-return]
    run.status, run.error = "failed", error
    made: tuple[dict[str, Any], str | None] = _NOTHING, None
    try:
        try:
            if not came_from_inside(run._order, error):
                failure(run, error)
                if flow.flow_config.print_error_stack_trace:
                    stack_trace(error)
            flow._memory.task_failed()
        finally:
            run._ended_ns = ended = clock.now()
            known = run._failure
            if known is None or known[2] is None or run._cut or run._redacted:
                made = ended_with(run)
                tell_stop(run)
            else:
                made = {wire.STATUS: "failed", wire.ERROR_TYPE: known[0]}, known[1]
                _remember((_STOP, ended, run._origin, ("failed", ended - run._started_ns, None, known[2]), _INFO))
    finally:
        try:
            reset(token)
        except UNRESETTABLE:  # another execution context: see give_back
            pass
        run._flow = run._origin = run._span = None
        try:
            if run._events or span._said:
                settle(run, span)
            span.finish(made[0], run._ended_ns, made[1])
        except Exception as problem:  # a processor of the user's
            not_ended(problem)
    return run.raise_on_error  # type: ignore[no-any-return]
