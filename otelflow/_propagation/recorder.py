"""What happens in a job of a worker process, recorded there to go back with the job's result."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from otelflow._propagation.pickling import JOBS_OWN, Ids, Packed, ids_of, pack_data, pack_error, pack_value, parts_of
from otelflow._runtime.drop_counts import AFTER_JOB, RELAY_FULL, counts
from otelflow._values.attribute import to_attribute
from otelflow.config import OTELFLOW_QUEUE_SIZE, number_from_environment
from otelflow.context import current_run

__all__ = ["HANDLE", "EventEntry", "JobReport", "LinkEntry", "Recorder", "StartEntry", "StopEntry"]

HANDLE = 0
"""Stands for the flow that submitted the job, where a run is named by its number."""


class StartEntry(NamedTuple):
    """A run began."""

    run: int
    is_flow: bool
    name: str
    source: str
    ns: int
    span: Ids | None
    run_id: str
    flow: int | None
    """The number of the flow that a task belongs to; None outside any."""


class EventEntry(NamedTuple):
    """A run sent a ``message``, ``artifact``, ``result`` or ``exception``; ``facts`` are those of ``_events``."""

    run: int
    what: str
    ns: int
    source: str
    facts: tuple[Any, ...]


class StopEntry(NamedTuple):
    """A run ended."""

    run: int
    ns: int
    status: str
    value: Packed
    error: Packed


class LinkEntry(NamedTuple):
    """A flow with ``new_trace`` began right below the job: the span that submitted it gets a link to that flow's."""

    span: Ids


class JobReport(NamedTuple):
    """All that one job did, in order, its ended spans, and what was left out in its process, by reason."""

    entries: list[Any]
    spans: list[tuple[Any, ...]]
    left_out: dict[str, int]
    error_is_recorded: bool
    """Whether a run in the job ended with the exception that the job ended with."""


class Recorder:
    """Records one job. Each run below the job knows it, and hands over what else would go to listeners, history and
    exporters. Bounded: what is too much is counted."""

    def __init__(self, source: Any, most: int | None = None) -> None:
        self.source = source
        """Where spans of the job come from; None where the submitting process makes none."""
        self._most = int(number_from_environment(OTELFLOW_QUEUE_SIZE, 50_000, 1)) if most is None else most
        self._entries: deque[Any] = deque()
        self._spans: deque[Any] = deque(maxlen=self._most)
        self._known = {HANDLE}
        self._left_out = 0
        self._is_over = False
        self._last_stop: tuple[StopEntry, Any] | None = None
        self._last_error: tuple[BaseException, Packed] | None = None

    # --- what runs hand over ------------------------------------------------------------------------------------

    def started(self, run: Any) -> None:
        """A run began. One that is too much is left out, with all that it says."""
        if not self._has_room():
            return
        self._known.add(run._number)
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

    def said(self, run: Any, what: str, ns: int, source: str, facts: tuple[Any, ...]) -> None:
        """A run has something to say; see :class:`EventEntry`."""
        order = run._number
        if order not in self._known:  # the handle of another flow, which has no way back: said by who is current
            inner = current_run()
            order = order if inner is None else inner._number
        if order in self._known and self._has_room():
            if what == "artifact":
                facts = (facts[0], pack_data(facts[1]), *facts[2:])
            elif what == "message":  # its attributes may be anything: what their span event shows can travel
                level, text, attributes = facts
                facts = (level, text, {key: to_attribute(key, value)[0] for key, value in (attributes or {}).items()})
            self._entries.append(EventEntry(order, what, ns, source, facts))

    def stopped(self, run: Any) -> None:
        """A run ended. Kept for each that began, full or not: START is followed by STOP."""
        if run._number not in self._known or self._is_over:
            return
        self._known.discard(run._number)
        value, error = run.return_value, run.error
        entry = StopEntry(run._number, run._ended_ns, run.status, pack_value(value), self._packed(error))
        self._entries.append(entry)
        self._last_stop = (entry, value)

    def ended(self, span: Any) -> None:
        """A span ended. The oldest goes where there are too many: the outermost end last."""
        if self._is_over:
            counts.add(AFTER_JOB)
        elif span.get_span_context().trace_flags.sampled:
            self._keep(span)

    def linked(self, context: Any) -> None:
        """A flow in a trace of its own began in the span that submitted the job."""
        if self._has_room():
            self._entries.append(LinkEntry(ids_of(context)))

    def ended_below(self, parts: tuple[Any, ...]) -> None:
        """A span ended in a worker of this worker, and came back to here."""
        if self._is_over:
            counts.add(AFTER_JOB)
        else:
            self._keep(parts)

    def _keep(self, span: Any) -> None:
        self._left_out += len(self._spans) == self._most
        self._spans.append(span)

    def _has_room(self) -> bool:
        if self._is_over:
            counts.add(AFTER_JOB)
        elif len(self._entries) < self._most:
            return True
        else:
            self._left_out += 1
        return False

    def _packed(self, error: BaseException | None) -> Packed:
        """One exception that goes through several runs is packed once."""
        if error is None:
            return pack_error(None)
        if self._last_error is None or self._last_error[0] is not error:
            self._last_error = (error, pack_error(error))
        return self._last_error[1]

    # --- the end of the job -------------------------------------------------------------------------------------

    def finish(self, value: Any, error: BaseException | None) -> JobReport:
        """Close the record and hand it out. ``value`` and ``error`` are what came of the job: where a run ended with
        one of them, the object itself need not travel twice."""
        self._is_over = True
        entries = list(self._entries)  # a copy in one step: a thread that the job left behind may still append
        if error is None and self._last_stop is not None and self._last_stop[1] is value:
            last = self._last_stop[0]
            entries = [entry._replace(value=JOBS_OWN) if entry is last else entry for entry in entries]
        is_recorded = error is not None and self._last_error is not None and self._last_error[0] is error
        if is_recorded:
            packed = self._last_error[1]  # type: ignore[index]
            entries = [
                entry._replace(error=JOBS_OWN) if type(entry) is StopEntry and entry.error is packed else entry
                for entry in entries
            ]
        if self._left_out:
            counts.add(RELAY_FULL, self._left_out)
        spans = [span if isinstance(span, tuple) else parts_of(span) for span in tuple(self._spans)]
        self._last_stop = self._last_error = None
        return JobReport(entries, spans, counts.take(), is_recorded)
