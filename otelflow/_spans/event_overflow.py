"""Keep the events that a span has no room for: hold the newest until the run ends, or write all to child spans.

The SDK's span keeps a limited number of events (128 by default, ``OTEL_SPAN_EVENT_COUNT_LIMIT``) and drops the oldest
without a warning. It has no limit in bytes. So events up to half of that limit (three quarters with
``OTELFLOW_OVERFLOW=spans``) go on the span immediately; later ones come here.
https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-limits
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from otelflow import attributes as wire
from otelflow._runtime.drop_counts import EVENTS, VALUES, counts
from otelflow._runtime.log_once import log_span_error
from otelflow._runtime.run_ids import run_id
from otelflow._spans.span_limits import (
    DIRECT_BYTES,
    END_BYTES,
    MAX_EVENT_BYTES,
    MAX_SPAN_BYTES,
    USES_CHILD_SPANS,
    estimated_size,
    event_limit,
    truncate_attributes,
)
from otelflow._spans.tracer import current_source
from otelflow._values.text import scrub_and_truncate

__all__ = ["HeldEvent", "add_event", "overflow_of"]


class HeldEvent:
    """An event that is not on its span yet. Exceptions, artifacts, results and error messages have priority."""

    __slots__ = ("attributes", "has_priority", "is_short", "name", "ns", "number", "size")

    def __init__(self, name: str, attributes: dict[str, Any], ns: int, size: int, has_priority: bool) -> None:
        self.name, self.attributes, self.ns, self.size, self.has_priority = name, attributes, ns, size, has_priority
        self.number = 0
        self.is_short = False

    def shorten(self) -> int:
        """Replace each large text by a short preview; return the number of truncated values."""
        self.is_short = True
        self.attributes, self.size, number = truncate_attributes(self.attributes, MAX_EVENT_BYTES)
        return number

    def add_to(self, span: Any) -> None:
        """Add this event to ``span``."""
        add_event(span, self.name, self.attributes, self.ns)


def add_event(span: Any, name: str, attributes: dict[str, Any], ns: int) -> None:
    """Add an event to ``span``. The caller scrubbed the attributes, and must not change the dict later."""
    if hasattr(type(span), "add_scrubbed_event"):  # a lean span
        span.add_scrubbed_event(name, attributes, ns)
    else:
        span.add_event(name, attributes, ns)


class TailBuffer:
    """The newest events of a run, bounded in number and bytes. Ordinary messages are dropped first."""

    def __init__(self, run: Any, span: Any) -> None:
        self._lock = threading.RLock()  # a signal handler may add an event while its thread holds the lock
        self._ordinary: deque[HeldEvent] = deque()
        self._priority: deque[HeldEvent] = deque()
        self._next_number = self._size = self._left_out = 0
        self._first_left_out: HeldEvent | None = None
        """The first event that was left out. The gap event takes its place."""
        self._direct_count = min(run._events - 1, event_limit(span))
        self._capacity = event_limit(span) - self._direct_count
        room = MAX_SPAN_BYTES - END_BYTES - run._event_bytes - estimated_size(getattr(span, "attributes", None) or {})
        self._room = max(room, MAX_SPAN_BYTES // 8)
        self._is_closed = False

    def add(self, event: HeldEvent, run: Any) -> bool:
        """Add one event. Return False if the run's span has ended."""
        with self._lock:
            if self._is_closed:
                return False
            event.number = self._next_number
            self._next_number += 1
            (self._priority if event.has_priority else self._ordinary).append(event)
            self._size += event.size
            if self._size > self._room or self._next_number > self._capacity:
                self._make_room(self._capacity, run)
            return True

    def withdraw(self, event: HeldEvent) -> bool:
        """Remove an event that came too late. Return False if it is on the span already."""
        with self._lock:
            events = self._priority if event.has_priority else self._ordinary
            if event not in events:
                return False
            events.remove(event)
            self._size -= event.size
            return True

    def _make_room(self, max_events: int, run: Any) -> None:
        if self._size > self._room:
            self._shorten(run)
        while self._size > self._room or len(self._ordinary) + len(self._priority) > max_events:
            oldest = (self._ordinary or self._priority).popleft()
            self._size -= oldest.size
            self._left_out += 1
            if self._first_left_out is None or oldest.number < self._first_left_out.number:
                self._first_left_out = oldest

    def _shorten(self, run: Any) -> None:
        for event in (*self._ordinary, *self._priority):
            if self._size <= self._room:
                return
            if not event.is_short:
                self._size -= event.size
                number = event.shorten()
                run._truncated += number
                counts.add(VALUES, number)
                self._size += event.size

    def close(self, span: Any, run: Any) -> int:
        """Add all events to ``span``, which is about to end. Return the number of events left out.

        A gap event marks the place where events are missing.
        """
        with self._lock:
            self._is_closed = True
            room = max(0, event_limit(span) - len(getattr(span, "events", None) or range(self._direct_count)))
            self._make_room(room, run)
            if self._left_out and room > 1:
                self._make_room(room - 1, run)
            events = [*self._ordinary, *self._priority]
            if self._first_left_out is not None and room > 1:
                self._first_left_out.name, self._first_left_out.attributes = (
                    wire.GAP_EVENT,
                    {wire.DROPPED_EVENTS: self._left_out},
                )
                events.append(self._first_left_out)
            self._ordinary.clear()
            self._priority.clear()
        counts.add(EVENTS, self._left_out)
        for event in sorted(events, key=lambda event: event.number):
            event.add_to(span)
        return self._left_out


