"""The original's Flow and Task: those of otelflow with the original's attribute names and log messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context

from otelflow import attributes as wire
from otelflow._events import emit
from otelflow._events.message import emit_message as emit_message
from otelflow._runs.callable_kind import CallableKind
from otelflow._runs.flow_and_task import Flow as MainFlow
from otelflow._runs.flow_and_task import Task as MainTask
from otelflow._runs.flow_and_task import current_flow
from otelflow._runs.run import Run
from otelflow._runtime import stdout_capture
from otelflow._runtime.log_once import log_once
from otelflow._runtime.run_ids import next_run_number, run_id
from otelflow._spans.shared_attributes import SharedAttributes
from otelflow._values.text import safe_str, scrub_long
from otelflow.compat._collectors import Flow_Data, Flow_Logger, Flow_Stats
from otelflow.compat._config import Flow_Run__Config
from otelflow.compat._events import flow_events
from otelflow.config import DEFAULT_CONFIG
from otelflow.context import RUN_KEY, attach, detach, get_current
from otelflow.errors import ConfigError, NothingToRun

__all__ = ["Flow", "Task", "reject_unknown"]

FLOW__RANDOM_ID__PREFIX = "flow_id__"
FLOW__RANDOM_NAME__PREFIX = "flow_name__"
TASK__RANDOM_ID__PREFIX = "task_id__"


def _new_id(prefix: str) -> str:
    return run_id(f"{prefix}_", next_run_number())


def reject_unknown(arguments: Mapping[str, Any], names: tuple[str, ...], owner: str) -> None:
    """Raise a ConfigError, which is a ValueError as in the original, for an argument that is not among ``names``."""
    for name in arguments:
        if name not in names:
            raise ConfigError(f"{owner} has no attribute {name!r}. It takes: {', '.join(names)}.")


def _set_subclass_fields(flow: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Set the attributes that a subclass declares by annotation, as the original's classes do. Return the others."""
    annotated = {name for cls in type(flow).__mro__ for name in vars(cls).get("__annotations__", {})}
    base = {name for cls in Flow.__mro__ for name in vars(cls).get("__annotations__", {})}
    for name in arguments.keys() & (annotated - base):
        setattr(flow, name, arguments[name])
    return {name: value for name, value in arguments.items() if name not in annotated - base}


class _LoggedRun(Run):
    """A run that logs as the original does: DEBUG messages for otelflow's events, and printed lines only at its end."""

    _pending_lines: list[str] | None = None

    def _line(self, line: str) -> None:
        self._pending_lines = [*(self._pending_lines or ()), line]

    def _flush_lines(self) -> None:
        super()._flush_lines()
        lines, self._pending_lines = self._pending_lines, None
        for line in lines or ():
            super()._line(line)

    def _log_end(self, config: Any, kind: str, what: str) -> None:
        value = self.return_value
        if self.status == "completed" and (value is not None or config.print_none_return_value):
            emit_message(self, 10, f"{kind} return value: {safe_str(value)}")
        if config.print_finished_message:
            emit_message(self, 10, f"Finished {what}")

    def _record_error(self, error: BaseException, callable_kind: CallableKind) -> None:
        super()._record_error(error, callable_kind)
        if self.status != "failed":
            return
        text = scrub_long(f"Error executing {self._title()}: {safe_str(error)}")
        if not any(str(message) == text for message in self.messages):  # type: ignore[attr-defined]
            emit_message(self, 40, text)  # otelflow logs an error once, where it began; the original at each level
        _print_red(text)


def _print_red(text: str) -> None:
    try:
        print(f"\x1b[31m{text}\x1b[0m", file=sys.stderr)
    except Exception as error:  # a closed stream
        log_once("stderr", "Could not print an error message to the standard error: %s", safe_str(error))


