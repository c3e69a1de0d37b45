"""A span that is made when somebody needs it: of a call that turns out to be short, and had nothing below, none is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, Status, StatusCode, TraceFlags

__all__ = ["LazySpan", "LazySpanContext"]


class LazySpan(Span):
    """Stands for a span that is not started yet.

    Whoever asks for its context (a child that starts, a propagator that writes headers, a log record that is
    correlated) has it started, at the time at which the call began; so has an event, a link, an error, or an end that
    is late enough. Attributes wait. It uses OpenTelemetry's public API only, and so works with any provider.
    """

    def __init__(
        self,
        start: Callable[[dict[str, Any]], Span | None],
        above: Span,
        trace_id: int,
        started_ns: int,
        least_ns: int,
    ) -> None:
        self._above = above
        self.trace_id = trace_id
        """The trace of its parent; 0 where it has none."""
        self._start = start
        self._attributes: dict[str, Any] = {}
        self._until_ns = started_ns + least_ns
        self.real: Span | None = None
        """The span, once it is started."""
        self._name: str | None = None
        self._status: tuple[Any, ...] = ()
        self._ended = self._starting = False
        self._lock = threading.RLock()  # a processor that is told of the start may ask for the current span

    def made(self) -> Span | None:
        """The real span, started now if it has not been yet; None where the call ended without one."""
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
        real = self._start(self._attributes)
        if real is None:  # OpenTelemetry raised, and that was logged: the call goes on without a span
            self._ended = True
            return
        if self._name is not None:
            real.update_name(self._name)
        if self._status:
            real.set_status(*self._status)
        self.real = real
        del self._start  # with all that it holds

    @property
    def is_dropped(self) -> bool:
        """Whether the call ended, and left no span."""
        return self._ended and self.real is None

    @property
    def dropped_events(self) -> int:
        """How many events the SDK let go: none of a span that is not started."""
        return getattr(self.real, "dropped_events", 0)

    # --- the API's Span -----------------------------------------------------------------------------------------

    def get_span_context(self) -> SpanContext:
        """Of a call that ended without a span, its parent's: what it left running belongs there."""
        return (self.made() or self._above).get_span_context()

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
            (self.made() or INVALID_SPAN).set_status(status, description)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        (self.made() or INVALID_SPAN).add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        (self.made() or INVALID_SPAN).add_link(context, attributes)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        (self.made() or INVALID_SPAN).record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        if self.real is None and end_time is not None and end_time < self._until_ns:
            with self._lock:
                self._ended = self.real is None
        (self.made() or INVALID_SPAN).end(end_time)
        self._ended = True

    def __getattr__(self, name: str) -> Any:
        """What the SDK's spans have beyond the API (``events``, ``dropped_events``): of the real span."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.made(), name)


class LazySpanContext:
    """The ids of a postponed span, for events. To read them does not start it: a listener is told of calls that leave
    no span as well."""

    is_valid = True

    def __init__(self, span: LazySpan) -> None:
        self._span = span

    @property
    def trace_id(self) -> int:
        return self._span.trace_id or self._context.trace_id

    @property
    def span_id(self) -> int:
        """0 as long as the span is not started."""
        return self._context.span_id

    @property
    def trace_flags(self) -> TraceFlags:
        return self._context.trace_flags

    @property
    def _context(self) -> SpanContext:
        real = self._span.real
        return INVALID_SPAN_CONTEXT if real is None else real.get_span_context()
