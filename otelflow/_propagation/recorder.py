"""Record the runs, events and spans of a job in a worker process; the job's result takes the record back."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from otelflow._propagation.pickling import (
    JOB_OUTCOME,
    Ids,
    Packed,
    ids_of,
    pack_data,
    pack_error,
    pack_value,
    span_to_tuple,
)
from otelflow._runtime.drop_counts import AFTER_JOB, RELAY_FULL, counts
from otelflow._values.attribute import to_attribute
from otelflow.config import OTELFLOW_QUEUE_SIZE, whole_number_from_environment
from otelflow.context import current_run

__all__ = ["SUBMITTING_FLOW", "EventEntry", "JobReport", "LinkEntry", "Recorder", "StartEntry", "StopEntry"]

SUBMITTING_FLOW = 0
"""Number of the flow that submitted the job, in fields that name a run by its number."""


class StartEntry(NamedTuple):
    """The start of a run."""

    run: int
    is_flow: bool
    name: str
    source: str
    ns: int
    span: Ids | None
    run_id: str
    flow: int | None
    """The number of the flow that a task belongs to; None outside any flow."""


class EventEntry(NamedTuple):
    """An event of a run: a ``message``, ``artifact``, ``result`` or ``exception``. ``facts`` come from ``_events``."""

    run: int
    kind: str
    ns: int
    source: str
    facts: tuple[Any, ...]


class StopEntry(NamedTuple):
    """The end of a run."""

    run: int
    ns: int
    status: str
    value: Packed
    error: Packed


class LinkEntry(NamedTuple):
    """The start of a flow with ``new_trace`` directly below the job. The submitting span gets a link to its span."""

    span: Ids


class JobReport(NamedTuple):
    """The record of one job: its entries in order, its ended spans, and the drop counts of its process by reason."""

    entries: list[Any]
    spans: list[tuple[Any, ...]]
    drop_counts: dict[str, int]
    error_is_recorded: bool
    """True if a run in the job ended with the exception that ended the job."""


class Recorder:
    """Recorder of one job. The job's runs send it what would otherwise go to listeners, history and exporters.

    It takes ``max_entries`` events and as many spans (default: ``OTELFLOW_QUEUE_SIZE``). It counts what it drops.
    """

    def __init__(self, source: Any, max_entries: int | None = None) -> None:
        self.source = source
        """The source of the job's spans; None if the submitting process makes no spans."""
        if max_entries is None:
            max_entries = whole_number_from_environment(OTELFLOW_QUEUE_SIZE, 50_000, 1)
        self._max_entries = max_entries
        self._entries: deque[Any] = deque()
        self._spans: deque[Any] = deque(maxlen=max_entries)
        self._open_runs = {SUBMITTING_FLOW}
        self._dropped = 0
        self._is_finished = False
        self._last_stop: tuple[StopEntry, Any] | None = None
        self._last_error: tuple[BaseException, Packed] | None = None

    # --- called by runs -----------------------------------------------------------------------------------------

    def record_start(self, run: Any) -> None:
        """Record the start of a run. If there is no room, the run is dropped with all its events."""
        if not self._check_room():
            return
        self._open_runs.add(run._number)
        context = run._span_context
        flow = run._flow
        entry = StartEntry(
            run._number,
            run._is_flow,
            run.name,
            run._origin[0],
            run._started_ns,
            None if context is None else ids_of(context),
            run.run_id,
            None if flow is None else flow._number,
        )
        self._entries.append(entry)

    def record_event(self, run: Any, kind: str, ns: int, source: str, facts: tuple[Any, ...]) -> None:
        """Record an event of a run; see :class:`EventEntry`."""
        number = run._number
        if number not in self._open_runs:  # events of another remote flow cannot be returned: use the current run
            inner = current_run()
            number = number if inner is None else inner._number
        if number in self._open_runs and self._check_room():
            if kind == "artifact":
                facts = (facts[0], pack_data(facts[1]), *facts[2:])
            elif kind == "message":  # attributes may be any object; their form on a span event can be pickled
                level, text, attributes = facts
                facts = (level, text, {key: to_attribute(key, value)[0] for key, value in (attributes or {}).items()})
            self._entries.append(EventEntry(number, kind, ns, source, facts))

    def record_stop(self, run: Any) -> None:
        """Record the end of a run. Every recorded START gets its STOP, even if there is no room."""
        if run._number not in self._open_runs or self._is_finished:
            return
        self._open_runs.discard(run._number)
        value, error = run.return_value, run.error
        entry = StopEntry(run._number, run._ended_ns, run.status, pack_value(value), self._pack_error(error))
        self._entries.append(entry)
        self._last_stop = (entry, value)

    def record_span(self, span: Any) -> None:
        """Record an ended span. If there are too many, the oldest is dropped, because outer spans end last."""
        if self._is_finished:
            counts.add(AFTER_JOB)
        elif span.get_span_context().trace_flags.sampled:
            self._append_span(span)

    def record_link(self, context: Any) -> None:
        """Record a flow with a new trace that started directly below the submitting span."""
        if self._check_room():
            self._entries.append(LinkEntry(ids_of(context)))

    def record_worker_span(self, fields: tuple[Any, ...]) -> None:
        """Record a span that ended in a worker process that this worker started, as a tuple of its fields."""
        if self._is_finished:
            counts.add(AFTER_JOB)
        else:
            self._append_span(fields)

    def _append_span(self, span: Any) -> None:
        self._dropped += len(self._spans) == self._max_entries
        self._spans.append(span)

    def _check_room(self) -> bool:
        """Return whether there is room for an entry. If not, count a drop."""
        if self._is_finished:
            counts.add(AFTER_JOB)
        elif len(self._entries) < self._max_entries:
            return True
        else:
            self._dropped += 1
        return False

    def _pack_error(self, error: BaseException | None) -> Packed:
        """Pack an exception. One exception that passes through several runs is packed once."""
        if error is None:
            return pack_error(None)
        if self._last_error is None or self._last_error[0] is not error:
            self._last_error = (error, pack_error(error))
        return self._last_error[1]

    # --- the end of the job -------------------------------------------------------------------------------------

    def finish(self, value: Any, error: BaseException | None) -> JobReport:
        """Close the recorder and return its report.

        ``value`` and ``error`` are the outcome of the job. If a run ended with the same object, its entry refers to the
        job's outcome, so that the object is sent once.
        """
        self._is_finished = True
        entries = list(self._entries)  # an atomic copy: a thread that outlives the job may still append
        if error is None and self._last_stop is not None and self._last_stop[1] is value:
            last_entry = self._last_stop[0]
            entries = [entry._replace(value=JOB_OUTCOME) if entry is last_entry else entry for entry in entries]
        is_recorded = error is not None and self._last_error is not None and self._last_error[0] is error
        if is_recorded:
            packed = self._last_error[1]  # type: ignore[index]
            entries = [
                entry._replace(error=JOB_OUTCOME) if type(entry) is StopEntry and entry.error is packed else entry
                for entry in entries
            ]
        if self._dropped:
            counts.add(RELAY_FULL, self._dropped)
        spans = [span if isinstance(span, tuple) else span_to_tuple(span) for span in tuple(self._spans)]
        self._last_stop = self._last_error = None
        return JobReport(entries, spans, counts.take(), is_recorded)