class Flow(_LoggedRun, MainFlow[Any]):
    """A flow with the original's names. Call ``setup``, then ``execute``.

    The arguments are ``flow_config`` (a ``Flow_Run__Config``), ``flow_id`` (the run id), ``flow_name``, and ``data`` (a
    dict that the flow and its tasks share). An unknown one raises :class:`otelflow.errors.ConfigError`, a ValueError.
    """

    _FIELDS = ("flow_config", "flow_id", "flow_name", "data")
    _prints_end_messages = True
    setup_completed = False
    flow_run_params: Any = None
    _blocks: tuple[Any, ...] = ()
    _unlisten: Any = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._has_own_main = False  # here main() is the default target of setup(), not a wrapper around the target

    def __init__(self, **arguments: Any) -> None:
        arguments = _set_subclass_fields(self, arguments)
        reject_unknown(arguments, self._FIELDS, type(self).__name__)
        self._given_run_id = arguments.get("flow_id") or None
        class_config: Any = type(self).flow_config
        default = Flow_Run__Config() if class_config is DEFAULT_CONFIG else class_config
        self.flow_config = arguments.get("flow_config") or default  # type: ignore[assignment]  # has the same fields
        self.captured_exec_logs: list[str] = []
        self.resolved_args: tuple[Any, ...] = ()
        self.resolved_kwargs: dict[str, Any] = {}
        self.flow_run_params = {}
        self.events: list[Any] = []
        self.logger, self.flow_stats, self.flow_data = Flow_Logger(self), Flow_Stats(self), Flow_Data(self)
        spec = self._new_spec(self.main, None)
        spec.name = arguments.get("flow_name") or ""
        self._prepare(spec, None, (), {}, bound=False)
        class_data: Any = getattr(type(self), "data", None)
        if arguments.get("data") is not None or isinstance(class_data, dict):
            self.data = arguments.get("data") or class_data

    # --- setting up --------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run id, in the original's form."""
        if self._given_run_id is None:
            self._given_run_id = _new_id(FLOW__RANDOM_ID__PREFIX)
        return self._given_run_id

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the target of a ``setup`` without one. Override it in a subclass."""

    def setup(self, target: Any = None, *args: Any, **kwargs: Any) -> Flow:
        """Set the function that the flow runs (default: ``main``), and its arguments. Return the flow."""
        target = self.main if target is None else target
        name = self._given_name or self._spec.name
        self._prepare(self._new_spec(target, None), target, args, kwargs, bound=False)
        if name:
            self.name = name
        self.setup_completed = True
        return self

    def set_flow_target(self, target: Any, *args: Any, **kwargs: Any) -> Flow:
        """Set the target. Same as ``setup``."""
        return self.setup(target, *args, **kwargs)

    def set_flow_name(self, value: str | None = None) -> None:
        """Name the flow. Without ``value``, keep its name, or use a random one if it has none."""
        if value or not self.name:
            self.name = value or _new_id(FLOW__RANDOM_NAME__PREFIX)

    def random_flow_id(self) -> str:
        """Return a new run id."""
        return _new_id(FLOW__RANDOM_ID__PREFIX)

    def random_flow_name(self) -> str:
        """Return a new flow name."""
        return _new_id(FLOW__RANDOM_NAME__PREFIX)

    def _nothing_to_run_error(self) -> Exception:
        return NothingToRun(
            "Error starting Flow, setup has not been called, use .setup(target, *args, **kwargs) to configure it"
        )

    def __enter__(self) -> Flow:
        """Make this the current flow, so that tasks called inside the block belong to it."""
        self._join(None)
        stdout_capture.start_capture()
        self._blocks = (*self._blocks, attach(Context({**get_current(), RUN_KEY: self})))
        return self

    def __exit__(self, *_: object) -> None:
        *blocks, innermost = self._blocks
        self._blocks = tuple(blocks)
        detach(innermost)
        stdout_capture.stop_capture()
        self._flow = None

    # --- the run -----------------------------------------------------------------------------------------------------

    def execute_flow(self, flow_run_params: Any = None) -> Flow:
        """Run the flow, log ``flow_run_params``, and add them as the artifact ``post-data``. Return the flow."""
        self.flow_run_params = flow_run_params or {}
        return self.execute()

    def _join(self, above: Any) -> None:
        super()._join(above)
        self._prints_end_messages = True
        if self.flow_config.flow_data__capture_events and self._unlisten is None:  # type: ignore[attr-defined]
            self.events = []
            self._unlisten = flow_events.listen(self._append_event)

    def _append_event(self, event: Any) -> None:
        if event.event_data.flow_run_id == self.run_id:
            self.events.append(event)

    def _begin(self) -> None:
        super()._begin()
        self.log_debug(f"Created flow run '{self.run_id}' for flow '{self.name}'")
        if self.flow_run_params:
            self.log_info(f"flow_run_params: {self.flow_run_params}")
            self.add_flow_artifact("Data received via FastAPI's request.json()", "post-data", self.flow_run_params)
        self.log_debug(f"Executing flow run '{self.run_id}'")

    def _inject(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
        self.resolved_args, self.resolved_kwargs = args, super()._inject(args, kwargs, bound)
        return self.resolved_kwargs

    def dependencies(self) -> Mapping[str, Any]:
        """Return ``task_dependencies()``."""
        return self.task_dependencies()

    def task_dependencies(self) -> dict[str, Any]:
        """Return more values to inject into tasks, by parameter name. Override it in a subclass."""
        return {}

    def _log_end(self, config: Any, kind: str, what: str) -> None:
        super()._log_end(config, kind, what)
        if self.status == "completed" and self.return_value is not None:
            self.add_flow_result("flow-return-value", safe_str(self.return_value))

    def _after_stop(self) -> None:
        if self.flow_config.log_to_memory:
            self.captured_exec_logs = self.log_messages_with_colors()
        super()._after_stop()
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    # --- logging -----------------------------------------------------------------------------------------------------

    def log_debug(self, message: object, /, task_run_id: str | None = None, **attributes: Any) -> None:
        """Log a message at DEBUG. ``task_run_id`` is not used."""
        emit_message(self, 10, message, attributes)

    def log_info(self, message: object, /, task_run_id: str | None = None, **attributes: Any) -> None:
        """Log a message at INFO. ``task_run_id`` is not used."""
        emit_message(self, 20, message, attributes)

    def log_error(self, message: object, /, task_run_id: str | None = None, **attributes: Any) -> None:
        """Log a message at ERROR. ``task_run_id`` is not used."""
        emit_message(self, 40, message, attributes)

    def log_messages_with_colors(self) -> list[str]:
        """Return the messages with their terminal colours, without the 'Created flow run' line."""
        return [message.raw for message in self.messages if not message.startswith("Created flow run '")]

    def log_messages(self) -> list[str]:
        """Return the messages as plain text, without the 'Created flow run' line."""
        return [message.text for message in self.messages if not message.startswith("Created flow run '")]

    def captured_logs(self) -> list[str]:
        """Return the messages as plain text; an empty list before the end of the run or without ``log_to_memory``."""
        return self.log_messages() if self._ended_ns and self.flow_config.log_to_memory else []

    def print_log_messages(self, use_colors: bool = True) -> Flow:
        """Print the messages to the standard output. Return the flow."""
        emit.console("\n")
        for line in self.log_messages_with_colors() if use_colors else self.log_messages():
            emit.console(line)
        return self

    # --- reading -----------------------------------------------------------------------------------------------------

    flow_id = property(lambda self: self.run_id, lambda self, value: setattr(self, "_given_run_id", value))
    flow_name = property(lambda self: self.name, lambda self, value: setattr(self, "name", value))
    flow_error = property(lambda self: self.error, lambda self, value: setattr(self, "error", value))
    flow_return_value = property(
        lambda self: self.return_value, lambda self, value: setattr(self, "return_value", value)
    )
    flow_target = property(lambda self: self._function)
    flow_args = property(lambda self: self._args)
    flow_kwargs = property(lambda self: self._kwargs)
    executed_tasks = property(lambda self: self.tasks)

    def durations(self) -> dict[str, Any]:
        """Return the duration of the flow and of its tasks by name, in seconds; an empty dict before the run."""
        return self.flow_stats.durations()

    def durations__with_tasks_status(self) -> dict[str, Any]:
        """Return durations in seconds, and statuses, by order of start from 1; an empty dict before the run."""
        return self.flow_stats.durations__with_tasks_status()

    def flow_output(self) -> dict[str, Any]:
        """Return the return value of the flow, and its durations in seconds."""
        return {"output": self.return_value, "durations": self.durations()}

    def json(self) -> dict[str, Any]:
        """Return the whole run as plain data. Times are in milliseconds since 1970."""
        return self.flow_data.json()


Flow._has_own_main = False


class Task(_LoggedRun, MainTask):
    """A task with the original's names. Call ``execute__sync`` or ``execute__async``.

    The arguments are ``task_target`` (the function), ``task_args`` and ``task_kwargs`` (its arguments), ``task_name``,
    ``task_id`` (the run id), ``task_flow`` (the flow of the task, if none is current where it runs), ``raise_on_error``
    (if False, an exception ends the task and the caller gets None), and ``data`` (a dict of this task alone). An
    unknown one raises :class:`otelflow.errors.ConfigError`, a ValueError.
    """

    _FIELDS = ("task_target", "task_args", "task_kwargs", "task_name", "task_id", "task_flow", "raise_on_error", "data")
    task_target: Any = None
    task_args: tuple[Any, ...] = ()
    task_kwargs: Mapping[str, Any] = {}
    resolved_args: tuple[Any, ...] = ()
    resolved_kwargs: Mapping[str, Any] = {}
    _task_id: str | None = None

    def __init__(self, **arguments: Any) -> None:
        reject_unknown(arguments, self._FIELDS, type(self).__name__)
        for name, value in arguments.items():
            setattr(self, "_data" if name == "data" else name, value)
        self._prepare_target()

    @classmethod
    def _create(cls, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
        return cls.__new__(cls)

    def _prepare_target(self) -> None:
        spec = self._new_spec(self.task_target or self.execute__sync, None)
        self._prepare(spec, self.task_target, tuple(self.task_args), dict(self.task_kwargs), bound=False)

    @property
    def run_id(self) -> str:
        """The run id, in the original's form."""
        if self._task_id is None:
            self._task_id = _new_id(TASK__RANDOM_ID__PREFIX)
        return self._task_id

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute__sync(self) -> Any:
        """Run the target. Return its return value."""
        self._prepare_target()
        return self.execute().return_value

    async def execute__async(self) -> Any:
        """Run the target on the running event loop. Return its return value."""
        self._prepare_target()
        return (await self.execute_async()).return_value

    def find_flow(self) -> MainFlow[Any] | None:
        """Return the current flow, or None."""
        return current_flow()

    def random_task_id(self) -> str:
        """Return a new run id."""
        return _new_id(TASK__RANDOM_ID__PREFIX)

    def _join(self, above: Any) -> None:
        super()._join(above)
        if self._flow is None and self._task_flow is not None:
            self._flow, self._flow_ref = self._task_flow, getattr(self._task_flow, "_ref", None)

    _task_flow: Any = None

    def _start_attributes(self) -> SharedAttributes:
        return (*super()._start_attributes(), {wire.TASK_RUN_ID: self.run_id})

    def _make_origin(self) -> tuple[Any, ...]:
        source, names, name, _, context = super()._make_origin()
        return (source, names, name, self.run_id, context)

    def _begin(self) -> None:
        super()._begin()
        self.log_debug(f"Executing task '{self.name}'")

    def _inject(self, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool) -> dict[str, Any]:
        self.task_args, self.task_kwargs = args, kwargs
        self.resolved_args, self.resolved_kwargs = args, super()._inject(args, kwargs, bound)
        return self.resolved_kwargs

    task_id = property(lambda self: self.run_id, lambda self, value: setattr(self, "_task_id", value or None))
    task_name = property(lambda self: self.name, lambda self, value: setattr(self, "_given_name", value or None))
    task_flow = property(lambda self: self.flow, lambda self, value: setattr(self, "_task_flow", value))
    task_error = property(lambda self: self.error)
    task_return_value = property(lambda self: self.return_value)
