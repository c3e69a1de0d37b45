"""Send marker spans, which show a flow before it has ended: at its start or after a while, and as heartbeats.

A span is sent when it ends. While a flow runs for hours, a backend would show only tasks whose parent is missing. So a
span of zero length is sent as a child of the flow's span. It has an id of its own: with the flow's id, backends would
show the flow twice for good.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

from opentelemetry.context import Context

from otelflow import attributes as wire
from otelflow._runtime import clock
from otelflow._runtime.fork import renew_in_child
from otelflow._runtime.log_once import log_once
from otelflow._spans import tracer
from otelflow._values.text import scrub_and_truncate
from otelflow.config import (
    OTELFLOW_HEARTBEAT,
    OTELFLOW_STARTED_MARKER,
    OTELFLOW_STARTED_MARKER_AFTER,
    STARTED_MARKER_AFTER,
    is_true_in_environment,
    seconds_from_environment,
)
from otelflow.context import SPAN_KEY

__all__ = ["StartedMarkers", "markers"]

_SHORTEST_SLEEP, _LONGEST_SLEEP = 0.05, 3600.0
_MOST_NAMES = 10


class StartedMarkers:
    """The running flows that may need a marker. A thread checks them, and ends when there are none.

    ``mark_all`` marks every outermost flow at its start. ``after`` and ``heartbeat`` are in seconds, None for never.
    """

    def __init__(self, mark_all: bool, after: float | None, heartbeat: float | None) -> None:
        self.mark_all, self.after, self.heartbeat = mark_all, after, heartbeat
        self._reset()
        renew_in_child(self._reset)

    def _reset(self) -> None:
        """Watch no flows. Also called in a forked child: the flows are the parent's, and the thread does not exist."""
        self.open: dict[int, tuple[weakref.ref[Any], bool, int]] = {}
        """By run number, in the order of their start: the flow, whether it is marked, and its number of heartbeats. A
        flow removes itself when it ends."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    # --- on the path of a flow ----------------------------------------------------------------------------------------

    def flow_opened(self, flow: Any) -> None:
        """Mark a flow that has begun, or watch it. By default only outermost flows are marked: their marker shows the
        trace, and markers of nested flows would add nothing."""
        marks_at_once = flow.flow_config.started_marker
        if marks_at_once is None:
            if not flow._is_outermost:
                return
            marks_at_once = self.mark_all
        elif not marks_at_once:
            return
        context = flow._span_context
        if context is None or not context.trace_flags & 1 or tracer.is_overridden() or flow._recorder is not None:
            return  # not sampled; or captured by a test, which sees running flows; or in a worker, which does not send
        if marks_at_once:
            _send_started(flow)
        if self.heartbeat is not None or not (marks_at_once or self.after is None):
            self.open[flow._number] = (flow._ref, marks_at_once, 0)
            if self._thread is None:
                self._start_thread()

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run_thread, name="otelflow-markers", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is shutting down, or has no threads
                pass

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _run_thread(self) -> None:
        while self.open or not self._end_thread():
            try:
                delay = self._mark_due_flows()
            except Exception as error:
                log_once(f"markers {type(error).__name__}", "Could not check the running flows.", exc_info=True)
                delay = _LONGEST_SLEEP
            time.sleep(min(max(delay, _SHORTEST_SLEEP), _LONGEST_SLEEP))

    def _end_thread(self) -> bool:
        """Unregister this thread and return True, unless a flow was added that relies on it."""
        with self._lock:
            self._thread = None
            if self.open:
                self._thread = threading.current_thread()
            return self._thread is None

    def _mark_due_flows(self) -> float:
        """Send the markers that are due. Return the seconds until the next check."""
        now = clock.now()
        delays = [delay for number in tuple(self.open.copy()) if (delay := self._mark_if_due(number, now)) is not None]
        return min(delays, default=_SHORTEST_SLEEP)

    def _mark_if_due(self, number: int, now: int) -> float | None:
        """Send the markers of one flow that are due. Return the seconds until its next, None if there is none."""
        ref, is_marked, heartbeats = self.open.get(number) or _NO_ENTRY
        flow = ref()
        if flow is None or flow._ended_ns:  # a flow that is iterated may be freed before its end
            self.open.pop(number, None)
            return None
        age = (now - flow._started_ns) / 1e9
        if not is_marked and self.after is not None and age >= self.after:
            _send_started(flow)
            is_marked = True
        if self.heartbeat is not None and age // self.heartbeat > heartbeats:
            _send_heartbeat(flow, now, age)
            heartbeats = int(age // self.heartbeat)
        delays = [] if is_marked or self.after is None else [self.after - age]
        if self.heartbeat is not None:
            delays.append((heartbeats + 1) * self.heartbeat - age)
        if number in self.open:
            self.open[number] = (ref, is_marked, heartbeats)
        if not delays:
            self.open.pop(number, None)
        return min(delays, default=None)


def _no_flow() -> None:
    return None


_NO_ENTRY: Any = (_no_flow, True, 0)


def _send_started(flow: Any) -> None:
    """Send the marker of the start of ``flow``, at the time of its start."""
    _send_marker(flow, wire.STARTED, flow._started_ns, {})


def _send_heartbeat(flow: Any, now: int, age: float) -> None:
    """Send a marker of what ``flow`` is doing now."""
    attributes: dict[str, Any] = {wire.RUNNING_FOR: _duration_text(age)}
    span_attributes = getattr(flow._span, "attributes", None) or {}
    progress = (wire.PROGRESS_DONE, wire.PROGRESS_TOTAL)
    attributes.update({key: span_attributes[key] for key in progress if key in span_attributes})
    messages = flow._target_memory.messages
    if messages:
        attributes[wire.RUNNING_MESSAGE] = scrub_and_truncate(messages[-1][0])[0]
    names = [scrub_and_truncate(task.name)[0] for task in flow.tasks if task.status == "running"]
    if names:
        attributes[wire.RUNNING_TASKS] = tuple(names[-_MOST_NAMES:])
    _send_marker(flow, wire.RUNNING, now, attributes)


def _send_marker(flow: Any, kind: str, ns: int, own_attributes: dict[str, Any]) -> None:
    """Send a marker with ``own_attributes``, followed by the start attributes of the flow's span."""
    try:
        flow_span, source = flow._span, tracer.current_source()
        if flow_span is None or source is None or tracer.is_overridden():
            return  # the flow has just ended; or a test captures this process
        name = f"{flow._wire[wire.FLOW_NAME]} ({kind})"
        parts = (own_attributes, *flow._start_attributes(), {wire.KIND: kind})
        source.start(name, Context({SPAN_KEY: flow_span}), parts, ns).end(ns)
    except Exception as error:  # a sampler or processor of the user's
        log_once(f"marker {type(error).__name__}", "Could not send a marker of a running flow.", exc_info=True)
        return
    from otelflow._export.registry import span_processors  # already loaded if there are any

    for processor in span_processors:
        processor.start_flush()


def _duration_text(seconds: float) -> str:
    """Format a duration for a person: ``45 s``, ``12 min``, ``2 h 05 min``, ``3 d 04 h``."""
    minutes = int(seconds // 60)
    if not minutes:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 24 else f"{hours // 24} d {hours % 24:02} h"


markers = StartedMarkers(
    is_true_in_environment(OTELFLOW_STARTED_MARKER),
    seconds_from_environment(OTELFLOW_STARTED_MARKER_AFTER, STARTED_MARKER_AFTER),
    seconds_from_environment(OTELFLOW_HEARTBEAT, 0),
)
