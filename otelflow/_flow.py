"""Flow and Task: the two kinds of run that a user meets, and how to find the current ones."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, get_current_span, set_span_in_context

from otelflow import _emit, _stdout
from otelflow import attributes as wire
from otelflow._counts import after_end, counts
from otelflow._execute import Executable
from otelflow._journal import Journal
from otelflow._naming import next_order, run_id
from otelflow._run import Run
from otelflow._shapes import Shape
from otelflow._spec import Spec
from otelflow._telemetry import Source
from otelflow._values import cut, to_json
from otelflow.config import DEFAULT_CONFIG, FlowRunConfig
from otelflow.context import current_run
from otelflow.events import FlowRunEventType
from otelflow.records import Artifact, Keyed, Message, Result

__all__ = ["Flow", "Task", "current_flow", "current_task"]

R = TypeVar("R")


class Flow(Executable, Generic[R]):
    """One run of a unit of work: a span, usually the root of its trace, and what happened in it.

    ``name``, ``flow_config`` and ``data`` (a dict that the flow and its tasks share) may be set before it is executed.
    A subclass may set ``name`` and ``flow_config`` on the class, and override ``main``, ``on_start``, ``on_stop`` and
    ``dependencies``. Executed again, it starts clean, under a new ``run_id``.
    """

    _START: ClassVar = FlowRunEventType.FLOW_START
    _STOP: ClassVar = FlowRunEventType.FLOW_STOP

    flow_config: FlowRunConfig = DEFAULT_CONFIG
    return_value: R | None
    _capture_default: ClassVar[bool] = True

    # --- before the run ----------------------------------------------------------------------------------------------

    def _new_spec(self, target: Any, name: str | None) -> Spec:
        return Spec("flow", target, flow_class=Flow, task_class=Task, name=name)

    def _prepare(self, spec: Spec, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> None:
        self.name = _name_of(self, spec)
        self.data: dict[str, Any] = {}
        self._given_run_id: str | None = None
        self._first_data: dict[str, Any] = {}
        if spec.config is not None:
            self.flow_config = spec.config
        self._memory = Journal(self.flow_config.max_messages, self.flow_config.max_tasks)
        self._tasks_started = self._tasks_failed = 0
        self._dependency_values: Mapping[str, Any] | None = None
        self._capturing = self._transparent = False
        super()._prepare(spec, target, args, kwargs, bound)

    @property
    def run_id(self) -> str:
        """Identifier of this run; a new one for each execution."""
        if self._given_run_id is None:
            self._given_run_id = run_id("flow_", next_order())
        return self._given_run_id

    # --- the run -----------------------------------------------------------------------------------------------------

    @property
    def _flow(self) -> Flow[Any]:
        return self

    def _join(self, above: Run | None) -> None:
        if self._started_ns:  # executed before: start clean
            self._given_run_id = None
            self.data = dict(self._first_data)
            self._memory = Journal(self.flow_config.max_messages, self.flow_config.max_tasks)
        else:
            self._first_data = dict(self.data)
        self._dependency_values = None
        self._ref = weakref.ref(self)
        self._wire = {wire.FLOW_NAME: cut(self.name)[0], wire.FLOW_RUN_ID: self.run_id}
        capture = self.flow_config.capture_output
        self._capturing = not self._transparent if capture is None else capture
        if self._capturing:
            _stdout.start_capture()

    def _start_span(self, source: Source, context: Context) -> Span | None:
        if not self._spec.new_trace:
            return super()._start_span(source, context)
        above = get_current_span(context)
        if not above.get_span_context().is_valid:
            return super()._start_span(source, context)
        self._links = [Link(above.get_span_context())]
        span = super()._start_span(source, set_span_in_context(INVALID_SPAN, context))
        if span is not None:
            above.add_link(span.get_span_context())
        return span

    def _start_attributes(self) -> dict[str, Any]:
        return {**self._spec.attributes, **self._wire}

    def _context_below(self, context: Context) -> Context:
        for name, value in self._wire.items():
            context = baggage.set_baggage(name, value, context)
        return context

    def _make_origin(self) -> tuple[Any, ...]:
        return (self._spec.source, self.name, self.run_id, None, None, self._span_context)

    def _close(self, value: Any, error: BaseException | None, shape: Shape = Shape.CALL) -> bool:
        try:
            return super()._close(value, error, shape)
        finally:
            if self._capturing:
                _stdout.stop_capture()
            if self.flow_config.print_logs:
                for message in self.messages:
                    _emit.console(message.raw)

    def _before_stop(self) -> None:
        if self.status == "completed" and self.return_value is None and self.flow_config.print_none_return_value:
            self.log_info("Flow return value: None")
        if self.flow_config.print_finished_message:
            self.log_info(f"Finished flow run '{self.run_id}'")

    def _end_attributes(self) -> dict[str, Any]:
        memory = self._memory
        self._tasks_started, self._tasks_failed = memory.task_count(), memory.tasks_failed
        made: dict[str, Any] = {wire.FLOW_TASKS: self._tasks_started, wire.FLOW_TASKS_FAILED: self._tasks_failed}
        if memory.dropped_messages:
            made[wire.DROPPED_MESSAGES] = memory.dropped_messages
        if self.flow_config.add_task_to_self and self._tasks_started > len(memory.tasks):
            made[wire.DROPPED_TASKS] = self._tasks_started - len(memory.tasks)
        return made

    def _tolerates(self, error: BaseException) -> bool:
        return not self.flow_config.raise_flow_error and isinstance(error, Exception)

    def _task_identity(self) -> tuple[str | None, str | None]:
        return None, None

    def _title(self) -> str:
        return "flow"

    @property
    def _journal(self) -> Journal:
        return self._memory

    @property
    def _settings(self) -> FlowRunConfig:
        return self.flow_config

    @property
    def _captures(self) -> bool:
        return self._capturing

    def _all_dependencies(self) -> Mapping[str, Any]:
        if self._dependency_values is None:
            self._dependency_values = {**self._spec.dependencies, **self.dependencies()}
        return self._dependency_values

    def _injectable(self, name: str) -> Any:
        return self if name == "this_flow" else self.data if name == "flow_data" else None

    # --- what a user reads -------------------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Task]:
        """The tasks that this run started, at any depth, in the order of their start. Those of a nested flow are its
        own. Empty with ``add_task_to_self=False``; the newest ``max_tasks`` otherwise."""
        return list(self._memory.tasks)

    @property
    def messages(self) -> list[Message]:
        """Messages of this run and of its tasks, the newest ``max_messages``, as ``str`` with more facts on them."""
        return list(self._memory.messages)

    @property
    def artifacts(self) -> Keyed[Artifact]:
        """Artifacts of this run and of its tasks: ``artifacts[0]`` or ``artifacts["key"]``."""
        return Keyed(self._memory.artifacts)

    @property
    def results(self) -> Keyed[Result]:
        """Results of this run and of its tasks: ``results[0]`` or ``results["key"]``."""
        return Keyed(self._memory.results)

    def add_flow_artifact(
        self, description: str | None = None, key: str | None = None, data: Any = None, artifact_type: str | None = None
    ) -> None:
        """The seed's name for :meth:`add_artifact`."""
        self.add_artifact(description, key, data, artifact_type)

    def add_flow_result(self, key: str, description: object = "") -> None:
        """The seed's name for :meth:`add_result`."""
        self.add_result(key, description)

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data: every value is a str, number, bool, None, list or dict."""
        return {
            **_described(self),
            "tasks": [task.to_dict() for task in self.tasks],
            "messages": [{"text": m.text, "severity": m.severity, "task_name": m.task_name} for m in self.messages],
            "artifacts": [
                {"key": a.key, "type": a.type, "description": a.description, "data": to_json(a.data).text}
                for a in self.artifacts
            ],
            "results": [{"key": r.key, "description": r.description} for r in self.results],
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.status}{_seconds(self)}, {len(self._memory.tasks)} tasks>"


class Task(Executable):
    """One step: a span, a child of whatever span is current where it is called.

    ``raise_on_error`` may be set before it is executed; ``flow`` is the flow that it belongs to, None outside any, and
    None once that flow's object is gone (a finished task does not keep its flow in memory).
    """

    __slots__ = ("_data", "_flow", "_flow_ref", "_own", "raise_on_error")

    _START: ClassVar = FlowRunEventType.TASK_START
    _STOP: ClassVar = FlowRunEventType.TASK_STOP
    _own_dependencies: ClassVar[bool] = False

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        cls._own_dependencies = cls.dependencies is not Run.dependencies

    def _new_spec(self, target: Any, name: str | None) -> Spec:
        return Spec("task", target, flow_class=Flow, task_class=Task, name=name)

    def _prepare(self, spec: Spec, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> None:
        self._for_call(spec)
        super()._prepare(spec, target, args, kwargs, bound)

    def _for_call(self, spec: Spec) -> None:
        """Set up for one call, the driver holding function and arguments."""
        self._spec = spec
        self.name = spec.name if type(self) is Task else _name_of(self, spec)
        self.raise_on_error = spec.raise_on_error
        self._flow = self._flow_ref = self._data = self._own = None

    @property
    def flow(self) -> Flow[Any] | None:
        if self._flow is not None:
            return self._flow  # type: ignore[no-any-return]
        return None if self._flow_ref is None else self._flow_ref()

    @property
    def run_id(self) -> str:
        """Identifier of this run."""
        if not self._order:
            self._order = next_order()
        return run_id("task_", self._order)

    @property
    def data(self) -> dict[str, Any]:
        """A dict of this task alone, injected as ``task_data``."""
        if self._data is None:
            self._data = {}
        return self._data

    # --- the run -----------------------------------------------------------------------------------------------------

    def _join(self, above: Any) -> None:
        flow = None if above is None else above._flow or above.flow
        self._flow = flow
        if flow is None:
            self._flow_ref = None
            return
        self._flow_ref = flow._ref
        if flow._ended_ns:  # a task that outlives its flow: its span has the right parent, the Flow object is closed
            counts.add(after_end("task"))
        else:
            flow._memory.add_task(self, flow.flow_config.add_task_to_self)

    def _start_attributes(self) -> dict[str, Any]:
        flow = self._flow
        made = {**self._spec.attributes, wire.TASK_RUN_ID: run_id("task_", self._order)}
        if self.name is not self._spec.name:
            made[wire.TASK_NAME] = cut(self.name)[0]
        if flow is None:
            made[wire.TASK_ORPHAN] = True
        else:
            made.update(flow._wire)
        return made

    def _make_origin(self) -> tuple[Any, ...]:
        flow = self._flow
        if flow is None:
            return (self._spec.source, None, None, self.name, self._order, self._span_context)
        return (self._spec.source, flow.name, flow.run_id, self.name, self._order, self._span_context)

    def _close(self, value: Any, error: BaseException | None, shape: Shape = Shape.CALL) -> bool:
        try:
            return super()._close(value, error, shape)
        finally:
            self._flow = None

    def _before_stop(self) -> None:
        flow = self._flow
        if flow is None:
            return
        if self.status == "failed":
            flow._memory.task_failed()
        config = flow.flow_config
        if config.print_none_return_value and self.status == "completed" and self.return_value is None:
            self.log_info("Task return value: None")
        if config.print_finished_message:
            self.log_info(f"Finished task '{self.name}'")

    def _tolerates(self, error: BaseException) -> bool:
        return not self.raise_on_error and isinstance(error, Exception)

    def _task_identity(self) -> tuple[str | None, str | None]:
        return self.name, self.run_id

    def _title(self) -> str:
        return f"'{self.name}' task"

    @property
    def _journal(self) -> Journal:
        flow = self.flow
        if flow is not None and not flow._ended_ns:
            return flow._memory
        if self._own is None:
            self._own = Journal(DEFAULT_CONFIG.max_messages, 0)
        return self._own

    @property
    def _settings(self) -> FlowRunConfig:
        flow = self.flow
        return DEFAULT_CONFIG if flow is None else flow.flow_config

    @property
    def _captures(self) -> bool:
        return self._flow is not None and self._flow._capturing

    def _all_dependencies(self) -> Mapping[str, Any] | None:
        given = None if self._flow is None else self._flow._all_dependencies()
        return {**(given or {}), **self.dependencies()} if self._own_dependencies else given

    def _injectable(self, name: str) -> Any:
        if name == "this_task":
            return self
        if name == "task_data":
            return self.data
        flow = self._flow
        return None if flow is None else flow if name == "this_flow" else flow.data

    # --- what a user reads -------------------------------------------------------------------------------------------

    def _journals(self) -> list[Journal]:
        flow = self.flow
        return [journal for journal in (flow._memory if flow is not None else None, self._own) if journal is not None]

    def _owns(self, kept: Message | Artifact | Result) -> bool:
        return kept.task_run_id == self.run_id

    @property
    def messages(self) -> list[Message]:
        """Messages of this task."""
        return [message for journal in self._journals() for message in journal.messages if self._owns(message)]

    @property
    def artifacts(self) -> Keyed[Artifact]:
        """Artifacts of this task: ``artifacts[0]`` or ``artifacts["key"]``."""
        return Keyed(item for journal in self._journals() for item in journal.artifacts if self._owns(item))

    @property
    def results(self) -> Keyed[Result]:
        """Results of this task: ``results[0]`` or ``results["key"]``."""
        return Keyed(item for journal in self._journals() for item in journal.results if self._owns(item))

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data: every value is a str, number, bool, None, list or dict."""
        return _described(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.status}{_seconds(self)}>"


def _name_of(run: Run, spec: Spec) -> str:
    """The name given to the decorator, else the one that a subclass sets, else the function's."""
    own = getattr(type(run), "name", None)
    return own if isinstance(own, str) and not spec.is_named else spec.name


def _seconds(run: Executable) -> str:
    return "" if run.duration is None else f" {'in' if run._ended_ns else 'for'} {run.duration:.3f} s"


def _described(run: Flow[Any] | Task) -> dict[str, Any]:
    return {
        "name": run.name,
        "run_id": run.run_id,
        "status": run.status,
        "duration": run.duration,
        "error": None if run.error is None else f"{type(run.error).__name__}: {_emit.safe_str(run.error)}",
        "return_value": to_json(run.return_value).text,
        "trace_id": run.trace_id,
        "span_id": run.span_id,
    }


def current_flow() -> Flow[Any] | None:
    """The flow that is running here: the innermost one; None outside any."""
    run = current_run()
    return None if run is None else run._flow or run.flow


def current_task() -> Task | None:
    """The task that is running here: the innermost one; None outside any, and in the flow's own code."""
    run = current_run()
    return run if isinstance(run, Task) else None
