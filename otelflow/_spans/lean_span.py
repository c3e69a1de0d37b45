"""A subclass of the SDK's span at a fifth of its cost: it skips checks and copies that otelflow's spans do not need.

Two thirds of the cost of a span started through the SDK go into its start: the SDK checks attributes one by one, and
creates lists for events and links that never come. A sixth goes into a second copy at the end. A lean span shares the
attributes that its function prepared once with all spans of that function, until somebody adds one. It creates lists
when there is something to put in. When it ends, processors receive the span itself: it refuses changes from then on.
In all else it is the SDK's Span: it calls the same processors, has the same limits and the same methods.

It depends on private names of the SDK. So ``has_known_shape`` first inspects one of the SDK's own spans: this class is
used only if its fields are exactly those listed here. Otherwise spans are started through the public API.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, Span, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otelflow._runtime import clock
from otelflow._spans.processor_hooks import ProcessorHooks
from otelflow._spans.shared_attributes import SharedAttributes, merged

__all__ = ["LeanSpan", "PendingEvents", "has_known_shape"]

_logger = logging.getLogger("opentelemetry.sdk.trace")
_OK, _ERROR = StatusCode.OK, StatusCode.ERROR  # the lookup of an Enum's member is slow


class PendingEvents(list[tuple[str, dict[str, Any], int]]):
    """Events in the order of their arrival: name, scrubbed attributes, time in ns.

    A separate class, because others may set ``_events`` to a plain list.
    """

    __slots__ = ()


class LeanSpan(Span):
    """A span of the SDK that builds its attributes, events and links only when they are written or read.

    Each tracer has its own subclass, which holds what its spans have in common: limits, scope, processor.
    """

    _limits: Any
    _hooks: ProcessorHooks
    _lock: Any
    _name: str
    _start_time: int | None
    _context: SpanContext
    _parent: SpanContext | None
    _parts: SharedAttributes = ()
    _last: dict[str, Any] | None = None
    """Attributes set at the end. They are scrubbed, and nobody changes the dict any more, as with the parts."""
    _own: Any
    """The span's own attributes; None until they are written or read."""
    _event_list: Any = ()
    """The events: ``PendingEvents`` while all are otelflow's and nobody has read them, then the SDK's BoundedList."""
    _links: Any = ()
    _status = Status(StatusCode.UNSET)
    _kind = SpanKind.INTERNAL
    _end_time: int | None
    _trace_config = None
    _record_end_metrics: Any = None
    _record_exception = True
    _set_status_on_exception = True

    # --- attributes ---------------------------------------------------------------------------------------------

    @property
    def _attributes(self) -> Any:  # in the SDK's class it is a field
        if self._own is None:
            self._build_attributes()
        return self._own

    @_attributes.setter
    def _attributes(self, attributes: Any) -> None:  # processors that redact replace the attributes
        self._parts, self._last, self._own = (), None, attributes

    def _build_attributes(self) -> None:
        """Build this span's own attributes from the shared parts."""
        with self._lock:
            if self._own is None:
                parts = self._parts if self._last is None else (*self._parts, self._last)
                self._own = self._within_limits(merged(parts))

    def _within_limits(self, attributes: dict[str, Any]) -> BoundedAttributes:
        limit = self._limits.max_span_attributes
        dropped = 0 if limit is None else max(0, len(attributes) - limit)
        for key in list(attributes)[:dropped]:
            del attributes[key]
        bounded = _bounded(attributes, limit, self._end_time is not None)
        bounded.dropped = dropped
        return bounded

    @property
    def dropped_attributes(self) -> int:
        return self._attributes.dropped if isinstance(self._attributes, BoundedAttributes) else 0

    def set_attribute(self, key: str, value: Any) -> None:
        self._build_attributes()
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self._build_attributes()
        super().set_attributes(attributes)

    def conclude(self, attributes: dict[str, Any], failure: str | None = None) -> None:
        """Set the attributes of the end. The caller has scrubbed them, and must not change the dict afterwards.

        ``failure`` is the description of the error status; None if the run did not fail.
        """
        with self._lock:
            if self._end_time is None:
                if failure is not None and self._status.status_code is not _OK:  # an OK that the user set stays
                    self._status = Status(_ERROR, failure)
                if self._own is None:
                    self._last = attributes
                    return
        if self._end_time is None:
            super().set_attributes(attributes)

    # --- events and links ---------------------------------------------------------------------------------------

    @property
    def _events(self) -> Any:  # in the SDK's class it is a field
        if type(self._event_list) is PendingEvents:
            with self._lock:
                self._build_events()
        return self._event_list

    @_events.setter
    def _events(self, events: Any) -> None:
        self._event_list = events

    def _build_events(self) -> Any:
        """Return the SDK's list of the events so far. The caller holds the lock."""
        events = self._event_list
        if type(events) is PendingEvents or events == ():
            bounded: Any = BoundedList(self._limits.max_events)
            limit = self._limits.max_event_attributes
            bounded.extend([_event(name, attributes, timestamp, limit) for name, attributes, timestamp in events])
            self._event_list = events = bounded
        return events

    @property
    def dropped_events(self) -> int:
        return self._event_list.dropped if isinstance(self._event_list, BoundedList) else 0

    def _add_event(self, event: Any) -> None:
        with self._lock:
            has_ended = self._end_time is not None
            if not has_ended:
                self._build_events().append(event)
        if has_ended:
            _logger.warning("Tried calling %s on an ended span.", "_add_event")

    def add_scrubbed_event(self, name: str, attributes: dict[str, Any], timestamp: int) -> None:
        """Add an event like :meth:`add_event`. The caller scrubbed the attributes, and must not change the dict later.

        Most of the cost of ``add_event`` is its check of each attribute, and the objects that hold them.
        """
        limits = self._limits
        limit = limits.max_event_attributes
        if (
            limits.max_attribute_length is not None
            or "" in attributes
            or (limit is not None and len(attributes) > limit)
        ):
            self.add_event(name, attributes, timestamp)
            return
        limit, lock = limits.max_events, self._lock
        try:
            lock.acquire()  # before "try" it would be unsafe: see finish()
            events = self._event_list
            if (
                self._end_time is None
                and (type(events) is PendingEvents or events == ())
                and (limit is None or len(events) < limit)
            ):
                if events:
                    events.append((name, attributes, timestamp))
                else:
                    self._event_list = PendingEvents(((name, attributes, timestamp),))
                return
        finally:
            try:
                lock.release()
            except RuntimeError:
                pass
        self._add_event(_event(name, attributes, timestamp, limits.max_event_attributes))

    def _add_link(self, link: Any) -> None:
        if not self._links:
            with self._lock:
                if not self._links and self._end_time is None:
                    self._links = BoundedList(self._limits.max_links)
        super()._add_link(link)

    # --- the end ------------------------------------------------------------------------------------------------

    def end(self, end_time: int | None = None) -> None:
        with self._lock:
            has_ended = self._end_time is not None
            if not has_ended:
                self._end_time = clock.now() if end_time is None else end_time
                if self._own is not None:
                    self._own._immutable = True
        if has_ended:
            _logger.warning("Calling end() on an ended span.")
        else:
            self._notify_end()

    def finish(self, attributes: dict[str, Any], end_time: int, failure: str | None = None) -> None:
        """Set the attributes of the end, and end the span: :meth:`conclude` and :meth:`end` in one call."""
        lock = self._lock
        # "with" costs three times as much. The lock must be acquired inside "try": a Ctrl-C between the two statements
        # would leave it locked, and the next thread would wait forever. If a Ctrl-C comes while this thread waits for
        # the lock, release() raises RuntimeError: an RLock knows that another thread owns it.
        try:
            lock.acquire()
            is_finished = self._own is None and self._end_time is None
            if is_finished:
                self._last, self._end_time = attributes, end_time
                if failure is not None and self._status.status_code is not _OK:
                    self._status = Status(_ERROR, failure)
        finally:
            try:
                lock.release()
            except RuntimeError:
                pass
        if is_finished:
            self._notify_end()
        else:
            self.conclude(attributes, failure)
            self.end(end_time)

    def _notify_end(self) -> None:
        hooks = self._hooks
        if hooks.composite._span_processors is not hooks.processors:
            hooks.refresh()
        if hooks.counts:
            self._record_end_metrics()
        for on_ending in hooks.endings:
            on_ending(self)
        for on_end in hooks.ends:
            on_end(self)

    def get_span_context(self) -> SpanContext:
        return self._context

    def __copy__(self) -> Any:
        return self._readable_span()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._readable_span(), memo)


