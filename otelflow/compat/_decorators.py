"""The original's decorators ``flow`` and ``task``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelflow import decorators
from otelflow._runs.wrapper import Wrapper
from otelflow.compat._flow import Flow, Task, reject_unknown

__all__ = ["flow", "task"]


def flow(function: Any = None, /, **arguments: Any) -> Any:
    """Decorate a function so that each call returns a flow that is set up but not executed.

    Args:
        function: The function, if the decorator is used without parentheses.
        arguments: ``flow_config``, ``flow_id``, ``flow_name`` and ``data`` of the flow.

    Returns:
        The decorated function. Without ``function``, a decorator.

    Raises:
        otelflow.errors.ConfigError: An argument is unknown. It is a ``ValueError``.
    """
    reject_unknown(arguments, Flow._FIELDS, "Flow")

    def decorate(target: Any) -> Callable[..., Flow]:
        def prepare(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow:
            return Flow(**arguments).setup(wrapped, *args, **kwargs)

        return Wrapper(target, prepare)

    return decorate if function is None else decorate(function)


def task(function: Any = None, /, **arguments: Any) -> Any:
    """Decorate a function so that each call runs as a task.

    Args:
        function: The function, if the decorator is used without parentheses.
        arguments: ``raise_on_error``, ``task_name`` and ``task_id`` of the task.

    Returns:
        The decorated function. Without ``function``, a decorator.

    Raises:
        otelflow.errors.ConfigError: An argument is unknown. It is a ``ValueError``.
    """
    reject_unknown(arguments, ("raise_on_error", "task_name", "task_id"), "Task")

    class TaskWithId(Task):
        _task_id = arguments.get("task_id")

    TaskWithId.__name__ = TaskWithId.__qualname__ = "Task"
    decorate = decorators.task(
        name=arguments.get("task_name"),
        raise_on_error=arguments.get("raise_on_error", True),
        cls=TaskWithId if arguments.get("task_id") else Task,
    )
    return decorate if function is None else decorate(function)
