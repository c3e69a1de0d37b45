"""The original's event classes and its ``flow_events``, which sends otelflow's events to its own listeners."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from otelflow._values.text import strip_ansi
from otelflow.compat._plain import Plain
from otelflow.events import FlowRunEvent, FlowRunEventType
from otelflow.listeners import FlowEvents
from otelflow.listeners import flow_events as main_events

__all__ = ["Flow_Events", "Flow_Run__Event", "Flow_Run__Event_Data", "Flow_Run__Event_Type", "flow_events"]

Flow_Run__Event_Type = FlowRunEventType
"""The seven event types; the same enum as :class:`otelflow.FlowRunEventType`."""


@dataclass
class Flow_Run__Event_Data(Plain):  # the original's spelling
    """The data of one event. It may be changed."""

    data: dict[str, Any] = field(default_factory=dict)
    event_source: str = ""
    flow_name: str | None = None
    flow_run_id: str | None = None
    log_level: int = logging.INFO
    task_name: str | None = None
    task_run_id: str | None = None


def _now() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Flow_Run__Event(Plain):
    """One event: its type, its data, its UUID as text, and its time in milliseconds since 1970."""

    event_type: FlowRunEventType | None = None
    event_data: Flow_Run__Event_Data = field(default_factory=Flow_Run__Event_Data)
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    timestamp: int = field(default_factory=_now)


def _to_compat_event(event: FlowRunEvent) -> Flow_Run__Event:
    data = event.event_data
    return Flow_Run__Event(
        event.event_type,
        Flow_Run__Event_Data(
            data.data,
            data.event_source,
            data.flow_name,
            data.flow_run_id,
            data.log_level,
            data.task_name,
            data.task_run_id,
        ),
        event.event_id,
        event.timestamp,
    )


class Flow_Events(FlowEvents):
    """The original's event bus: a list of listeners, and a method for each event type that sends such an event."""

    def __init__(self) -> None:
        super().__init__(history_size=0)

    def on__flow__start(self, event_data: Any) -> None:
        """Send a ``FLOW_START`` event with this data to the listeners."""
        self._raise_event(FlowRunEventType.FLOW_START, event_data)

    def on__flow__stop(self, event_data: Any) -> None:
        """Send a ``FLOW_STOP`` event with this data to the listeners."""
        self._raise_event(FlowRunEventType.FLOW_STOP, event_data)

    def on__task__start(self, event_data: Any) -> None:
        """Send a ``TASK_START`` event with this data to the listeners."""
        self._raise_event(FlowRunEventType.TASK_START, event_data)

    def on__task__stop(self, event_data: Any) -> None:
        """Send a ``TASK_STOP`` event with this data to the listeners."""
        self._raise_event(FlowRunEventType.TASK_STOP, event_data)

    def on__new_artifact(self, event_data: Any) -> None:
        """Send a ``NEW_ARTIFACT`` event with this data to the listeners."""
        self._raise_event(FlowRunEventType.NEW_ARTIFACT, event_data)

    def on__new_result(self, event_data: Any) -> None:
        """Send a ``NEW_RESULT`` event with this data to the listeners."""
        self._raise_event(FlowRunEventType.NEW_RESULT, event_data)

    def on__flow_run__message(
        self, log_level: int, flow_run_id: str | None, task_run_id: str | None, message: str
    ) -> None:
        """Send a ``FLOW_MESSAGE`` event to the listeners."""
        payload = {"log_level": log_level, "message": message, "message_text": strip_ansi(message)}
        data = Flow_Run__Event_Data({"message_data": payload}, flow_run_id=flow_run_id, task_run_id=task_run_id)
        self._raise_event(FlowRunEventType.FLOW_MESSAGE, data)

    def _raise_event(self, event_type: FlowRunEventType, event_data: Any) -> None:
        self.raise_event(Flow_Run__Event(event_type, event_data))  # type: ignore[arg-type]  # the original's class

    def hear(self, event: FlowRunEvent) -> None:
        """Send an event of otelflow to the listeners, in the original's form.

        Args:
            event: An event of ``otelflow.flow_events``.
        """
        if self.event_listeners:
            self.raise_event(_to_compat_event(event))  # type: ignore[arg-type]


flow_events = Flow_Events()
main_events.listen(flow_events.hear)