def _event(name: str, attributes: dict[str, Any], timestamp: int, limit: int | None) -> Any:
    event: Any = object.__new__(Event)
    event._name, event._timestamp, event._attributes = name, timestamp, _bounded(attributes, limit, True)
    return event


def _bounded(attributes: dict[str, Any], limit: int | None, is_immutable: bool) -> BoundedAttributes:
    """Return scrubbed attributes as the SDK's BoundedAttributes, without its checks. ``limit`` is not enforced here."""
    bounded: Any = object.__new__(BoundedAttributes)
    bounded._dict, bounded._lock, bounded.dropped = attributes, threading.RLock(), 0
    bounded.maxlen, bounded.max_value_len = limit, None
    bounded._immutable, bounded._extended_attributes = is_immutable, False
    return bounded  # type: ignore[no-any-return]


# --- the fields of the SDK's spans -------------------------------------------------------------------------------

_SPAN_FIELDS = {
    "_attributes",
    "_context",
    "_end_time",
    "_events",
    "_instrumentation_info",
    "_instrumentation_scope",
    "_kind",
    "_limits",
    "_links",
    "_lock",
    "_name",
    "_parent",
    "_record_exception",
    "_resource",
    "_sampler",
    "_set_status_on_exception",
    "_span_processor",
    "_start_time",
    "_status",
    "_trace_config",
}
_OPTIONAL_SPAN_FIELDS = {"_record_end_metrics"}  # since 1.40
_ATTRIBUTES_FIELDS = {"_dict", "_immutable", "_lock", "dropped", "max_value_len", "maxlen"}
_OPTIONAL_ATTRIBUTES_FIELDS = {"_extended_attributes"}  # until 1.44

_known_shape: bool | None = None


def has_known_shape() -> bool:
    """Return whether the SDK's spans have exactly the fields listed here. Checked once in a process."""
    global _known_shape
    if _known_shape is None:
        try:
            _known_shape = _check_shape()
        except Exception:  # another version of the SDK may raise anything
            _known_shape = False
    return _known_shape


def _check_shape() -> bool:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    span: Any = provider.get_tracer("otelflow.shape").start_span("shape", attributes={"key": "value"})
    fields, attributes_fields = set(vars(span)), set(vars(span._attributes))
    context = SpanContext(1, 2, False, TraceFlags(1))
    event: Any = Event("shape", {"key": "value"}, 1)
    return (
        fields - _OPTIONAL_SPAN_FIELDS == _SPAN_FIELDS
        and attributes_fields - _OPTIONAL_ATTRIBUTES_FIELDS == _ATTRIBUTES_FIELDS
        and isinstance(span, Span)
        and type(span._lock) in (type(threading.Lock()), type(threading.RLock()))
        and tuple(context) == (1, 2, False, TraceFlags(1), context.trace_state, True)
        and set(vars(event)) == {"_name", "_timestamp", "_attributes"}
    )
