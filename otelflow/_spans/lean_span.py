"""A span of the SDK at a fifth of its price: the same class, made from facts that are known already.

Two thirds of a span written by hand go into starting it: attributes are checked one by one, and lists are made for
events and links that never come. A sixth goes into a second copy at its end. Here the span holds the attributes that
its function prepared once, and shares them with every other span of that function until somebody adds some; makes
lists when there is something to put in; and is handed to processors itself when it ends, as it refuses changes from
then on. It is the SDK's Span in all else: the same processors are told, the same limits hold, the same methods work.

This leans on names that the SDK keeps to itself. So a span of the SDK's own is looked at first: only where its fields
are exactly those known here is this class used; else the public API is.
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
_OK, _ERROR = StatusCode.OK, StatusCode.ERROR  # a member of an Enum is not found at once


class PendingEvents(list[tuple[str, dict[str, Any], int]]):
    """Events as they came: name, clean attributes, time. A class of its own, as others may put lists in its place."""

    __slots__ = ()


class LeanSpan(Span):
    """A span of the SDK that makes its attributes, events and links when there is something to put in, or a reader.

    What all spans of a tracer have in common (limits, scope, resource, processor) is on a subclass of its own.
    """

    _limits: Any
    _told: ProcessorHooks
    _lock: Any
    _name: str
    _start_time: int | None
    _context: SpanContext
    _parent: SpanContext | None
    _parts: SharedAttributes = ()
    _last: dict[str, Any] | None = None
    """Attributes of the end; as clean and as untouched as the parts."""
    _own: Any
    """The attributes, once somebody asked for them; None before."""
    _said: Any = ()
    """The events: as they came, while all are ours and nobody looked; then the SDK's own list of its events."""
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
            self._unshare()
        return self._own

    @_attributes.setter
    def _attributes(self, attributes: Any) -> None:  # processors that redact put other attributes in their place
        self._parts, self._last, self._own = (), None, attributes

    def _unshare(self) -> None:
        """Make this span's own attributes of the parts."""
        with self._lock:
            if self._own is None:
                parts = self._parts if self._last is None else (*self._parts, self._last)
                self._own = self._within_limits(merged(parts))

    def _within_limits(self, attributes: dict[str, Any]) -> BoundedAttributes:
        most = self._limits.max_span_attributes
        dropped = 0 if most is None else max(0, len(attributes) - most)
        for key in list(attributes)[:dropped]:
            del attributes[key]
        made = _bounded(attributes, most, self._end_time is not None)
        made.dropped = dropped
        return made

    @property
    def dropped_attributes(self) -> int:
        return self._attributes.dropped if isinstance(self._attributes, BoundedAttributes) else 0

    def set_attribute(self, key: str, value: Any) -> None:
        self._unshare()
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self._unshare()
        super().set_attributes(attributes)

    def conclude(self, attributes: dict[str, Any], failure: str | None = None) -> None:
        """Set the attributes of the end: clean ones, in a dict that nobody changes any more. ``failure`` describes what
        went wrong."""
        with self._lock:
            if self._end_time is None:
                if failure is not None and self._status.status_code is not _OK:  # OK, said by a user, stays
                    self._status = Status(_ERROR, failure)
                if self._own is None:
                    self._last = attributes
                    return
        if self._end_time is None:
            super().set_attributes(attributes)

    # --- events and links ---------------------------------------------------------------------------------------

    @property
    def _events(self) -> Any:  # in the SDK's class it is a field
        if type(self._said) is PendingEvents:
            with self._lock:
                self._make_events()
        return self._said

    @_events.setter
    def _events(self, events: Any) -> None:
        self._said = events

    def _make_events(self) -> Any:
        """The SDK's own list, with what was said so far; to be called under the lock."""
        said = self._said
        if type(said) is PendingEvents or said == ():
            made: Any = BoundedList(self._limits.max_events)
            most = self._limits.max_event_attributes
            made.extend([_event(name, attributes, timestamp, most) for name, attributes, timestamp in said])
            self._said = said = made
        return said

    @property
    def dropped_events(self) -> int:
        return self._said.dropped if isinstance(self._said, BoundedList) else 0

    def _add_event(self, event: Any) -> None:
        with self._lock:
            has_ended = self._end_time is not None
            if not has_ended:
                self._make_events().append(event)
        if has_ended:
            _logger.warning("Tried calling %s on an ended span.", "_add_event")

    def add_clean_event(self, name: str, attributes: dict[str, Any], timestamp: int) -> None:
        """:meth:`add_event` with clean attributes, in a dict that nobody changes any more: most of an event's price is
        the SDK's look at each of them, and the objects that it keeps them in."""
        limits = self._limits
        most = limits.max_event_attributes
        if limits.max_attribute_length is not None or "" in attributes or (most is not None and len(attributes) > most):
            self.add_event(name, attributes, timestamp)
            return
        most, lock = limits.max_events, self._lock
        try:
            lock.acquire()  # see finish()
            said = self._said
            if (
                self._end_time is None
                and (type(said) is PendingEvents or said == ())
                and (most is None or len(said) < most)
            ):
                if said:
                    said.append((name, attributes, timestamp))
                else:
                    self._said = PendingEvents(((name, attributes, timestamp),))
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
            self._hand_on()

    def finish(self, attributes: dict[str, Any], end_time: int, failure: str | None = None) -> None:
        """:meth:`conclude` and :meth:`end` at once."""
        lock = self._lock
        # "with" costs three times as much. To acquire before "try" will not do: a Ctrl-C may come between, leave
        # the lock shut, and who wants it next waits for ever. One that comes while this waits finds nothing to release:
        # that the lock is another thread's, an RLock knows.
        try:
            lock.acquire()
            is_done = self._own is None and self._end_time is None
            if is_done:
                self._last, self._end_time = attributes, end_time
                if failure is not None and self._status.status_code is not _OK:
                    self._status = Status(_ERROR, failure)
        finally:
            try:
                lock.release()
            except RuntimeError:
                pass
        if is_done:
            self._hand_on()
        else:
            self.conclude(attributes, failure)
            self.end(end_time)

    def _hand_on(self) -> None:
        told = self._told
        if told.composite._span_processors is not told.processors:
            told.refresh()
        if told.counts:
            self._record_end_metrics()
        for on_ending in told.endings:
            on_ending(self)
        for on_end in told.ends:
            on_end(self)

    def get_span_context(self) -> SpanContext:
        return self._context

    def __copy__(self) -> Any:
        return self._readable_span()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._readable_span(), memo)


