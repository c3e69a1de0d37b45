"""Spans that show a flow before it has ended: one when it starts, or has run for a while, and heartbeats on its way.

A span is sent when it ends. Of a flow that runs for hours, a backend would know nothing but tasks whose parent is
missing. So a span of no length is sent as a child of the flow's, with an id of its own: under the flow's id, backends
would show the flow twice for good.
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
    """The flows that run and may need a marker. A thread looks at them while there are any, and ends without.

    ``each``: every outermost flow is marked at once; ``after``, ``heartbeat``: in seconds, None for never.
    """

    def __init__(self, each: bool, after: float | None, heartbeat: float | None) -> None:
        self.each, self.after, self.heartbeat = each, after, heartbeat
        self._begin()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        """Watch nothing; also in a forked child, as the flows there are its parent's, and the thread is gone."""
        self.open: dict[int, tuple[weakref.ref[Any], bool, int]] = {}
        """By the order of their start: the flow, whether it is marked, how many heartbeats it has had. A flow that
        ends takes itself out."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    # --- on the path of a flow ----------------------------------------------------------------------------------------

    def opened(self, flow: Any) -> None:
        """A flow has begun. By default only those are marked that stand below no other run: its marker shows the
        trace, and a marker of each part would say no more."""
        wanted = flow.flow_config.started_marker
        if wanted is None:
            if not flow._is_outermost:
                return
            wanted = self.each
        elif not wanted:
            return
        own = flow._span_context
        if own is None or not own.trace_flags & 1 or tracer.is_overridden() or flow._relay is not None:
            return  # not sent; or a test's capture, which knows of what runs; or in a worker, which sends nothing
        if wanted:
            _mark(flow)
        if self.heartbeat is not None or not (wanted or self.after is None):
            self.open[flow._number] = (flow._ref, wanted, 0)
            if self._thread is None:
                self._start_thread()

    def _start_thread(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._work, name="otelflow-markers", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending, or has no threads
                pass

    # --- beside it ----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while self.open or not self._is_over():
            try:
                pause = self._look()
            except Exception as error:
                log_once(f"markers {type(error).__name__}", "Running flows could not be looked at.", exc_info=True)
                pause = _LONGEST_SLEEP
            time.sleep(min(max(pause, _SHORTEST_SLEEP), _LONGEST_SLEEP))

    def _is_over(self) -> bool:
        """Say that there is no thread, unless a flow has come that still relied on it."""
        with self._lock:
            self._thread = None
            if self.open:
                self._thread = threading.current_thread()
            return self._thread is None

    def _look(self) -> float:
        """Mark what is due. The seconds until the next look."""
        now = clock.now()
        pauses = [pause for order in tuple(self.open.copy()) if (pause := self._look_at(order, now)) is not None]
        return min(pauses, default=_SHORTEST_SLEEP)

    def _look_at(self, order: int, now: int) -> float | None:
        """The same for one flow; None where there is nothing more to do."""
        ref, is_marked, beats = self.open.get(order) or _NONE
        flow = ref()
        if flow is None or flow._ended_ns:  # dropped without an end, as an iterator may be
            self.open.pop(order, None)
            return None
        age = (now - flow._started_ns) / 1e9
        if not is_marked and self.after is not None and age >= self.after:
            _mark(flow)
            is_marked = True
        if self.heartbeat is not None and age // self.heartbeat > beats:
            _beat(flow, now, age)
            beats = int(age // self.heartbeat)
        left = [] if is_marked or self.after is None else [self.after - age]
        if self.heartbeat is not None:
            left.append((beats + 1) * self.heartbeat - age)
        if order in self.open:
            self.open[order] = (ref, is_marked, beats)
        if not left:
            self.open.pop(order, None)
        return min(left, default=None)


def _nothing() -> None:
    return None


_NONE: Any = (_nothing, True, 0)


def _mark(flow: Any) -> None:
    """Show that ``flow`` runs, at the time of its start."""
    _send(flow, wire.STARTED, flow._started_ns, {})


def _beat(flow: Any, now: int, age: float) -> None:
    """Show what ``flow`` does at this moment."""
    made: dict[str, Any] = {wire.RUNNING_FOR: _in_words(age)}
    known = getattr(flow._span, "attributes", None) or {}
    made.update({key: known[key] for key in (wire.PROGRESS_DONE, wire.PROGRESS_TOTAL) if key in known})
    said = flow._journal.messages
    if said:
        made[wire.RUNNING_MESSAGE] = scrub_and_truncate(said[-1][0])[0]
    names = [scrub_and_truncate(task.name)[0] for task in flow.tasks if task.status == "running"]
    if names:
        made[wire.RUNNING_TASKS] = tuple(names[-_MOST_NAMES:])
    _send(flow, wire.RUNNING, now, made)


def _send(flow: Any, kind: str, ns: int, first: dict[str, Any]) -> None:
    """Send a marker with the attributes ``first``, and after them those that the flow's span has from its start."""
    try:
        above, source = flow._span, tracer.current_source()
        if above is None or source is None or tracer.is_overridden():
            return  # it has just ended; or a test captures what this process does
        name = f"{flow._wire[wire.FLOW_NAME]} ({kind})"
        parts = (first, *flow._start_attributes(), {wire.KIND: kind})
        source.start(name, Context({SPAN_KEY: above}), parts, ns).end(ns)
    except Exception as error:  # a sampler or processor of the user's
        log_once(f"marker {type(error).__name__}", "A marker of a running flow could not be sent.", exc_info=True)
        return
    from otelflow._export.registry import span_processors  # loaded where there are any

    for pipeline in span_processors:
        pipeline.hurry()


def _in_words(seconds: float) -> str:
    """``45 s``, ``12 min``, ``2 h 05 min``, ``3 d 04 h``."""
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
