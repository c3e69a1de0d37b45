"""Define the events that listeners receive: their types, their data, and how they are stored."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from otelflow._runtime import clock
from otelflow._runtime.run_ids import run_id

__all__ = ["FlowRunEvent", "FlowRunEventData", "FlowRunEventType", "event_of", "record_of"]


class FlowRunEventType(Enum):
    """The seven types of events of a run."""

    FLOW_START = "flow_start"
    """A flow run has started."""
    FLOW_STOP = "flow_stop"
    """A flow run has ended, with any status. Payload ``flow_data``: status, duration (s), return_value, error."""
    TASK_START = "task_start"
    """A task run has started."""
    TASK_STOP = "task_stop"
    """A task run has ended, with any status. Payload ``task_data``: status, duration (s), return_value, error."""
    FLOW_MESSAGE = "flow_message"
    """A log message or a printed line. Payload ``message_data``: log_level, message, message_text (no colours)."""
    NEW_ARTIFACT = "new_artifact"
    """An artifact was added. Payload ``artifact_data``: description, key, data, type."""
    NEW_RESULT = "new_result"
    """A result was added. Payload ``result_data``: key, description."""


@dataclass(frozen=True)
class FlowRunEventData:
    """The facts of one event.

    ``data`` has the payload under one key: see :class:`FlowRunEventType`. ``event_source`` is the qualified name of the
    function that emitted the event. ``log_level`` is a number as in :mod:`logging`. ``trace_id`` (32) and ``span_id``
    (16) are lower-case hex digits, None if there is no span.
    """

    data: dict[str, Any] = field(default_factory=dict)
    event_source: str = ""
    flow_name: str | None = None
    flow_run_id: str | None = None
    log_level: int = 20
    task_name: str | None = None
    task_run_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


class FlowRunEvent:
    """One event: ``event_id`` (a UUID as text), ``event_type``, ``event_data`` and ``timestamp`` (ms since 1970).

    It is immutable: every listener sees the same facts. The id and the data are computed when they are first read.

    Args:
        event_type: the type of the event.
        event_data: its facts; all defaults if left out.
        event_id: a UUID as text; a new one if left out.
        timestamp: ms since 1970; now if left out.
    """

    __slots__ = ("_data", "_id", "_record")

    _record: tuple[Any, ...]
    """The record for :func:`event_of`; only the type and the time for an event that a user created."""

    def __init__(
        self,
        event_type: FlowRunEventType,
        event_data: FlowRunEventData | None = None,
        *,
        event_id: str | None = None,
        timestamp: int | None = None,
    ) -> None:
        self._record = event_type, clock.now() if timestamp is None else timestamp * 1_000_000
        self._data = event_data if event_data is not None else FlowRunEventData()
        self._id = event_id

    @property
    def event_type(self) -> FlowRunEventType:
        return self._record[0]  # type: ignore[no-any-return]

    @property
    def timestamp(self) -> int:
        return self._ns // 1_000_000

    @property
    def _ns(self) -> int:
        return self._record[1]  # type: ignore[no-any-return]

    @property
    def event_id(self) -> str:
        if self._id is None:
            self._id = _id_of(self._record) if len(self._record) > 2 else str(uuid.uuid4())
        return self._id

    @property
    def event_data(self) -> FlowRunEventData:
        if self._data is None:
            self._data = _data_of(self._record)
        return self._data

    def __repr__(self) -> str:
        data = self.event_data
        payload: dict[str, Any] = next(iter(data.data.values()), {})
        summary = payload.get("message_text") or payload.get("key") or payload.get("status") or ""
        return f"<FlowRunEvent {self.event_type.name} {data.task_name or data.flow_name!r} {str(summary)[:80]!r}>"


def record_of(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the full record of an entry of the history. Nearly all entries are short, as every task call makes two.

    Args:
        entry: ``(origin, start)`` of a task that started, ``(origin, start, end)`` of a task that completed, with times
            in ns since 1970; or a full record.

    Returns:
        A record as :func:`event_of` takes it.
    """
    if len(entry) == 2:
        return (FlowRunEventType.TASK_START, entry[1], entry[0], {}, 20)
    if len(entry) == 3:
        origin, started_ns, ended_ns = entry
        return (FlowRunEventType.TASK_STOP, ended_ns, origin, ("completed", ended_ns - started_ns, None, None), 20)
    return entry


_new: Any = object.__new__


def event_of(record: tuple[Any, ...]) -> FlowRunEvent:
    """Return the event of a record. A record is a plain tuple, which costs least to make and to hold.

    Args:
        record: ``(type, ns, origin, payload, log level)``, with the time in ns since 1970. The payload is a dict, or a
            tuple of the values in it; of a STOP event ``(status, duration in ns, return value, error)``. The origin,
            which the events of one run share, is ``(source, (flow's name, its run id), task's name, task's run, span
            context)``. The task's run is an id, or the number that :func:`otelflow._runtime.run_ids.run_id` takes.
    """
    event: FlowRunEvent = _new(FlowRunEvent)
    event._record = record
    event._id = event._data = None  # type: ignore[assignment]  # both are computed when read
    return event


def _data_of(record: tuple[Any, ...]) -> FlowRunEventData:
    event_type, _, origin, data, log_level = record
    source, (flow_name, flow_run), task_name, task_run, context = origin
    return FlowRunEventData(
        data=_payload(event_type, data, log_level) if type(data) is tuple else dict(data),
        event_source=source,
        flow_name=flow_name,
        flow_run_id=flow_run,
        log_level=log_level,
        task_name=task_name,
        task_run_id=run_id("task_", task_run) if isinstance(task_run, int) else task_run,
        trace_id=None if context is None or not context.trace_id else format(context.trace_id, "032x"),
        span_id=None if context is None or not context.span_id else format(context.span_id, "016x"),
    )


def _payload(event_type: FlowRunEventType, facts: tuple[Any, ...], level: int) -> dict[str, Any]:
    if event_type is FlowRunEventType.FLOW_MESSAGE:
        return {"message_data": {"log_level": level, "message": facts[0], "message_text": facts[1]}}
    if event_type is FlowRunEventType.NEW_ARTIFACT:
        return {"artifact_data": dict(zip(("description", "key", "data", "type"), facts, strict=True))}
    if event_type is FlowRunEventType.NEW_RESULT:
        return {"result_data": dict(zip(("key", "description"), facts, strict=True))}
    status, duration_ns, return_value, error = facts
    key = "task_data" if event_type is FlowRunEventType.TASK_STOP else "flow_data"
    return {key: {"status": status, "duration": duration_ns / 1e9, "return_value": return_value, "error": error}}


def _id_of(record: tuple[Any, ...]) -> str:
    """Compute a UUID from the record, so that listeners and the history show the same id for one event."""
    from hashlib import blake2b

    event_type, ns, origin, _, _ = record
    text = f"{event_type.value}|{ns}|{origin[1]}|{origin[3]}"
    return str(uuid.UUID(bytes=blake2b(text.encode(errors="replace"), digest_size=16).digest(), version=4))
