"""Keep the events that a span has no room for: the newest wait until the run ends, or all go on in child spans.

The SDK's span keeps a number of events (128 by default, ``OTEL_SPAN_EVENT_COUNT_LIMIT``) and lets the oldest go without
a word; of bytes it knows no limit at all. So the first half goes on the span as it comes, and what follows comes here.
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
    CARRIES,
    DIRECT_BYTES,
    END_BYTES,
    MAX_EVENT_BYTES,
    MAX_SPAN_BYTES,
    estimated_size,
    event_limit,
    truncate_attributes,
)
from otelflow._spans.tracer import current_source
from otelflow._values.text import scrub_and_truncate

__all__ = ["HeldEvent", "add_event", "overflow_of"]


class HeldEvent:
    """One event on its way to a span. ``prior``: an exception, an artifact, a result, an error message."""

    __slots__ = ("attributes", "is_short", "name", "ns", "number", "prior", "size")

    def __init__(self, name: str, attributes: dict[str, Any], ns: int, size: int, prior: bool) -> None:
        self.name, self.attributes, self.ns, self.size, self.prior = name, attributes, ns, size, prior
        self.number = 0
        self.is_short = False

    def shorten(self) -> int:
        """Leave a short preview of each large text; returns how many were cut."""
        self.is_short = True
        self.attributes, self.size, number = truncate_attributes(self.attributes, MAX_EVENT_BYTES)
        return number

    def add_to(self, span: Any) -> None:
        """Put it on ``span``."""
        add_event(span, self.name, self.attributes, self.ns)


def add_event(span: Any, name: str, attributes: dict[str, Any], ns: int) -> None:
    """Put an event on ``span``; its attributes are clean, and nobody changes them any more."""
    if hasattr(type(span), "add_clean_event"):  # a lean one
        span.add_clean_event(name, attributes, ns)
    else:
        span.add_event(name, attributes, ns)


class TailBuffer:
    """The newest events of a run, bounded in number and bytes. Ordinary messages make room for the rest."""

    def __init__(self, run: Any, span: Any) -> None:
        self._lock = threading.RLock()  # a signal handler may have something to say while its thread is in here
        self._plain: deque[HeldEvent] = deque()
        self._prior: deque[HeldEvent] = deque()
        self._next = self._size = self._left_out = 0
        self._gap: HeldEvent | None = None
        """The first event that was left out: what tells of the gap stands in its place."""
        self._direct = min(run._events - 1, event_limit(span))
        self._capacity = event_limit(span) - self._direct
        own = MAX_SPAN_BYTES - END_BYTES - run._weight - estimated_size(getattr(span, "attributes", None) or {})
        self._room = max(own, MAX_SPAN_BYTES // 8)
        self._is_closed = False

    def add(self, kept: HeldEvent, run: Any) -> bool:
        """Take one event; False where the run's span has ended."""
        with self._lock:
            if self._is_closed:
                return False
            kept.number = self._next
            self._next += 1
            (self._prior if kept.prior else self._plain).append(kept)
            self._size += kept.size
            if self._size > self._room or self._next > self._capacity:
                self._fit(self._capacity, run)
            return True

    def take_back(self, kept: HeldEvent) -> bool:
        """Forget an event that came too late; False where it is on the span already."""
        with self._lock:
            kind = self._prior if kept.prior else self._plain
            if kept not in kind:
                return False
            kind.remove(kept)
            self._size -= kept.size
            return True

    def _fit(self, most: int, run: Any) -> None:
        if self._size > self._room:
            self._shorten(run)
        while self._size > self._room or len(self._plain) + len(self._prior) > most:
            oldest = (self._plain or self._prior).popleft()
            self._size -= oldest.size
            self._left_out += 1
            if self._gap is None or oldest.number < self._gap.number:
                self._gap = oldest

    def _shorten(self, run: Any) -> None:
        for kept in (*self._plain, *self._prior):
            if self._size <= self._room:
                return
            if not kept.is_short:
                self._size -= kept.size
                number = kept.shorten()
                run._cut += number
                counts.add(VALUES, number)
                self._size += kept.size

    def close(self, span: Any, run: Any) -> int:
        """Put all on ``span``, which is about to end, with a mark where something is missing; returns how much is."""
        with self._lock:
            self._is_closed = True
            room = max(0, event_limit(span) - len(getattr(span, "events", None) or range(self._direct)))
            self._fit(room, run)
            if self._left_out and room > 1:
                self._fit(room - 1, run)
            kept = [*self._plain, *self._prior]
            if self._gap is not None and room > 1:
                self._gap.name, self._gap.attributes = wire.GAP_EVENT, {wire.DROPPED_EVENTS: self._left_out}
                kept.append(self._gap)
            self._plain.clear()
            self._prior.clear()
        counts.add(EVENTS, self._left_out)
        for event in sorted(kept, key=lambda one: one.number):
            event.add_to(span)
        return self._left_out


