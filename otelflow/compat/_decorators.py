"""The original's decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otelflow import decorators
from otelflow._runs.wrapper import Wrapper
from otelflow.compat._flow import Flow, Task, check

__all__ = ["flow", "task"]


def flow(function: Any = None, /, **given: Any) -> Any:
    """Make each call of a function a flow that is set up and not executed: ``flow_config``, ``flow_id``, ``flow_name``,
    ``data`` may be given; anything else is a ValueError."""
    check(given, Flow._TAKES, "Flow")

    def decorate(target: Any) -> Callable[..., Flow]:
        def prepare(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow:
            return Flow(**given).setup(wrapped, *args, **kwargs)

        return Wrapper(target, prepare)

    return decorate if function is None else decorate(function)


def task(function: Any = None, /, **given: Any) -> Any:
    """Make each call of a function a task: ``raise_on_error``, ``task_name``, ``task_id`` may be given."""
    check(given, ("raise_on_error", "task_name", "task_id"), "Task")

    class Given(Task):
        _given_id = given.get("task_id")

    Given.__name__ = Given.__qualname__ = "Task"
    decorate = decorators.task(
        name=given.get("task_name"),
        raise_on_error=given.get("raise_on_error", True),
        cls=Given if given.get("task_id") else Task,
    )
    return decorate if function is None else decorate(function)
