"""The original's statistics, data and logger objects of a flow: views that read the flow when they are called."""

from __future__ import annotations

from typing import Any

from otelflow._values.text import safe_str, scrub_long
from otelflow.compat._plain import plain

__all__ = ["Flow_Data", "Flow_Logger", "Flow_Stats"]


def _ms(ns: int) -> int | None:
    return ns // 1_000_000 or None


def _has_failed(flow: Any) -> bool:
    """Return whether the flow or one of its tasks failed: the original counts a failed task as a failed flow."""
    return flow.status == "failed" or any(task.status == "failed" for task in flow.tasks)


class Flow_Stats:  # the original's spelling
    """Durations of a flow and its tasks."""

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    def _head(self, tasks: dict[Any, Any]) -> dict[str, Any]:
        flow = self._flow
        if flow.status == "pending":
            return {}
        status = flow.status if flow.status == "running" else "failed" if _has_failed(flow) else flow.status
        return {"flow_name": flow.name, "flow_duration": flow.duration, "flow_status": status, "flow_tasks": tasks}

    def durations(self) -> dict[str, Any]:
        """Return the duration of the flow and of its tasks by name, in seconds; an empty dict before the run."""
        return self._head({task.name: task.duration for task in self._flow.tasks})

    def durations__with_tasks_status(self) -> dict[str, Any]:
        """Return durations in seconds and statuses, of the flow and of its tasks; an empty dict before the run.

        Tasks are numbered from 1, in the order of their start.
        """
        return self._head(
            {
                order: {"task_name": task.name, "task_duration": task.duration, "task_status": task.status}
                for order, task in enumerate(self._flow.tasks, 1)
            }
        )

    def json(self) -> dict[str, Any]:
        """Return ids, statuses, errors and durations (in seconds) of the flow and its tasks as plain data."""
        flow = self._flow
        tasks = flow.tasks
        return {
            "flow_id": flow.run_id,
            "flow_name": flow.name,
            "status": "failed" if _has_failed(flow) else flow.status,
            "duration": {"duration_seconds": flow.duration},
            "error_message": None if flow.error is None else scrub_long(safe_str(flow.error)),
            "total_tasks": len(tasks),
            "failed_tasks": sum(task.status == "failed" for task in tasks),
            "tasks_stats": {
                task.run_id: {
                    "task_id": task.run_id,
                    "task_name": task.name,
                    "execution_order": order,
                    "duration": {"duration_seconds": task.duration},
                    "status": task.status,
                    "error_message": None if task.error is None else scrub_long(safe_str(task.error)),
                    "parent_flow_id": flow.run_id,
                }
                for order, task in enumerate(tasks, 1)
            },
        }


class Flow_Data:
    """The whole run as plain data. Times are in milliseconds since 1970."""

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    def json(self) -> dict[str, Any]:
        """Return the flow with its tasks, events, results, artifacts and messages as plain data."""
        flow = self._flow
        data = {
            "flow_id": flow.run_id,
            "flow_name": flow.name,
            "start_time": _ms(flow._started_ns),
            "end_time": _ms(flow._ended_ns),
            "status": flow.status,
            "error": None if flow.error is None else scrub_long(safe_str(flow.error)),
            "tasks": {task.run_id: _task_data(task, order) for order, task in enumerate(flow.tasks, 1)},
            "events": [plain(event) for event in flow.events],
            "results": [
                {"key": item.key, "description": item.description, "timestamp": _ms(item.timestamp)}
                for item in flow.results
            ],
            "artifacts": [
                {
                    "key": item.key,
                    "description": item.description,
                    "data": item.data,
                    "type": item.type,
                    "timestamp": _ms(item.timestamp),
                }
                for item in flow.artifacts
            ],
            "logs": [
                {
                    "timestamp": _ms(message.timestamp),
                    "level": message.log_level,
                    "message": message.raw,
                    "task_id": message.task_run_id,
                }
                for message in flow.messages
            ],
            "return_value": flow.return_value,
        }
        return {"flow_data": data, "flow_events": []}


def _task_data(task: Any, order: int) -> dict[str, Any]:
    return {
        "task_id": task.run_id,
        "task_name": task.name,
        "start_time": _ms(task._started_ns),
        "end_time": _ms(task._ended_ns),
        "status": task.status,
        "error_message": None if task.error is None else scrub_long(safe_str(task.error)),
        "execution_order": order,
        "return_value": task.return_value,
        "input_args": [],
        "input_kwargs": {},
    }


class Flow_Logger:
    """The part of the original's logger that callers use: it reads messages in memory and switches that memory."""

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    def add_memory_logger(self) -> bool:
        """Set ``log_to_memory`` of the flow's configuration. Return True."""
        self._flow.flow_config.log_to_memory = True
        return True

    def remove_memory_logger(self) -> bool:
        """Clear ``log_to_memory`` of the flow's configuration. Return True."""
        self._flow.flow_config.log_to_memory = False
        return True

    def memory_handler_messages(self) -> list[str]:
        """Return the flow's messages with their terminal colours."""
        return [message.raw for message in self._flow.messages]
