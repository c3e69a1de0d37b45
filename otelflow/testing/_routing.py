"""Route spans and events to the capture they belong to.

otelflow's own spans arrive through a provider override, other spans through the global provider.
"""

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

__all__ = ["CAPTURE_KEY", "Record", "activate", "capture_of", "deactivate"]

CAPTURE_KEY = create_key("otelflow-capture")
"""Context key of the capture in which the context was created."""

_MARK = "_otelflow_capture"
_lock = threading.RLock()
_active_captures: list[Any] = []
_undo = ExitStack()


class Record:
    """A span of a capture: the live span while it is open, then the one that an exporter would get."""

    __slots__ = ("end_ns", "is_open", "number", "span", "start_ns")

    _numbers = itertools.count()

    def __init__(self, span: ReadableSpan, start_ns: int | None) -> None:
        self.span = span
        self.number = next(self._numbers)
        self.is_open = True
        self.start_ns = start_ns
        self.end_ns: int | None = None
        """``start_ns`` and ``end_ns`` replace the times of a span with another clock, in a deterministic capture."""


def capture_of(context: Context, trace_id: int | None = None) -> Any:
    """Return the capture that a span or event in ``context`` belongs to; None if there is none.

    A span belongs to the capture of its parent. If that capture has ended, the span belongs to none. Without a parent,
    the capture in the context decides. A thread without a context belongs to the newest capture.
    """
    parent = trace.get_current_span(context)
    parent_capture = getattr(parent, _MARK, None)
    if parent_capture is not None:
        return parent_capture if parent_capture.is_active else None
    with _lock:
        trace_id = parent.get_span_context().trace_id if trace_id is None else trace_id
        for capture in reversed(_active_captures):
            if trace_id and trace_id in capture._traces:
                return capture
        context_capture: Any = context.get(CAPTURE_KEY)
        if context_capture is not None and context_capture.is_active:
            return context_capture
        return _active_captures[-1] if _active_captures else None


class _NoCapture:
    """Mark of a span that belongs to no capture, so that its descendants do not either."""

    is_active = False


class _Router(SpanProcessor):
    """Span processor that passes each span to its capture.

    It cannot be removed from a provider. While no capture is active, it does nothing.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[Any, Any, Record]] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if not _active_captures:
            return
        context = get_current() if parent_context is None else parent_context
        span_context = span.get_span_context()
        capture = capture_of(context, span_context.trace_id)
        setattr(span, _MARK, capture or _NoCapture)
        if capture is not None:
            self._open[id(span_context)] = span_context, capture, capture._on_start(span)

    def on_end(self, span: ReadableSpan) -> None:
        context: Any = span.context
        entry = self._open.pop(id(context), None)
        if entry is not None:
            _, capture, record = entry
            capture._on_end(record, span)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class _Ids(ProcessIdGenerator):
    """Id generator with the counted ids of a deterministic capture; otherwise with random ids."""

    def generate_span_id(self) -> int:
        capture = capture_of(get_current())
        numbers = None if capture is None else capture._span_ids
        return super().generate_span_id() if numbers is None else next(numbers)

    def generate_trace_id(self) -> int:
        capture = capture_of(get_current())
        numbers = None if capture is None else capture._trace_ids
        return super().generate_trace_id() if numbers is None else next(numbers)


_router = _Router()
_provider: TracerProvider | None = None


def _kit_provider() -> TracerProvider:
    """Return the provider of all captures; create it for the first one.

    It samples everything, even below a remote parent that is not sampled. It ignores the environment's OTEL_*
    variables, so that a test does not depend on them.
    """
    global _provider
    if _provider is None:
        _provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON),
            resource=Resource({"service.name": "test"}),
            shutdown_on_exit=False,
            id_generator=_Ids(),
            span_limits=SpanLimits(128, 128, 128, 128, 128, SpanLimits.UNSET, SpanLimits.UNSET),  # the SDK's defaults
        )
        _provider._disabled = False  # ignore OTEL_SDK_DISABLED. A private name: no effect if the SDK renames it
        _provider.add_span_processor(_router)
    return _provider


# --- the global provider --------------------------------------------------------------------------------------------


class _SwitchTracer(trace.ProxyTracer):
    """A tracer that looks up the provider at each call.

    The API's own proxy keeps the first provider that it finds: the spans of code that fetched its tracer at import
    would always go to the capture of the first test.
    """

    def __init__(self, *scope: Any) -> None:
        super().__init__(*scope)
        self._scope = scope
        self._cached: tuple[Any, trace.Tracer] = (None, trace.NoOpTracer())

    @property
    def _tracer(self) -> trace.Tracer:
        provider: Any = _kit_provider() if _active_captures else trace._TRACER_PROVIDER
        if provider is _switch:
            provider = None
        if self._cached[0] is not provider:
            self._cached = (provider, trace.NoOpTracer() if provider is None else provider.get_tracer(*self._scope))
        return self._cached[1]


class _Switch(trace.TracerProvider):
    """The global provider while a capture is active, if the program has set none."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        return _SwitchTracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)


_switch = _Switch()
_watched_providers: weakref.WeakSet[Any] = weakref.WeakSet()


def _global_provider() -> Any:
    return getattr(trace, "_TRACER_PROVIDER", None)


def _attach_to_global_provider() -> None:
    """Capture other spans: install the switch as the global provider, or add a processor to the one that is set.

    The API cannot unset a global provider, so this uses its private names, if they exist.
    """
    provider = _global_provider()
    set_once: Any = getattr(trace, "_TRACER_PROVIDER_SET_ONCE", None)
    if provider is None and hasattr(set_once, "_done") and hasattr(trace, "_TRACER_PROVIDER"):
        trace._TRACER_PROVIDER = _switch
        # A provider that the program sets now would export the test's spans. With this, the API refuses and logs it.
        set_once._done = True
    elif provider is not None and hasattr(provider, "add_span_processor") and provider not in _watched_providers:
        provider.add_span_processor(_router)
        _watched_providers.add(provider)


def _restore_global_provider() -> None:
    if _global_provider() is _switch:
        trace._TRACER_PROVIDER = None
        trace._TRACER_PROVIDER_SET_ONCE._done = False


# --- captures -------------------------------------------------------------------------------------------------------


def activate(capture: Any) -> None:
    """Activate ``capture``. The first one redirects spans to captures."""
    with _lock:
        if not _active_captures:
            _undo.enter_context(use_provider(_kit_provider()))
            _attach_to_global_provider()
            _undo.callback(_restore_global_provider)
        _active_captures.append(capture)


def deactivate(capture: Any) -> None:
    """Deactivate ``capture``. After the last one, the state before the first one is restored."""
    with _lock:
        _active_captures.remove(capture)
        if not _active_captures:
            _undo.close()
