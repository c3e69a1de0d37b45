"""Define Flow and Task, the two kinds of runs that users work with, and return the current ones."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, get_current_span, set_span_in_context

from otelflow import attributes as wire
from otelflow._events import emit
from otelflow._events.run_memory import RunMemory
from otelflow._runs.baggage import attributes_from_baggage
from otelflow._runs.callable_kind import CallableKind
from otelflow._runs.definition import Definition
from otelflow._runs.executable import Executable, name_methods_after
from otelflow._runs.markers import markers
from otelflow._runs.run import Run
from otelflow._runtime import stdout_capture
from otelflow._runtime.drop_counts import after_end_reason, counts
from otelflow._runtime.run_ids import next_run_number, run_id
from otelflow._spans.shared_attributes import SharedAttributes
from otelflow._spans.tracer import TracerSource
from otelflow._values.text import scrub_and_truncate
from otelflow.config import DEFAULT_CONFIG, FlowRunConfig
from otelflow.context import baggage_key, current_run
from otelflow.events import FlowRunEventType

__all__ = ["Flow", "Task", "current_flow", "current_task"]

R = TypeVar("R")
_EMPTY: dict[str, Any] = {}


class Flow(Executable, Generic[R]):
    """One run of a unit of work: a span, usually the root of its trace, with its tasks, messages and outcome.

    ``name``, ``flow_config`` and ``data`` (a dict that the flow and its tasks share) may be set before the execution.
    A subclass may set ``name`` and ``flow_config`` on the class, and override ``main``, ``on_start``, ``on_stop`` and
    ``dependencies``. A second execution starts with cleared state and a new ``run_id``.
    """

    __slots__ = ("_capturing", "_dependency_values", "_keeps_tasks", "_prints_end_messages")  # its tasks read these

    _START: ClassVar[FlowRunEventType] = FlowRunEventType.FLOW_START
    _STOP: ClassVar[FlowRunEventType] = FlowRunEventType.FLOW_STOP

    _is_flow = True
    flow_config: FlowRunConfig = DEFAULT_CONFIG
    data: dict[str, Any]
    _memory: RunMemory
    return_value: R | None = None

    _given_run_id: str | None = None
    _dependency_values: Mapping[str, Any] | None
    _totals: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    """Tasks started, failed and too short for a span; tasks and messages dropped from memory."""
    _initial_data: dict[str, Any]
    _transparent: bool = False
    _capturing: bool
    _keeps_tasks: bool
    _prints_end_messages: bool
    """True if the configuration asks for messages when a run ends."""

    def _blank(self) -> None:
        super()._blank()
        self._dependency_values = None
        self._capturing = self._prints_end_messages = False
        self._keeps_tasks = True

    def _new_spec(self, target: Any, name: str | None) -> Definition:
        return Definition("flow", target, flow_class=Flow, task_class=Task, name=name)

    def _prepare(
        self, spec: Definition, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
    ) -> None:
        if spec.config is not None:
            self.flow_config = spec.config
        if "data" not in self.__dict__:  # the subclass may have set it
            self.data = {}
        if "_memory" not in self.__dict__ or not self._memory.messages:
            self._memory = self._new_memory()
        super()._prepare(spec, target, args, kwargs, bound)

    def _new_memory(self) -> RunMemory:
        return RunMemory(self.flow_config.max_messages, self.flow_config.max_tasks)

    def _reset(self) -> None:
        super()._reset()
        self._given_run_id = self._dependency_values = None
        self.data = dict(self._initial_data)
        self._memory = self._new_memory()

    @property
    def run_id(self) -> str:
        """Identifier of this run. Each execution has a new one."""
        if self._given_run_id is None:
            self._given_run_id = run_id("flow_", next_run_number())
        return self._given_run_id

    # --- the run ------------------------------------------------------------------------------------------------

    def _own_flow(self) -> Flow[Any]:
        return self

    def _join(self, above: Run | None) -> None:
        self._flow, self._recorder = self, None if above is None else above._recorder
        self._is_outermost = above is None or self._spec.new_trace
        self._initial_data = dict(self.data)
        self._ref = weakref.ref(self)
        self._wire = {wire.FLOW_NAME: scrub_and_truncate(self.name)[0], wire.FLOW_RUN_ID: self.run_id}
        config = self.flow_config
        self._keeps_tasks = config.add_task_to_self
        self._prints_end_messages = config.print_none_return_value or config.print_finished_message
        self._capturing = not self._transparent if config.capture_output is None else config.capture_output

    def _start_capture(self) -> None:
        if self._capturing:
            stdout_capture.start_capture()
        markers.flow_opened(self)

    def _start_span(self, source: TracerSource, context: Context) -> Span | None:
        parent_span = get_current_span(context)
        if not self._spec.new_trace or not parent_span.get_span_context().is_valid:
            return super()._start_span(source, context)
        self._links = [Link(parent_span.get_span_context())]
        span = super()._start_span(source, set_span_in_context(INVALID_SPAN, context))
        if span is not None and parent_span.is_recording():
            parent_span.add_link(span.get_span_context())
        elif span is not None and self._recorder is not None:
            self._recorder.record_link(span.get_span_context())
        return span

    def _start_attributes(self) -> SharedAttributes:
        return (*attributes_from_baggage(), self._spec.attributes, self._wire)

    def _with_baggage(self, context: Context) -> Context:
        key = baggage_key()
        return Context({**context, key: {**context.get(key, _EMPTY), **self._wire}})  # type: ignore[dict-item]

    def _make_origin(self) -> tuple[Any, ...]:
        self._names = (self.name, self.run_id)
        return (self._spec.source, self._names, None, None, self._span_context)

    def _inject(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
        spec = self._spec
        self._dependency_values = {**spec.dependencies, **self.dependencies()}
        plan = spec.plan or spec.make_plan()
        return plan.fill(args, kwargs, self._injectable, self._dependency_values, bound and spec.binds)

    def _injectable(self, name: str) -> Any:
        return self if name == "this_flow" else self.data if name == "flow_data" else None

    def _send_end_messages(self) -> None:
        self._log_end(self.flow_config, "Flow", f"flow run '{self.run_id}'")

    def _compute_totals(self) -> None:
        self._totals = self._memory.close(self._keeps_tasks)

    def _after_stop(self) -> None:
        markers.open.pop(self._number, None)
        if self._capturing:
            stdout_capture.stop_capture()
        if self.flow_config.print_logs:
            for message in self.messages:
                emit.console(message.raw)

    def _end_attributes(self) -> dict[str, Any]:
        started, failed, short, tasks, messages = self._totals
        attributes: dict[str, Any] = {wire.FLOW_TASKS: started, wire.FLOW_TASKS_FAILED: failed}
        if short:
            attributes[wire.DROPPED_SHORT_TASKS] = short
        if tasks:
            attributes[wire.DROPPED_TASKS] = tasks
        if messages:
            attributes[wire.DROPPED_MESSAGES] = messages
        return attributes

    def _tolerates(self, error: BaseException) -> bool:
        return not self.flow_config.raise_flow_error and isinstance(error, Exception)

    def _task_number(self) -> tuple[str | None, int | None]:
        return None, None

    def _title(self) -> str:
        return "flow"

    @property
    def _target_memory(self) -> RunMemory:
        return self._memory

    @property
    def _settings(self) -> FlowRunConfig:
        return self.flow_config

    @property
    def _captures(self) -> bool:
        return self._capturing

    # --- public -------------------------------------------------------------------------------------------------

    def _memories(self) -> Iterable[RunMemory]:
        return (self._memory,)

    def _owns(self, entry: tuple[Any, ...]) -> bool:
        return True

    @property
    def tasks(self) -> list[Task]:
        """The tasks that this run started, at any depth, in the order of their start. Tasks of a nested flow belong to
        that flow. Empty with ``add_task_to_self=False``; otherwise the newest ``max_tasks``."""
        return list(self._memory.tasks)

    def add_flow_artifact(
        self, description: str | None = None, key: str | None = None, data: Any = None, artifact_type: str | None = None
    ) -> None:
        """Record an artifact: the OSBot-Utils name of :meth:`add_artifact`, with the same arguments."""
        self.add_artifact(description, key, data, artifact_type)

    def add_flow_result(self, key: str, description: object = "") -> None:
        """Record a result: the OSBot-Utils name of :meth:`add_result`, with the same arguments."""
        self.add_result(key, description)

    def to_dict(self) -> dict[str, Any]:
        """Return the run as a dict of plain data: see :meth:`Task.to_dict`. ``tasks`` is the list of its tasks."""
        return {**super().to_dict(), "tasks": [task.to_dict() for task in self.tasks]}


class Task(Executable):
    """One run of a step: a span, whose parent is the span that is current at the call.

    ``raise_on_error`` may be set before the execution. A task that has ended does not keep its flow in memory: its
    ``flow`` becomes None when no other reference to the Flow object is left.
    """

    _START: ClassVar[FlowRunEventType] = FlowRunEventType.TASK_START
    _STOP: ClassVar[FlowRunEventType] = FlowRunEventType.TASK_STOP

    _data: dict[str, Any] | None = None
    _own_memory: RunMemory | None = None
    _raise_on_error: bool | None = None

    def _new_spec(self, target: Any, name: str | None) -> Definition:
        return Definition("task", target, flow_class=Flow, task_class=Task, name=name)

    @property
    def flow(self) -> Flow[Any] | None:
        """The flow that this task belongs to; None outside a flow."""
        return self._own_flow()

    def _own_flow(self) -> Flow[Any] | None:
        if self._flow is not None:
            return self._flow  # type: ignore[no-any-return]
        return None if self._flow_ref is None else self._flow_ref()

    @property
    def raise_on_error(self) -> bool:
        """True if an exception reaches the caller. If False, an exception ends the task, and the call returns None."""
        return self._spec.raise_on_error if self._raise_on_error is None else self._raise_on_error

    @raise_on_error.setter
    def raise_on_error(self, raises: bool) -> None:
        self._raise_on_error = raises

    @property
    def run_id(self) -> str:
        """Identifier of this run."""
        if not self._number:
            self._number = next_run_number()
        return run_id("task_", self._number)

    @property
    def data(self) -> dict[str, Any]:
        """A dict of this task alone, injected as ``task_data``."""
        if self._data is None:
            self._data = {}
        return self._data

    def _reset(self) -> None:
        super()._reset()
        self._data = self._own_memory = None

    def _join(self, above: Any) -> None:
        flow = above if above is None or above._is_flow else above._own_flow()
        if flow is None:
            self._flow_ref, self._recorder = None, None if above is None else above._recorder
            return
        self._flow, self._flow_ref = flow, flow._ref
        if flow._recorder is not self._recorder:
            self._recorder = flow._recorder
        self._needs_injection = self._spec.needs_injection or flow._dependency_values or self._has_own_dependencies
        if flow._ended_ns:  # the task starts after its flow ended: its span has the right parent, the flow is closed
            counts.add(after_end_reason("task"))
            return
        memory = flow._memory
        next(memory.numbers)
        if flow._keeps_tasks:
            memory.tasks.append(self)

    def _start_attributes(self) -> SharedAttributes:
        flow_attributes = _ORPHAN if self._flow is None else self._flow._wire
        if self._given_name is None:
            return (self._spec.attributes, self._number, flow_attributes)
        return (
            self._spec.attributes,
            self._number,
            flow_attributes,
            {wire.TASK_NAME: scrub_and_truncate(self._given_name)[0]},
        )

    def _make_origin(self) -> tuple[Any, ...]:
        spec, flow = self._spec, self._flow
        names = _NO_FLOW if flow is None else flow._names
        return (spec.source, names, self._given_name or spec.name, self._number, self._span_context)

    def _inject(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
        spec, flow = self._spec, self._flow
        dependencies = None if flow is None else flow._dependency_values
        plan = spec.plan or spec.make_plan()
        if not (dependencies or plan.fixed or self._has_own_dependencies):
            return kwargs
        if self._has_own_dependencies:
            dependencies = {**(dependencies or _EMPTY), **self.dependencies()}
        return plan.fill(args, kwargs, self._injectable, dependencies, bound and spec.binds)

    def _injectable(self, name: str) -> Any:
        if name == "this_task":
            return self
        if name == "task_data":
            return self.data
        flow = self._flow
        return None if flow is None else flow if name == "this_flow" else flow.data

    def _send_end_messages(self) -> None:
        self._log_end(self._flow.flow_config, "Task", f"task '{self.name}'")

    def _record_error(self, error: BaseException, callable_kind: CallableKind) -> None:
        super()._record_error(error, callable_kind)
        if self.status == "failed" and self._flow is not None:
            self._flow._memory.count_failed_task()

    def _end_attributes(self) -> dict[str, Any]:
        return _EMPTY

    def _tolerates(self, error: BaseException) -> bool:
        return not self.raise_on_error and isinstance(error, Exception)

    def _task_number(self) -> tuple[str | None, int | None]:
        return self._given_name or self._spec.name, self._number

    def _title(self) -> str:
        return f"'{self.name}' task"

    @property
    def _target_memory(self) -> RunMemory:
        """The memory for this task's events: its flow's while that is running, otherwise its own."""
        flow = self._flow or self._own_flow()
        if flow is not None and not flow._ended_ns:
            return flow._memory
        if self._own_memory is None:
            self._own_memory = RunMemory(DEFAULT_CONFIG.max_messages, 0)
        return self._own_memory

    @property
    def _settings(self) -> FlowRunConfig:
        flow = self._flow or self._own_flow()
        return DEFAULT_CONFIG if flow is None else flow.flow_config

    @property
    def _captures(self) -> bool:
        flow = self._flow
        return flow is not None and flow._capturing

    def _memories(self) -> Iterable[RunMemory]:
        flow = self.flow
        memories = (None if flow is None else flow._memory, self._own_memory)
        return [memory for memory in memories if memory is not None]

    def _owns(self, entry: tuple[Any, ...]) -> bool:
        return bool(entry[-1] == self._number)


name_methods_after(Flow)
name_methods_after(Task)

_ORPHAN = {wire.TASK_ORPHAN: True}
_NO_FLOW = (None, None)


def current_flow() -> Flow[Any] | None:
    """Return the innermost flow that is running here; None outside a flow."""
    return None if (run := current_run()) is None else run._own_flow()


def current_task() -> Task | None:
    """Return the innermost task that is running here; None outside a task, also in the flow's own code."""
    run = current_run()
    return run if isinstance(run, Task) else None
