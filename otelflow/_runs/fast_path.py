"""Call a decorated function as a task, on the fast path: the lifecycle of ``Run``, inlined for nearly all calls.

A task as it usually comes is no subclass, belongs to a flow of this process, and has a lean span or none. Its way from
call to value, or to its exception, is here, in few steps: a step that Python makes costs as much as an attribute of a
span. What is not usual goes to the methods of :class:`otelflow._runs.run.Run`, from its beginning or from its end on;
``tests/runs/test_fast_path.py`` holds both ways to the same account.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from opentelemetry.context import Context

from otelflow import attributes as wire
from otelflow._events.exception import emit_failure, print_stack_trace
from otelflow._events.start_stop import end_attributes_and_failure, notify_completed, notify_started, notify_stopped
from otelflow._metrics.measurements import measures
from otelflow._runs.callable_kind import CallableKind
from otelflow._runs.definition import Definition
from otelflow._runs.drivers import DRIVER_FOR, copy_name
from otelflow._runs.flow_and_task import Task
from otelflow._runs.outcome import DRIVERS, came_from_inside
from otelflow._runtime import clock, run_ids
from otelflow._runtime.log_once import log_end_error, log_start_error
from otelflow._spans import tracer
from otelflow._spans.span_events import finish_events
from otelflow._spans.tracer import current_source
from otelflow._spans.unsampled_span import UnsampledSpan
from otelflow.context import RUN_KEY, SPAN_KEY, UNRESETTABLE, attach, detach, get_current, reset
from otelflow.events import FlowRunEventType, event_of
from otelflow.listeners import flow_events

__all__ = ["make_task_call"]

Call = Callable[[Any, Any, "tuple[Any, ...]", "dict[str, Any]"], Any]
"""What wrapt calls: the function, its object, and the arguments."""

_START, _STOP, _INFO = FlowRunEventType.TASK_START, FlowRunEventType.TASK_STOP, 20
_NOTHING: dict[str, Any] = {}
_COMPLETED = {wire.STATUS: "completed"}
_new = object.__new__
_remember = flow_events.remember


def _open(run: Any) -> Any:
    """Do as ``Run._open`` does. Returns what takes that back; None where something is unusual, and ``Run`` goes on."""
    context = get_current()
    above: Any = context.get(RUN_KEY)
    flow = None if above is None else above._flow
    if flow is None or flow._relay is not None or flow._ended_ns:
        return _open_unusual(run)
    in_use, source = tracer.known
    if in_use is not (tracer.override or tracer.keeper._TRACER_PROVIDER):
        source = current_source()  # before the clock is read: the first time, it loads what a provider needs
    spec, order, ns = run._spec, next(run_ids._numbers), clock.now()
    span = ids = token = run._relay = None
    try:
        if source is not None:
            try:
                span = source.lean(spec.wire_name, context, (spec.attributes, order, flow._wire), ns)
            except Exception as error:  # a processor of the user's; never in the way of the call
                log_start_error(error)
            else:
                if span is None:  # none is wanted, or the sampler has to be asked
                    return _open_unusual(run)
                ids = span if type(span) is UnsampledSpan else span._context
        next(flow._memory.numbers)
        if flow._keeps_tasks:
            flow._memory.tasks.append(run)
        run._span, run._span_context, run._number = span, ids, order
        run._started_ns, run._flow, run._flow_ref = ns, flow, flow._ref
        run._needs_injection = (
            spec.needs_injection or flow._dependency_values or flow_events.event_listeners or measures.on
        )
        run._ended_ns = run._cut = run._redacted = run._events = 0
        run._origin = origin = (spec.source, flow._names, spec.name, order, ids)
        below = context.copy()
        below[RUN_KEY] = run
        if span is not None:
            below[SPAN_KEY] = span
        token = attach(Context(below))
    except BaseException:  # a full stack, Ctrl-C: nothing has begun, and nothing of it may stay
        _undo(run, span, token)
        raise
    _remember((origin, ns))
    return token


def _undo(run: Any, span: Any, token: Any) -> None:
    run._blank()
    run._span, run._token = span, token
    run._undo_open()


def _open_unusual(run: Any) -> None:
    run._blank()
    run._open()


def _ready(run: Any, is_open: bool, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
    """What is to be done before the function is called, where something is: tell who listens, and inject."""
    if not is_open:
        run._begin()
    else:
        if measures.on:
            notify_started(run)
        elif flow_events.event_listeners:
            flow_events.raise_event(event_of((_START, run._started_ns, run._origin, _NOTHING, _INFO)))
        if not (run._spec.needs_injection or run._flow._dependency_values):
            return kwargs
    injected: dict[str, Any] = run._inject(args, kwargs, bound)
    return injected


def _close(run: Any, value: Any, token: Any) -> None:
    """End ``run`` with ``value``, as ``Run._close`` does."""
    flow = run._flow
    if (
        run._cut
        or run._redacted
        or flow._prints_end_messages
        or (flow._capturing and run._lines is not None)
        or run_ids.forked
    ):
        run._token = token
        run._close(value, None)
        return
    run.return_value = value
    run.status = "completed"
    try:
        run._ended_ns = ended = clock.now()
        if flow_events.event_listeners or measures.on:
            if run._span is not None and type(run._span) is not UnsampledSpan:
                run._span.conclude(_COMPLETED)  # a listener may look at it
            notify_completed(run, value)
        else:
            _remember((run._origin, run._started_ns, ended))
    finally:
        try:
            reset(token)
        except UNRESETTABLE:  # another execution context: see context.detach
            pass
        span: Any = run._span
        run._flow = run._origin = run._span = None
        if span is not None and type(span) is not UnsampledSpan:
            try:
                if run._events or span._said:
                    finish_events(run, span)
                span.finish(_COMPLETED, run._ended_ns)
            except Exception as error:  # a processor of the user's
                log_end_error(error)


def close_failed(run: Any, error: BaseException, token: Any, shape: CallableKind = CallableKind.CALL) -> bool:
    """End ``run`` with ``error``, as ``Run._close`` does; returns whether that has to reach the caller. ``token`` is
    what takes back that ``run`` is the current one."""
    flow, span = run._flow, run._span
    is_plain = isinstance(error, Exception) and hasattr(type(span), "finish")  # no mere stop; a lean span
    is_watched = flow_events.event_listeners or measures.on or flow._prints_end_messages
    if is_watched or not is_plain or (flow._capturing and run._lines is not None) or run_ids.forked:
        run._token = token
        return run._close(None, error, shape)  # type: ignore[no-any-return]
    run.status, run.error = "failed", error
    made: tuple[dict[str, Any], str | None] = _NOTHING, None
    try:
        try:
            if not came_from_inside(run._number, error):
                emit_failure(run, error)
                if flow.flow_config.print_error_stack_trace:
                    print_stack_trace(error)
            flow._memory.task_failed()
        finally:
            run._ended_ns = ended = clock.now()
            known = run._failure
            if known is None or known[2] is None or run._cut or run._redacted:
                made = end_attributes_and_failure(run)
                notify_stopped(run)
            else:
                made = {wire.STATUS: "failed", wire.ERROR_TYPE: known[0]}, known[1]
                _remember((_STOP, ended, run._origin, ("failed", ended - run._started_ns, None, known[2]), _INFO))
    finally:
        try:
            reset(token)
        except UNRESETTABLE:  # another execution context: see context.detach
            pass
        run._flow = run._origin = run._span = None
        try:
            if run._events or span._said:
                finish_events(run, span)
            span.finish(made[0], run._ended_ns, made[1])
        except Exception as problem:  # a processor of the user's
            log_end_error(problem)
    return run.raise_on_error  # type: ignore[no-any-return]


def make_task_call(spec: Definition) -> Call:
    """What a call of a decorated function does, where its tasks are no subclass.

    Decorated functions of scripts are pickled by value (cloudpickle), with what their ``call`` names: functions,
    classes and modules go by name; an object with a lock in it would not go at all.
    """
    if spec.shape is CallableKind.CALL:
        return _bound(spec, _of_function)
    return _bound(spec, _of_coroutine) if spec.shape is CallableKind.COROUTINE else copy_name(_other_call(spec), spec)


def _bound(spec: Definition, driver: Callable[..., Any]) -> Call:
    """What wrapt calls, for methods and the like. It carries what a call of the function itself comes to at once."""
    function = spec.target
    if type(function) is not FunctionType:  # a classmethod, a partial, a proxy that asks which object it is bound to
        return lambda wrapped, instance, args, kwargs: driver(spec, wrapped, instance is not None)(*args, **kwargs)
    drive = driver(spec, function, False)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if wrapped is function:
            return drive(*args, **kwargs)
        if type(wrapped) is MethodType and wrapped.__func__ is function:
            return drive(instance, *args, **kwargs)
        return driver(spec, wrapped, instance is not None)(*args, **kwargs)  # of a class above, say

    call.at_once = functools.partial(driver, spec)  # type: ignore[attr-defined]
    return call


def _of_function(spec: Definition, wrapped: Any, bound: bool = False) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        run: Any = _new(Task)
        run._spec = spec
        token = _open(run)
        try:
            try:
                if token is None or run._needs_injection:
                    kwargs = _ready(run, token is not None, args, kwargs, bound)
                value = wrapped(*args, **kwargs) if kwargs else wrapped(*args)
            except BaseException as error:
                if token is None:
                    reaches_caller = run._close(None, error)
                else:
                    reaches_caller, token = close_failed(run, error, token), None
                run = run._number  # the traceback has this frame, and the run its error: see DRIVERS
                if reaches_caller:
                    raise
                return None
            if token is None:
                run._close(value, None)
            else:
                _close(run, value, token)
            return value
        except RecursionError:  # the stack is full: the end may have had less room than the beginning
            if token is not None:
                detach(token)
            raise

    DRIVERS.add(call.__code__)
    return call


def _of_coroutine(spec: Definition, wrapped: Any, bound: bool = False) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        run: Any = _new(Task)
        run._spec = spec
        token = _open(run)
        try:
            try:
                if token is None or run._needs_injection:
                    kwargs = _ready(run, token is not None, args, kwargs, bound)
                value = await (wrapped(*args, **kwargs) if kwargs else wrapped(*args))
            except BaseException as error:
                if token is None:
                    reaches_caller = run._close(None, error, CallableKind.COROUTINE)
                else:
                    reaches_caller, token = close_failed(run, error, token, CallableKind.COROUTINE), None
                run = run._number
                if reaches_caller:
                    raise
                return None
            if token is None:
                run._close(value, None)
            else:
                _close(run, value, token)
            return value
        except RecursionError:
            if token is not None:
                detach(token)
            raise

    DRIVERS.add(call.__code__)
    return copy_name(call, spec)


def _other_call(spec: Definition) -> Call:
    drive = DRIVER_FOR[spec.shape]

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = Task.__new__(Task)
        run._spec = spec
        return drive(run, wrapped, args, kwargs, instance is not None)

    return call
