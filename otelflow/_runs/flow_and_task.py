"""Flow and Task: the two kinds of run that a user meets, and how to find the current ones."""

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
from otelflow._runs.executable import Executable
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
_NOTHING: dict[str, Any] = {}


class Flow(Executable, Generic[R]):
    """One run of a unit of work: a span, usually the root of its trace, and what happened in it.

    ``name``, ``flow_config`` and ``data`` (a dict that the flow and its tasks share) may be set before it is executed.
    A subclass may set ``name`` and ``flow_config`` on the class, and override ``main``, ``on_start``, ``on_stop`` and
    ``dependencies``. Executed again, it starts clean, under a new ``run_id``.
    """

    __slots__ = (
        "_capturing",
        "_dependency_values",
        "_keeps_tasks",
        "_prints_end_messages",
    )  # what its tasks read: see Run

    _START: ClassVar[FlowRunEventType] = FlowRunEventType.FLOW_START
    _STOP: ClassVar[FlowRunEventType] = FlowRunEventType.FLOW_STOP

    _is_flow = True
    flow_config: FlowRunConfig = DEFAULT_CONFIG
    data: dict[str, Any]
    _memory: RunMemory
    return_value: R | None = None

    _given_run_id: str | None = None
    _dependency_values: Mapping[str, Any] | None
    _account: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    """Tasks started, failed, too short for a span; tasks and messages that the bounds kept out of memory."""
    _first_data: dict[str, Any]
    _transparent: bool = False
    _capturing: bool
    _keeps_tasks: bool
    _prints_end_messages: bool
    """Whether the configuration asks for messages when a run ends."""

    def _blank(self) -> None:
        super()._blank()
        self._dependency_values = None
        self._capturing = self._prints_end_messages = False
        self._keeps_tasks = True

    # --- before the run -----------------------------------------------------------------------------------------

    def _new_spec(self, target: Any, name: str | None) -> Definition:
        return Definition("flow", target, flow_class=Flow, task_class=Task, name=name)

    def _prepare(
        self, spec: Definition, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
    ) -> None:
        if spec.config is not None:
            self.flow_config = spec.config
        if "data" not in self.__dict__:  # a subclass may have put something there
            self.data = {}
        if "_memory" not in self.__dict__ or not self._memory.messages:
            self._memory = self._new_memory()
        super()._prepare(spec, target, args, kwargs, bound)

    def _new_memory(self) -> RunMemory:
        return RunMemory(self.flow_config.max_messages, self.flow_config.max_tasks)

    def _start_clean(self) -> None:
        super()._start_clean()
        self._given_run_id = self._dependency_values = None
        self.data = dict(self._first_data)
        self._memory = self._new_memory()

    @property
    def run_id(self) -> str:
        """Identifier of this run; a new one for each execution."""
        if self._given_run_id is None:
            self._given_run_id = run_id("flow_", next_run_number())
        return self._given_run_id

    # --- the run ------------------------------------------------------------------------------------------------

    def _own_flow(self) -> Flow[Any]:
        return self

    def _join(self, above: Run | None) -> None:
        self._flow, self._relay = self, None if above is None else above._relay
        self._is_outermost = above is None or self._spec.new_trace
        self._first_data = dict(self.data)
        self._ref = weakref.ref(self)
        self._wire = {wire.FLOW_NAME: scrub_and_truncate(self.name)[0], wire.FLOW_RUN_ID: self.run_id}
        config = self.flow_config
        self._keeps_tasks = config.add_task_to_self
        self._prints_end_messages = config.print_none_return_value or config.print_finished_message
        self._capturing = not self._transparent if config.capture_output is None else config.capture_output

    def _capture(self) -> None:
        if self._capturing:
            stdout_capture.start_capture()
        markers.opened(self)

    def _start_span(self, source: TracerSource, context: Context) -> Span | None:
        above = get_current_span(context)
        if not self._spec.new_trace or not above.get_span_context().is_valid:
            return super()._start_span(source, context)
        self._links = [Link(above.get_span_context())]
        span = super()._start_span(source, set_span_in_context(INVALID_SPAN, context))
        if span is not None and above.is_recording():
            above.add_link(span.get_span_context())
        elif span is not None and self._relay is not None:
            self._relay.linked(span.get_span_context())
        return span

    def _start_attributes(self) -> SharedAttributes:
        return (*attributes_from_baggage(), self._spec.attributes, self._wire)

    def _with_baggage(self, context: Context) -> Context:
        key = baggage_key()
        return Context({**context, key: {**context.get(key, _NOTHING), **self._wire}})  # type: ignore[dict-item]

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

    def _before_stop(self) -> None:
        self._say_end(self.flow_config, "Flow", f"flow run '{self.run_id}'")

    def _settle(self) -> None:
        self._account = self._memory.settle(self._keeps_tasks)

    def _after_stop(self) -> None:
        markers.open.pop(self._number, None)
        if self._capturing:
            stdout_capture.stop_capture()
        if self.flow_config.print_logs:
            for message in self.messages:
                emit.console(message.raw)

    def _end_attributes(self) -> dict[str, Any]:
        started, failed, short, tasks, messages = self._account
        made: dict[str, Any] = {wire.FLOW_TASKS: started, wire.FLOW_TASKS_FAILED: failed}
        if short:
            made[wire.DROPPED_SHORT_TASKS] = short
        if tasks:
            made[wire.DROPPED_TASKS] = tasks
        if messages:
            made[wire.DROPPED_MESSAGES] = messages
        return made

    def _tolerates(self, error: BaseException) -> bool:
        return not self.flow_config.raise_flow_error and isinstance(error, Exception)

    def _task_number(self) -> tuple[str | None, int | None]:
        return None, None

    def _title(self) -> str:
        return "flow"

    @property
    def _journal(self) -> RunMemory:
        return self._memory

    @property
    def _settings(self) -> FlowRunConfig:
        return self.flow_config

    @property
    def _captures(self) -> bool:
        return self._capturing

    # --- what a user reads --------------------------------------------------------------------------------------

    def _journals(self) -> Iterable[RunMemory]:
        return (self._memory,)

    def _owns(self, kept: tuple[Any, ...]) -> bool:
        return True

    @property
    def tasks(self) -> list[Task]:
        """The tasks that this run started, at any depth, in the order of their start. Those of a nested flow are its
        own. Empty with ``add_task_to_self=False``; the newest ``max_tasks`` otherwise."""
        return list(self._memory.tasks)

    def add_flow_artifact(
        self, description: str | None = None, key: str | None = None, data: Any = None, artifact_type: str | None = None
    ) -> None:
        """The seed's name for :meth:`add_artifact`."""
        self.add_artifact(description, key, data, artifact_type)

    def add_flow_result(self, key: str, description: object = "") -> None:
        """The seed's name for :meth:`add_result`."""
        self.add_result(key, description)

    def to_dict(self) -> dict[str, Any]:
        """The run and its tasks as plain data: every value is a str, number, bool, None, list or dict."""
        return {**super().to_dict(), "tasks": [task.to_dict() for task in self.tasks]}


