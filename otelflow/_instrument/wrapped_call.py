"""Make the call of an instrumented function: it runs as a flow or task until it is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, get_current_span

from otelflow._events.run_memory import RunMemory
from otelflow._instrument.argument_attributes import ArgumentPaths
from otelflow._instrument.targets import Target
from otelflow._runs.definition import Definition
from otelflow._runs.drivers import DRIVER_FOR, copy_name
from otelflow._runs.fast_path import make_task_call
from otelflow._runs.flow_and_task import Flow, Task
from otelflow._runs.run import Run
from otelflow._runtime.log_once import log_start_error
from otelflow._spans.lazy_span import LazySpan, LazySpanContext
from otelflow._spans.shared_attributes import SharedAttributes
from otelflow._spans.tracer import TracerSource
from otelflow.config import DEFAULT_CONFIG
from otelflow.context import SPAN_KEY

__all__ = ["Stop", "make_instrumented_call"]

Call = Any  # Callable[[wrapped, instance, args, kwargs], value]; the registry sets its attribute `original`
Stop = Callable[[], None]
"""Stops a wrapped function from making spans, also where other objects hold it."""


class _TargetDefinition(Definition):
    """Definition of a function that a configuration names. Nothing is injected: the function does not know otelflow."""

    __slots__ = ("min_duration_ns", "paths")

    def __init__(self, target: Target, function: Any) -> None:
        super().__init__(
            target.kind,
            function,
            flow_class=Flow,
            task_class=Task,
            name=target.name,
            new_trace=target.new_trace,
            injects=False,
        )
        self.min_duration_ns = target.min_duration_ns
        plain_function = getattr(function, "__func__", function)
        self.paths = ArgumentPaths(plain_function, target.attributes, str(target)) if target.attributes else None


class _RunWithArguments(Run):
    """Run that holds a call's arguments until the configured attributes have been read from them."""

    _arguments: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
    _argument_attributes: Mapping[str, Any] = {}
    _spec: Any

    def _start_span(self, source: TracerSource, context: Context) -> Span | None:
        arguments, self._arguments = self._arguments, None
        if arguments is not None and _may_record(context.get(SPAN_KEY)):
            self._argument_attributes, self._truncated = self._spec.paths.read(*arguments)
        return self._begin_span(source, context)

    def _begin_span(self, source: TracerSource, context: Context) -> Span | None:
        return super()._start_span(source, context)

    def _start_attributes(self) -> SharedAttributes:
        attributes = super()._start_attributes()
        return (self._argument_attributes, *attributes) if self._argument_attributes else attributes


def _may_record(parent: Any) -> bool:
    """Return whether a child of the span ``parent`` may be recorded.

    A child of a span that this process sampled out is not; its arguments need not be read. This does not start a
    lazy span.
    """
    return parent is None or parent.is_recording() or not _is_sampled_out(parent.get_span_context())


def _is_sampled_out(context: SpanContext) -> bool:
    return context.is_valid and not context.is_remote and not context.trace_flags.sampled


class _InstrumentedFlow(_RunWithArguments, Flow[Any]):
    _transparent = True


class _InstrumentedTask(_RunWithArguments, Task):
    pass


def _lazy_span_context(span: Any) -> Any:
    return LazySpanContext(span) if type(span) is LazySpan else span.get_span_context()


class _ShortTask(_InstrumentedTask):
    """Task that makes no span if it is short and has no child span."""

    _context_of: ClassVar[Any] = staticmethod(_lazy_span_context)

    @property
    def trace_id(self) -> str | None:
        """Trace id as 32 hex digits. If the task is the first of its trace, reading it starts the span."""
        if isinstance(self._span, LazySpan) and not self._span.trace_id:
            self._span.get_span_context()
        return super().trace_id

    @property
    def span_id(self) -> str | None:
        """Span id as 16 hex digits. Reading it starts the span: a caller that has the id may refer to the span."""
        if self._span is not None:
            self._span.get_span_context()
        return super().span_id

    def _begin_span(self, source: TracerSource, context: Context) -> Span | None:
        parent = get_current_span(context)
        if isinstance(parent, LazySpan):
            trace_id = parent.trace_id
        else:
            trace_id = parent.get_span_context().trace_id
            if self._recorder is not None or (trace_id and not parent.is_recording()):
                return super()._begin_span(source, context)
        name, attributes, started_ns = self._spec.wire_name, self._start_attributes(), self._started_ns

        def start(late_attributes: dict[str, Any]) -> Span | None:
            try:
                span = source.start(name, context, attributes, started_ns)
                if late_attributes:
                    span.set_attributes(late_attributes)
                return span
            except Exception as error:  # the user's sampler or processor failed; the call continues
                log_start_error(error)
                return None

        return LazySpan(start, parent, trace_id, started_ns, self._spec.min_duration_ns)

    def _end_attributes(self) -> dict[str, Any]:
        if self._span is not None and self._ended_ns - self._started_ns >= self._spec.min_duration_ns:
            self._span.get_span_context()  # the span is kept: start it now, so that the end event has its id
        return super()._end_attributes()

    def _end_span(self) -> None:
        span = self._span
        super()._end_span()
        flow = self.flow
        if flow is not None and isinstance(span, LazySpan) and span.is_dropped:
            flow._memory.count_short_task()


def make_instrumented_call(target: Target, function: Any) -> tuple[Call, Stop]:
    """Return the call for a wrapper around ``function``, and a function that stops it.

    Raises ValueError if the target's attributes do not fit the function's parameters.
    """
    definition = _TargetDefinition(target, function)
    if target.kind == "task" and not definition.min_duration_ns and definition.paths is None:
        return _make_stoppable(make_task_call(definition), definition)
    new_run = _new_flow if target.kind == "flow" else _new_short_task if definition.min_duration_ns else _new_task
    drive, has_paths = DRIVER_FOR[definition.callable_kind], definition.paths is not None

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = new_run()
        run._spec = definition
        if has_paths:
            run._arguments = (args if instance is None else (instance, *args)), kwargs
        return drive(run, wrapped, args, kwargs, instance is not None)

    return _make_stoppable(call, definition)


def _make_stoppable(instrumented_call: Call, definition: Definition) -> tuple[Call, Stop]:
    """Return a call that makes ``instrumented_call`` until it is stopped, and the function that stops it."""
    is_active = True

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return instrumented_call(wrapped, instance, args, kwargs) if is_active else wrapped(*args, **kwargs)

    def stop() -> None:
        nonlocal is_active
        is_active = False

    return copy_name(call, definition), stop


def _new_flow() -> Any:
    run = _InstrumentedFlow.__new__(_InstrumentedFlow)
    run.data, run._needs_injection = {}, False
    run._memory = RunMemory(DEFAULT_CONFIG.max_messages, DEFAULT_CONFIG.max_tasks)
    return run


def _new_task() -> Any:
    return _InstrumentedTask.__new__(_InstrumentedTask)


def _new_short_task() -> Any:
    return _ShortTask.__new__(_ShortTask)
