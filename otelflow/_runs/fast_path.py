"""Call a decorated function as a task, on the fast path: the lifecycle of ``Run``, inlined for nearly all calls.

The usual task is not of a subclass, belongs to a flow of this process, and has a lean span or none. The code here takes
it from the call to its value or exception in few steps: each Python call costs as much as an attribute of a span.
Unusual tasks use the methods of :class:`otelflow._runs.run.Run`, from their start or for their end.
``tests/runs/test_fast_path.py`` checks that both paths have the same results.
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
from otelflow._runs.outcome import DRIVERS, began_in_inner_run
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
"""A function that wrapt calls with the function, its object, and the arguments."""

_START, _STOP, _INFO = FlowRunEventType.TASK_START, FlowRunEventType.TASK_STOP, 20
_NO_PAYLOAD: dict[str, Any] = {}
_COMPLETED = {wire.STATUS: "completed"}
_new = object.__new__
_remember = flow_events.remember


def _open(run: Any) -> Any:
    """Open ``run`` as ``Run._open`` does. Return the context token; None if ``Run`` opened an unusual run."""
    context = get_current()
    parent: Any = context.get(RUN_KEY)
    flow = None if parent is None else parent._flow
    if flow is None or flow._recorder is not None or flow._ended_ns:
        return _open_slowly(run)
    provider, source = tracer.cached_source
    if provider is not (tracer.override or tracer.provider_holder._TRACER_PROVIDER):
        source = current_source()  # before the clock is read: the first call loads the modules that a provider needs
    spec, number, ns = run._spec, next(run_ids._numbers), clock.now()
    span = ids = token = run._recorder = None
    try:
        if source is not None:
            try:
                span = source.lean(spec.wire_name, context, (spec.attributes, number, flow._wire), ns)
            except Exception as error:  # raised by the user's span processor: the call goes on without a span
                log_start_error(error)
            else:
                if span is None:  # no span is needed, or the sampler must decide
                    return _open_slowly(run)
                ids = span if type(span) is UnsampledSpan else span._context
        next(flow._memory.numbers)
        if flow._keeps_tasks:
            flow._memory.tasks.append(run)
        run._span, run._span_context, run._number = span, ids, number
        run._started_ns, run._flow, run._flow_ref = ns, flow, flow._ref
        run._needs_injection = (
            spec.needs_injection or flow._dependency_values or flow_events.event_listeners or measures.on
        )
        run._ended_ns = run._truncated = run._redacted = run._events = 0
        run._origin = origin = (spec.source, flow._names, spec.name, number, ids)
        values = context.copy()
        values[RUN_KEY] = run
        if span is not None:
            values[SPAN_KEY] = span
        token = attach(Context(values))
    except BaseException:  # a full stack, Ctrl-C: the run has not started, and must leave nothing behind
        _undo(run, span, token)
        raise
    _remember((origin, ns))
    return token


def _undo(run: Any, span: Any, token: Any) -> None:
    run._blank()
    run._span, run._token = span, token
    run._undo_open()


def _open_slowly(run: Any) -> None:
    run._blank()
    run._open()


def _prepare_call(
    run: Any, is_open: bool, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
) -> dict[str, Any]:
    """Notify listeners and metrics, and return the keyword arguments with injected values. Called before the function,
    if there is something to do."""
    if not is_open:
        run._begin()
    else:
        if measures.on:
            notify_started(run)
        elif flow_events.event_listeners:
            flow_events.raise_event(event_of((_START, run._started_ns, run._origin, _NO_PAYLOAD, _INFO)))
        if not (run._spec.needs_injection or run._flow._dependency_values):
            return kwargs
    injected: dict[str, Any] = run._inject(args, kwargs, bound)
    return injected


def _close(run: Any, value: Any, token: Any) -> None:
    """End ``run`` with ``value``, as ``Run._close`` does."""
    flow = run._flow
    if (
        run._truncated
        or run._redacted
        or flow._prints_end_messages
        or (flow._capturing and run._lines is not None)
        or run_ids.is_forked_child
    ):
        run._token = token
        run._close(value, None)
        return
    run.return_value = value
    run.status = "completed"
    try:
        run._ended_ns = ended_ns = clock.now()
        if flow_events.event_listeners or measures.on:
            if run._span is not None and type(run._span) is not UnsampledSpan:
                run._span.conclude(_COMPLETED)  # a listener may read it
            notify_completed(run, value)
        else:
            _remember((run._origin, run._started_ns, ended_ns))
    finally:
        try:
            reset(token)
        except UNRESETTABLE:  # another execution context: see context.detach
            pass
        span: Any = run._span
        run._flow = run._origin = run._span = None
        if span is not None and type(span) is not UnsampledSpan:
            try:
                if run._events or span._event_list:
                    finish_events(run, span)
                span.finish(_COMPLETED, run._ended_ns)
            except Exception as error:  # raised by the user's span processor
                log_end_error(error)


def close_failed(run: Any, error: BaseException, token: Any, callable_kind: CallableKind = CallableKind.CALL) -> bool:
    """End ``run`` with ``error``, as ``Run._close`` does. Return whether the error must reach the caller.

    ``token`` detaches the run's context.
    """
    flow, span = run._flow, run._span
    is_plain = isinstance(error, Exception) and hasattr(type(span), "finish")  # a failure, and a lean span
    is_watched = flow_events.event_listeners or measures.on or flow._prints_end_messages
    if is_watched or not is_plain or (flow._capturing and run._lines is not None) or run_ids.is_forked_child:
        run._token = token
        return run._close(None, error, callable_kind)  # type: ignore[no-any-return]
    run.status, run.error = "failed", error
    span_end: tuple[dict[str, Any], str | None] = _NO_PAYLOAD, None
    try:
        try:
            if not began_in_inner_run(run._number, error):
                emit_failure(run, error)
                if flow.flow_config.print_error_stack_trace:
                    print_stack_trace(error)
            flow._memory.count_failed_task()
        finally:
            run._ended_ns = ended_ns = clock.now()
            failure = run._failure
            if failure is None or failure[2] is None or run._truncated or run._redacted:
                span_end = end_attributes_and_failure(run)
                notify_stopped(run)
            else:
                span_end = {wire.STATUS: "failed", wire.ERROR_TYPE: failure[0]}, failure[1]
                _remember(
                    (_STOP, ended_ns, run._origin, ("failed", ended_ns - run._started_ns, None, failure[2]), _INFO)
                )
    finally:
        try:
            reset(token)
        except UNRESETTABLE:  # another execution context: see context.detach
            pass
        run._flow = run._origin = run._span = None
        try:
            if run._events or span._event_list:
                finish_events(run, span)
            span.finish(span_end[0], run._ended_ns, span_end[1])
        except Exception as problem:  # raised by the user's span processor
            log_end_error(problem)
    return run.raise_on_error  # type: ignore[no-any-return]


def make_task_call(spec: Definition) -> Call:
    """Return the function that runs a call of a decorated function, if its tasks are not of a subclass.

    cloudpickle pickles decorated functions of scripts by value, with the names that ``call`` uses. It pickles
    functions, classes and modules by name; it cannot pickle an object with a lock in it.
    """
    if spec.callable_kind is CallableKind.CALL:
        return _make_bindable(spec, _function_call)
    return (
        _make_bindable(spec, _coroutine_call)
        if spec.callable_kind is CallableKind.COROUTINE
        else copy_name(_generator_call(spec), spec)
    )


def _make_bindable(spec: Definition, driver: Callable[..., Any]) -> Call:
    """Return the function that wrapt calls. Its attribute ``make_call`` makes a faster one for a plain function."""
    function = spec.target
    if type(function) is not FunctionType:  # a classmethod, a partial, or a proxy that needs the bound object
        return lambda wrapped, instance, args, kwargs: driver(spec, wrapped, instance is not None)(*args, **kwargs)
    drive = driver(spec, function, False)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if wrapped is function:
            return drive(*args, **kwargs)
        if type(wrapped) is MethodType and wrapped.__func__ is function:
            return drive(instance, *args, **kwargs)
        return driver(spec, wrapped, instance is not None)(*args, **kwargs)  # for example a method of a base class

    call.make_call = functools.partial(driver, spec)  # type: ignore[attr-defined]
    return call


def _function_call(spec: Definition, wrapped: Any, bound: bool = False) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        run: Any = _new(Task)
        run._spec = spec
        token = _open(run)
        try:
            try:
                if token is None or run._needs_injection:
                    kwargs = _prepare_call(run, token is not None, args, kwargs, bound)
                value = wrapped(*args, **kwargs) if kwargs else wrapped(*args)
            except BaseException as error:
                if token is None:
                    reaches_caller = run._close(None, error)
                else:
                    reaches_caller, token = close_failed(run, error, token), None
                run = run._number  # the traceback holds this frame, and the run holds its error: see DRIVERS
                if reaches_caller:
                    raise
                return None
            if token is None:
                run._close(value, None)
            else:
                _close(run, value, token)
            return value
        except RecursionError:  # the stack is full: the end of the run may have had less room than its start
            if token is not None:
                detach(token)
            raise

    DRIVERS.add(call.__code__)
    return call


def _coroutine_call(spec: Definition, wrapped: Any, bound: bool = False) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        run: Any = _new(Task)
        run._spec = spec
        token = _open(run)
        try:
            try:
                if token is None or run._needs_injection:
                    kwargs = _prepare_call(run, token is not None, args, kwargs, bound)
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


def _generator_call(spec: Definition) -> Call:
    drive = DRIVER_FOR[spec.callable_kind]

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = Task.__new__(Task)
        run._spec = spec
        return drive(run, wrapped, args, kwargs, instance is not None)

    return call