class ContinuationSpans:
    """Events of a run in child spans, as many in each as fit. Such a span is made when it is full, all at once: no lock
    is held while processors of the user's see it, and none is left open."""

    def __init__(self, run: Any, span: Any) -> None:
        self._lock = threading.RLock()
        self._span, self._relay = span, run._relay
        self._name = f"{getattr(span, 'name', None) or scrub_and_truncate(run.name)[0]} (continued)"
        self._most = event_limit(span)
        self._reserve = 0 if self._most == sys.maxsize else (self._most - run._events + 2) // 2
        """Room on the run's own span for what should be there: above all its exception."""
        self._waiting: list[HeldEvent] = []
        self._size = self._made = self._left_out = 0
        self._is_closed = False
        self._attributes = _identity(run)

    def add(self, kept: HeldEvent, run: Any) -> bool:
        """Take one event; False where the run's span has ended."""
        full: tuple[int, list[HeldEvent]] | None = None
        with self._lock:
            if self._is_closed:
                return False
            own = kept.prior and self._reserve > 0 and run._weight + kept.size <= DIRECT_BYTES + MAX_EVENT_BYTES
            if own:
                self._reserve -= 1
                run._weight += kept.size
            else:
                if self._waiting and (
                    len(self._waiting) >= self._most or self._size + kept.size > MAX_SPAN_BYTES - 2 * END_BYTES
                ):
                    full = self._taken()
                self._waiting.append(kept)
                self._size += kept.size
        if own:
            kept.add_to(self._span)
        if full is not None:
            self._carry(*full)
        return True

    def take_back(self, kept: HeldEvent) -> bool:
        """Forget an event that came too late; False where it is on its way already."""
        with self._lock:
            if kept not in self._waiting:
                return False
            self._waiting.remove(kept)
            return True

    def _taken(self) -> tuple[int, list[HeldEvent]]:
        self._made += 1
        taken, self._waiting, self._size = self._waiting, [], 0
        return self._made, taken

    def _carry(self, number: int, events: list[HeldEvent]) -> None:
        try:
            made = self._started(number, min(event.ns for event in events))
            if made is not None and made.is_recording():
                for event in events:
                    event.add_to(made)
                made.end(max(event.ns for event in events))
                if self._relay is not None:
                    self._relay.ended(made)
                return
        except Exception as error:  # a sampler or processor of the user's
            log_span_error("the continuation", error)
        with self._lock:
            self._left_out += len(events)
        counts.add(EVENTS, len(events))

    def _started(self, number: int, ns: int) -> Any:
        source = current_source() if self._relay is None else self._relay.source
        if source is None:
            return None
        context = set_span_in_context(self._span, Context())
        return source.start(self._name, context, (self._attributes, {wire.CONTINUATION: number}), ns)

    def close(self, span: Any, run: Any) -> int:
        """Carry what is left; returns how many events could not be."""
        with self._lock:
            self._is_closed = True
            last = self._taken() if self._waiting else None
        if last is not None:
            self._carry(*last)
        if self._made:
            span.set_attribute(wire.CONTINUATIONS, self._made)
        return self._left_out


def _identity(run: Any) -> dict[str, Any]:
    """What a child span is found by: the names and run ids of its run."""
    _, (flow, flow_run), task, _, _ = run._origin or _NOBODY
    known = {
        wire.FLOW_NAME: flow,
        wire.FLOW_RUN_ID: flow_run,
        wire.TASK_NAME: task,
        wire.TASK_RUN_ID: None if (number := run._task_number()[1]) is None else run_id("task_", number),
    }
    return {
        wire.KIND: "continuation",
        **{key: scrub_and_truncate(value)[0] for key, value in known.items() if value is not None},
    }


_NOBODY = (None, (None, None), None, None, None)


def overflow_of(run: Any, span: Any) -> TailBuffer | ContinuationSpans:
    """Where the events go that the span of ``run`` has no room for. Made with the first of them; atomic, as two threads
    may come at once."""
    found: Any = run.__dict__.get("_overflow")
    if found is None:
        kind = ContinuationSpans if CARRIES and event_limit(span) > 0 else TailBuffer
        found = run.__dict__.setdefault("_overflow", kind(run, span))
        run._direct = 0
    return found  # type: ignore[no-any-return]
