"""What an instrumented function does at a call: a flow or task of its own, until it is told to stop."""

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

__all__ = ["Stop", "instrumented"]

Call = Any  # Callable[[wrapped, instance, args, kwargs], value], which can carry what it stands for
Stop = Callable[[], None]
"""Makes a wrapped function bare again, wherever it is held."""


class _TargetDefinition(Definition):
    """The facts of a function that a configuration names. Nothing is injected into it: it knows nothing of us."""

    __slots__ = ("least_ns", "paths")

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
        self.least_ns = target.min_duration_ns
        inner = getattr(function, "__func__", function)
        self.paths = ArgumentPaths(inner, target.attributes, str(target)) if target.attributes else None


class _CallArguments(Run):
    """The arguments of one call, until its span has what the configuration wants of them."""

    _given: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
    _wanted: Mapping[str, Any] = {}
    _spec: Any

    def _start_span(self, source: TracerSource, context: Context) -> Span | None:
        given, self._given = self._given, None
        if given is not None and _may_record(context.get(SPAN_KEY)):
            self._wanted, self._cut = self._spec.paths.read(*given)
        return self._begin_span(source, context)

    def _begin_span(self, source: TracerSource, context: Context) -> Span | None:
        return super()._start_span(source, context)

    def _start_attributes(self) -> SharedAttributes:
        made = super()._start_attributes()
        return (self._wanted, *made) if self._wanted else made


def _may_record(above: Any) -> bool:
    """Whether a child of the span ``above`` may be recorded: of one that was sampled out here, it is not, and nothing
    has to be read for it. Asked without starting a span that is postponed."""
    return above is None or above.is_recording() or not _is_sampled_out(above.get_span_context())


def _is_sampled_out(context: SpanContext) -> bool:
    return context.is_valid and not context.is_remote and not context.trace_flags.sampled


class _InstrumentedFlow(_CallArguments, Flow[Any]):
    _transparent = True


class _InstrumentedTask(_CallArguments, Task):
    pass


def _ids_of(span: Any) -> Any:
    return LazySpanContext(span) if type(span) is LazySpan else span.get_span_context()


class _ShortTask(_InstrumentedTask):
    """A task that leaves no span where it is short and has nothing below it."""

    _context_of: ClassVar[Any] = staticmethod(_ids_of)

    @property
    def trace_id(self) -> str | None:
        """32 hex digits; where the task is the first of its trace, of a span that is started now."""
        if isinstance(self._span, LazySpan) and not self._span.trace_id:
            self._span.get_span_context()
        return super().trace_id

    @property
    def span_id(self) -> str | None:
        """16 hex digits: of a span that is started now, if it has not been, as somebody wants to name it."""
        if self._span is not None:
            self._span.get_span_context()
        return super().span_id

    def _begin_span(self, source: TracerSource, context: Context) -> Span | None:
        above = get_current_span(context)
        if isinstance(above, LazySpan):
            trace_id = above.trace_id
        else:
            trace_id = above.get_span_context().trace_id
            if self._relay is not None or (trace_id and not above.is_recording()):
                return super()._begin_span(source, context)
        name, attributes, ns = self._spec.wire_name, self._start_attributes(), self._started_ns

        def start(more: dict[str, Any]) -> Span | None:
            try:
                span = source.start(name, context, attributes, ns)
                if more:
                    span.set_attributes(more)
                return span
            except Exception as error:  # a sampler or processor of the user's; never in the way of the call
                log_start_error(error)
                return None

        return LazySpan(start, above, trace_id, ns, self._spec.least_ns)

    def _end_attributes(self) -> dict[str, Any]:
        if self._span is not None and self._ended_ns - self._started_ns >= self._spec.least_ns:
            self._span.get_span_context()  # it stays: so the event of the end, which comes next, has its id
        return super()._end_attributes()

    def _end_span(self) -> None:
        span = self._span
        super()._end_span()
        flow = self.flow
        if flow is not None and isinstance(span, LazySpan) and span.is_dropped:
            flow._memory.task_was_short()


def instrumented(target: Target, function: Any) -> tuple[Call, Stop]:
    """What a wrapper around ``function`` calls, and how to switch it off.

    Raises ValueError, with what is wrong, where the target's attributes do not fit the function's parameters.
    """
    spec = _TargetDefinition(target, function)
    if target.kind == "task" and not spec.least_ns and spec.paths is None:
        return _switched(make_task_call(spec), spec)
    new_run = _new_flow if target.kind == "flow" else _new_short_task if spec.least_ns else _new_task
    drive, has_paths = DRIVER_FOR[spec.shape], spec.paths is not None

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = new_run()
        run._spec = spec
        if has_paths:
            run._given = (args if instance is None else (instance, *args)), kwargs
        return drive(run, wrapped, args, kwargs, instance is not None)

    return _switched(call, spec)


def _switched(on: Call, spec: Definition) -> tuple[Call, Stop]:
    """What does as ``on`` does until it is told to stop."""
    is_on = True

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return on(wrapped, instance, args, kwargs) if is_on else wrapped(*args, **kwargs)

    def stop() -> None:
        nonlocal is_on
        is_on = False

    return copy_name(call, spec), stop


def _new_flow() -> Any:
    run = _InstrumentedFlow.__new__(_InstrumentedFlow)
    run.data, run._needs_injection = {}, False
    run._memory = RunMemory(DEFAULT_CONFIG.max_messages, DEFAULT_CONFIG.max_tasks)
    return run


def _new_task() -> Any:
    return _InstrumentedTask.__new__(_InstrumentedTask)


def _new_short_task() -> Any:
    return _ShortTask.__new__(_ShortTask)