def _event(name: str, attributes: dict[str, Any], timestamp: int, most: int | None) -> Any:
    event: Any = object.__new__(Event)
    event._name, event._timestamp, event._attributes = name, timestamp, _bounded(attributes, most, True)
    return event


def _bounded(attributes: dict[str, Any], most: int | None, is_immutable: bool) -> BoundedAttributes:
    """Clean attributes, no more than ``most``, as the SDK holds them, without it looking at each once more."""
    made: Any = object.__new__(BoundedAttributes)
    made._dict, made._lock, made.dropped = attributes, threading.RLock(), 0
    made.maxlen, made.max_value_len = most, None
    made._immutable, made._extended_attributes = is_immutable, False
    return made  # type: ignore[no-any-return]


# --- the shape of the SDK's own ----------------------------------------------------------------------------------

_OF_SPAN = {
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
_SOMETIMES = {"_record_end_metrics"}  # since 1.40
_OF_ATTRIBUTES = {"_dict", "_immutable", "_lock", "dropped", "max_value_len", "maxlen"}
_SOMETIMES_OF_ATTRIBUTES = {"_extended_attributes"}  # until 1.44

_known_shape: bool | None = None


def has_known_shape() -> bool:
    """Whether the SDK's spans have the fields that are known here. Looked at once a process."""
    global _known_shape
    if _known_shape is None:
        try:
            _known_shape = _look()
        except Exception:  # whatever another version may do
            _known_shape = False
    return _known_shape


def _look() -> bool:
    provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
    span: Any = provider.get_tracer("otelflow.shape").start_span("shape", attributes={"key": "value"})
    fields, of_attributes = set(vars(span)), set(vars(span._attributes))
    context = SpanContext(1, 2, False, TraceFlags(1))
    event: Any = Event("shape", {"key": "value"}, 1)
    return (
        fields - _SOMETIMES == _OF_SPAN
        and of_attributes - _SOMETIMES_OF_ATTRIBUTES == _OF_ATTRIBUTES
        and isinstance(span, Span)
        and type(span._lock) in (type(threading.Lock()), type(threading.RLock()))
        and tuple(context) == (1, 2, False, TraceFlags(1), context.trace_state, True)
        and set(vars(event)) == {"_name", "_timestamp", "_attributes"}
    )