class ContinuationSpans:
    """Child spans that carry the events of a run, as many in each as fit.

    A continuation span is started and ended in one step, once it is full. So no span stays open, and no lock is held
    while the user's processors see it.
    """

    def __init__(self, run: Any, span: Any) -> None:
        self._lock = threading.RLock()
        self._span, self._recorder = span, run._recorder
        self._name = f"{getattr(span, 'name', None) or scrub_and_truncate(run.name)[0]} (continued)"
        self._max_events = event_limit(span)
        self._reserve = 0 if self._max_events == sys.maxsize else (self._max_events - run._events + 2) // 2
        """Number of events with priority that still go on the run's own span: above all its exception."""
        self._pending: list[HeldEvent] = []
        self._size = self._span_count = self._left_out = 0
        self._is_closed = False
        self._attributes = _identity_attributes(run)

    def add(self, event: HeldEvent, run: Any) -> bool:
        """Add one event. Return False if the run's span has ended."""
        full: tuple[int, list[HeldEvent]] | None = None
        with self._lock:
            if self._is_closed:
                return False
            goes_on_run_span = (
                event.has_priority
                and self._reserve > 0
                and run._event_bytes + event.size <= DIRECT_BYTES + MAX_EVENT_BYTES
            )
            if goes_on_run_span:
                self._reserve -= 1
                run._event_bytes += event.size
            else:
                if self._pending and (
                    len(self._pending) >= self._max_events or self._size + event.size > MAX_SPAN_BYTES - 2 * END_BYTES
                ):
                    full = self._take_pending()
                self._pending.append(event)
                self._size += event.size
        if goes_on_run_span:
            event.add_to(self._span)
        if full is not None:
            self._emit_span(*full)
        return True

    def withdraw(self, event: HeldEvent) -> bool:
        """Remove an event that came too late. Return False if its span is already being written."""
        with self._lock:
            if event not in self._pending:
                return False
            self._pending.remove(event)
            return True

    def _take_pending(self) -> tuple[int, list[HeldEvent]]:
        self._span_count += 1
        events, self._pending, self._size = self._pending, [], 0
        return self._span_count, events

    def _emit_span(self, number: int, events: list[HeldEvent]) -> None:
        try:
            span = self._start_span(number, min(event.ns for event in events))
            if span is not None and span.is_recording():
                for event in events:
                    event.add_to(span)
                span.end(max(event.ns for event in events))
                if self._recorder is not None:
                    self._recorder.record_span(span)
                return
        except Exception as error:  # from the user's sampler or processor
            log_span_error("the continuation", error)
        with self._lock:
            self._left_out += len(events)
        counts.add(EVENTS, len(events))

    def _start_span(self, number: int, ns: int) -> Any:
        source = current_source() if self._recorder is None else self._recorder.source
        if source is None:
            return None
        context = set_span_in_context(self._span, Context())
        return source.start(self._name, context, (self._attributes, {wire.CONTINUATION: number}), ns)

    def close(self, span: Any, run: Any) -> int:
        """Write the pending events. Return the number of events that could not be written."""
        with self._lock:
            self._is_closed = True
            last = self._take_pending() if self._pending else None
        if last is not None:
            self._emit_span(*last)
        if self._span_count:
            span.set_attribute(wire.CONTINUATIONS, self._span_count)
        return self._left_out


def _identity_attributes(run: Any) -> dict[str, Any]:
    """Return the attributes that identify the run on a continuation span: its names and run ids."""
    _, (flow, flow_run), task, _, _ = run._origin or _NO_ORIGIN
    identity = {
        wire.FLOW_NAME: flow,
        wire.FLOW_RUN_ID: flow_run,
        wire.TASK_NAME: task,
        wire.TASK_RUN_ID: None if (number := run._task_number()[1]) is None else run_id("task_", number),
    }
    return {
        wire.KIND: "continuation",
        **{key: scrub_and_truncate(value)[0] for key, value in identity.items() if value is not None},
    }


_NO_ORIGIN = (None, (None, None), None, None, None)


def overflow_of(run: Any, span: Any) -> TailBuffer | ContinuationSpans:
    """Return the overflow of ``run``: it takes the events that the span has no room for.

    The first such event creates it. ``setdefault`` is atomic: two threads may call this at the same time.
    """
    overflow: Any = run.__dict__.get("_overflow")
    if overflow is None:
        cls = ContinuationSpans if USES_CHILD_SPANS and event_limit(span) > 0 else TailBuffer
        overflow = run.__dict__.setdefault("_overflow", cls(run, span))
        run._direct_limit = 0
    return overflow  # type: ignore[no-any-return]
