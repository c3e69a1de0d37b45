"""Which capture a span or an event belongs to, and how spans get here: ours by an override, others' by the global."""

from __future__ import annotations

import itertools
import threading
import weakref
from contextlib import ExitStack
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, create_key
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from otelflow._spans.id_generator import ProcessIdGenerator
from otelflow._spans.tracer import use_provider
from otelflow.context import get_current

__all__ = ["CAPTURE_KEY", "Record", "enter", "leave", "owner_of"]

CAPTURE_KEY = create_key("otelflow-capture")
"""Key of the capture that a context was made in."""

_MARK = "_otelflow_capture"
_lock = threading.RLock()
_active: list[Any] = []
_installed = ExitStack()


class Record:
    """A span of a capture: the live one while it is open, then what an exporter would get."""

    __slots__ = ("end_ns", "is_open", "number", "span", "start_ns")

    _numbers = itertools.count()

    def __init__(self, span: ReadableSpan, start_ns: int | None) -> None:
        self.span = span
        self.number = next(self._numbers)
        self.is_open = True
        self.start_ns = start_ns
        self.end_ns: int | None = None
        """These are shown instead of the span's own times, where the clock steps and the span reads another one."""


def owner_of(context: Context, trace_id: int | None = None) -> Any:
    """The capture that something in ``context`` belongs to; None where there is none.

    A span belongs where its parent does. What is left over from a capture that has ended belongs nowhere. Without a
    parent, the capture of the context decides; a thread that carries no context belongs to the newest one.
    """
    parent = trace.get_current_span(context)
    marked = getattr(parent, _MARK, None)
    if marked is not None:
        return marked if marked.is_active else None
    with _lock:
        wanted = parent.get_span_context().trace_id if trace_id is None else trace_id
        for capture in reversed(_active):
            if wanted and wanted in capture._traces:
                return capture
        named: Any = context.get(CAPTURE_KEY)
        if named is not None and named.is_active:
            return named
        return _active[-1] if _active else None


class _Nobody:
    """Marks a span that belongs to no capture, so that what is below it does not either."""

    is_active = False


class _Router(SpanProcessor):
    """Hands each span to the capture that it belongs to. Once added to a provider, it stays, and does nothing while no
    capture is active."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[Any, Any, Record]] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if not _active:
            return
        context = get_current() if parent_context is None else parent_context
        own = span.get_span_context()
        capture = owner_of(context, own.trace_id)
        setattr(span, _MARK, capture or _Nobody)
        if capture is not None:
            self._open[id(own)] = own, capture, capture._began(span)

    def on_end(self, span: ReadableSpan) -> None:
        context: Any = span.context
        known = self._open.pop(id(context), None)
        if known is not None:
            _, capture, record = known
            capture._ended(record, span)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class _Ids(ProcessIdGenerator):
    """Ids of the capture that asks, where it counts them; random ones otherwise."""

    def generate_span_id(self) -> int:
        capture = owner_of(get_current())
        counted = None if capture is None else capture._span_ids
        return super().generate_span_id() if counted is None else next(counted)

    def generate_trace_id(self) -> int:
        capture = owner_of(get_current())
        counted = None if capture is None else capture._trace_ids
        return super().generate_trace_id() if counted is None else next(counted)


_router = _Router()
_provider: TracerProvider | None = None


def _kit_provider() -> TracerProvider:
    """One for all captures, made with the first. Everything is sampled, whatever a remote parent says, and the
    environment's OTEL_* variables do not count: a test that holds here holds where they are set."""
    global _provider
    if _provider is None:
        _provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON),
            resource=Resource({"service.name": "test"}),
            shutdown_on_exit=False,
            id_generator=_Ids(),
            span_limits=SpanLimits(128, 128, 128, 128, 128, SpanLimits.UNSET, SpanLimits.UNSET),  # the SDK's defaults
        )
        _provider._disabled = False  # OTEL_SDK_DISABLED: a private name, without effect where the SDK has another
        _provider.add_span_processor(_router)
    return _provider


# --- the global provider --------------------------------------------------------------------------------------------


class _SwitchTracer(trace.ProxyTracer):
    """A tracer that asks at each call where spans go. The API's own proxy keeps the first provider that it meets: code
    that fetched its tracer at import would never leave the capture of the first test."""

    def __init__(self, *scope: Any) -> None:
        super().__init__(*scope)
        self._scope = scope
        self._known: tuple[Any, trace.Tracer] = (None, trace.NoOpTracer())

    @property
    def _tracer(self) -> trace.Tracer:
        provider: Any = _kit_provider() if _active else trace._TRACER_PROVIDER
        if provider is _switch:
            provider = None
        if self._known[0] is not provider:
            self._known = (provider, trace.NoOpTracer() if provider is None else provider.get_tracer(*self._scope))
        return self._known[1]


class _Switch(trace.TracerProvider):
    """The global provider while a capture is active and the program has set none."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        return _SwitchTracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)


_switch = _Switch()
_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def _global_provider() -> Any:
    return getattr(trace, "_TRACER_PROVIDER", None)


def _watch_global() -> None:
    """See the spans of others: by the switch in the place of a global provider, or by a processor in one that is set.

    The API has no way to take a global provider back: its private names are used here, where they exist.
    """
    provider = _global_provider()
    once: Any = getattr(trace, "_TRACER_PROVIDER_SET_ONCE", None)
    if provider is None and hasattr(once, "_done") and hasattr(trace, "_TRACER_PROVIDER"):
        trace._TRACER_PROVIDER = _switch
        once._done = True  # what the program sets up now would export what a test makes: the API says no, and logs it
    elif provider is not None and hasattr(provider, "add_span_processor") and provider not in _watched:
        provider.add_span_processor(_router)
        _watched.add(provider)


def _leave_global() -> None:
    if _global_provider() is _switch:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE._done = False


# --- captures -------------------------------------------------------------------------------------------------------


def enter(capture: Any) -> None:
    """``capture`` begins: the first one turns the spans this way."""
    with _lock:
        if not _active:
            _installed.enter_context(use_provider(_kit_provider()))
            _watch_global()
            _installed.callback(_leave_global)
        _active.append(capture)


def leave(capture: Any) -> None:
    """``capture`` ends; after the last one everything is as it was before the first."""
    with _lock:
        _active.remove(capture)
        if not _active:
            _installed.close()
