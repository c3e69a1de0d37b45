"""A span that starts only when it is needed: a short call without children leaves no span."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, Status, StatusCode, TraceFlags

__all__ = ["LazySpan", "LazySpanContext"]


class LazySpan(Span):
    """A placeholder for a span that has not started yet.

    Reading its context starts the span, with the start time of the call: a child span, a propagator that writes headers
    and a correlated log record do that. An event, a link, an error, or an end after ``least_ns`` starts it, too.
    Attributes are buffered until then. It uses OpenTelemetry's public API only, so it works with any provider.
    """

    def __init__(
        self,
        start: Callable[[dict[str, Any]], Span | None],
        parent: Span,
        trace_id: int,
        started_ns: int,
        least_ns: int,
    ) -> None:
        self._parent = parent
        self.trace_id = trace_id
        """The parent's trace id; 0 without a parent."""
        self._start = start
        self._attributes: dict[str, Any] = {}
        self._until_ns = started_ns + least_ns
        self.real: Span | None = None
        """The real span, once it has started."""
        self._name: str | None = None
        self._status: tuple[Any, ...] = ()
        self._ended = self._starting = False
        self._lock = threading.RLock()  # a processor's on_start may read the current span

    def ensure_started(self) -> Span | None:
        """Start the real span unless it has started; return it. None if the call ended without a span."""
        if self.real is None and not self._ended and not self._starting:
            with self._lock:
                if self.real is None and not self._ended and not self._starting:
                    self._starting = True
                    try:
                        self._begin()
                    finally:
                        self._starting = False
        return self.real

    def _begin(self) -> None:
        span = self._start(self._attributes)
        if span is None:  # OpenTelemetry raised and that was logged: the call continues without a span
            self._ended = True
            return
        if self._name is not None:
            span.update_name(self._name)
        if self._status:
            span.set_status(*self._status)
        self.real = span
        del self._start  # frees what the function holds

    @property
    def is_dropped(self) -> bool:
        """True if the call has ended without a span."""
        return self._ended and self.real is None

    @property
    def dropped_events(self) -> int:
        """Number of events that the SDK dropped; 0 while the span has not started."""
        return getattr(self.real, "dropped_events", 0)

    # --- the API's Span -----------------------------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """Return the real span's context; the parent's if the call ended without a span.

        Work that such a call left running belongs to its parent.
        """
        return (self.ensure_started() or self._parent).get_span_context()

    def is_recording(self) -> bool:
        return not self._ended if self.real is None else self.real.is_recording()

    def set_attributes(self, attributes: Any) -> None:
        if self.real is None:
            self._attributes.update(attributes)
        else:
            self.real.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        if self.real is None:
            self._attributes[key] = value
        else:
            self.real.set_attribute(key, value)

    def update_name(self, name: str) -> None:
        if self.real is None:
            self._name = name
        else:
            self.real.update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        code = status.status_code if isinstance(status, Status) else status
        if self.real is None and code is not StatusCode.ERROR:
            self._status = (status, description)
        else:
            (self.ensure_started() or INVALID_SPAN).set_status(status, description)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        (self.ensure_started() or INVALID_SPAN).add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        (self.ensure_started() or INVALID_SPAN).add_link(context, attributes)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        (self.ensure_started() or INVALID_SPAN).record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        if self.real is None and end_time is not None and end_time < self._until_ns:
            with self._lock:
                self._ended = self.real is None
        (self.ensure_started() or INVALID_SPAN).end(end_time)
        self._ended = True

    def __getattr__(self, name: str) -> Any:
        """Return what the SDK's spans have beyond the API (``events``, ``dropped_events``), from the real span."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.ensure_started(), name)


class LazySpanContext:
    """The ids of a lazy span, for events.

    Reading them does not start the span: listeners also receive the events of calls that leave no span.
    """

    is_valid = True

    def __init__(self, span: LazySpan) -> None:
        self._span = span

    @property
    def trace_id(self) -> int:
        return self._span.trace_id or self._context.trace_id

    @property
    def span_id(self) -> int:
        """0 until the span has started."""
        return self._context.span_id

    @property
    def trace_flags(self) -> TraceFlags:
        return self._context.trace_flags

    @property
    def _context(self) -> SpanContext:
        span = self._span.real
        return INVALID_SPAN_CONTEXT if span is None else span.get_span_context()