class Task(Executable):
    """One step: a span, a child of whatever span is current where it is called.

    ``raise_on_error`` may be set before it is executed. A task that has ended does not keep its flow in memory: its
    ``flow`` is None once nobody else holds the Flow object.
    """

    _START: ClassVar[FlowRunEventType] = FlowRunEventType.TASK_START
    _STOP: ClassVar[FlowRunEventType] = FlowRunEventType.TASK_STOP

    _data: dict[str, Any] | None = None
    _own: RunMemory | None = None
    _raises: bool | None = None

    def _new_spec(self, target: Any, name: str | None) -> Definition:
        return Definition("task", target, flow_class=Flow, task_class=Task, name=name)

    @property
    def flow(self) -> Flow[Any] | None:
        """The flow that this task belongs to; None outside any."""
        return self._own_flow()

    def _own_flow(self) -> Flow[Any] | None:
        if self._flow is not None:
            return self._flow  # type: ignore[no-any-return]
        return None if self._flow_ref is None else self._flow_ref()

    @property
    def raise_on_error(self) -> bool:
        """Whether an exception reaches the caller. When False, it ends the task, and the call returns None."""
        return self._spec.raise_on_error if self._raises is None else self._raises

    @raise_on_error.setter
    def raise_on_error(self, raises: bool) -> None:
        self._raises = raises

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

    # --- the run ------------------------------------------------------------------------------------------------

    def _start_clean(self) -> None:
        super()._start_clean()
        self._data = self._own = None

    def _join(self, above: Any) -> None:
        flow = above if above is None or above._is_flow else above._own_flow()
        if flow is None:
            self._flow_ref, self._relay = None, None if above is None else above._relay
            return
        self._flow, self._flow_ref = flow, flow._ref
        if flow._relay is not self._relay:
            self._relay = flow._relay
        self._needs_injection = self._spec.needs_injection or flow._dependency_values or self._own_dependencies
        if flow._ended_ns:  # a task that outlives its flow: its span has the right parent, the Flow object is closed
            counts.add(after_end_reason("task"))
            return
        memory = flow._memory
        next(memory.numbers)
        if flow._keeps_tasks:
            memory.tasks.append(self)

    def _start_attributes(self) -> SharedAttributes:
        above = _ORPHAN if self._flow is None else self._flow._wire
        if self._given_name is None:
            return (self._spec.attributes, self._number, above)
        return (self._spec.attributes, self._number, above, {wire.TASK_NAME: scrub_and_truncate(self._given_name)[0]})

    def _make_origin(self) -> tuple[Any, ...]:
        spec, flow = self._spec, self._flow
        names = _NO_FLOW if flow is None else flow._names
        return (spec.source, names, self._given_name or spec.name, self._number, self._span_context)

    def _inject(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
        spec, flow = self._spec, self._flow
        given = None if flow is None else flow._dependency_values
        plan = spec.plan or spec.make_plan()
        if not (given or plan.fixed or self._own_dependencies):
            return kwargs
        if self._own_dependencies:
            given = {**(given or _NOTHING), **self.dependencies()}
        return plan.fill(args, kwargs, self._injectable, given, bound and spec.binds)

    def _injectable(self, name: str) -> Any:
        if name == "this_task":
            return self
        if name == "task_data":
            return self.data
        flow = self._flow
        return None if flow is None else flow if name == "this_flow" else flow.data

    def _before_stop(self) -> None:
        self._say_end(self._flow.flow_config, "Task", f"task '{self.name}'")

    def _closed_by(self, error: BaseException, shape: CallableKind) -> None:
        super()._closed_by(error, shape)
        if self.status == "failed" and self._flow is not None:
            self._flow._memory.task_failed()

    def _end_attributes(self) -> dict[str, Any]:
        return _NOTHING

    def _tolerates(self, error: BaseException) -> bool:
        return not self.raise_on_error and isinstance(error, Exception)

    def _task_number(self) -> tuple[str | None, int | None]:
        return self._given_name or self._spec.name, self._number

    def _title(self) -> str:
        return f"'{self.name}' task"

    @property
    def _journal(self) -> RunMemory:
        """Where this task keeps things: its flow's journal while that runs, else one of its own."""
        flow = self._flow or self._own_flow()
        if flow is not None and not flow._ended_ns:
            return flow._memory
        if self._own is None:
            self._own = RunMemory(DEFAULT_CONFIG.max_messages, 0)
        return self._own

    @property
    def _settings(self) -> FlowRunConfig:
        flow = self._flow or self._own_flow()
        return DEFAULT_CONFIG if flow is None else flow.flow_config

    @property
    def _captures(self) -> bool:
        flow = self._flow
        return flow is not None and flow._capturing

    # --- what a user reads --------------------------------------------------------------------------------------

    def _journals(self) -> Iterable[RunMemory]:
        flow = self.flow
        kept = (None if flow is None else flow._memory, self._own)
        return [journal for journal in kept if journal is not None]

    def _owns(self, kept: tuple[Any, ...]) -> bool:
        return bool(kept[-1] == self._number)


_ORPHAN = {wire.TASK_ORPHAN: True}
_NO_FLOW = (None, None)


def current_flow() -> Flow[Any] | None:
    """The flow that is running here: the innermost one; None outside any."""
    return None if (run := current_run()) is None else run._own_flow()


def current_task() -> Task | None:
    """The task that is running here: the innermost one; None outside any, and in the flow's own code."""
    run = current_run()
    return run if isinstance(run, Task) else None
