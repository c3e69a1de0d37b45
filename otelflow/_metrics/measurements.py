"""Buffer measurements on the hot path; record them later.

A histogram's ``record`` costs more than half of a task's span (opentelemetry-sdk 1.45). So a run that ends appends a
tuple here. The tuples are recorded when metrics are collected, or by a thread if too many arrive in between.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from otelflow._runtime.drop_counts import NOT_MEASURED, counts
from otelflow._runtime.fork import after_fork_in_child
from otelflow._runtime.log_once import log_once
from otelflow._runtime.names import error_type
from otelflow.config import OTELFLOW_METRICS, is_true_in_environment

__all__ = ["MeasurementBuffer", "component_type", "measures"]

_NOTES_FOR_THREAD = 5_000
"""Number of buffered notes above which a thread processes them, before the next collection."""
_MAX_NOTES = 200_000

Note = tuple[Any, ...]
"""One measurement.

``(origin,)``: a run started. ``(origin, status, ns, error type)``: a run ended. ``(exporter's name, its type, seconds,
error type)``: an export ended."""

_OTLP_TYPES = {"http": "otlp_http_span_exporter", "grpc": "otlp_grpc_span_exporter"}


class MeasurementBuffer:
    """A queue of notes that ``process`` passes to ``sink``, one by one. ``on`` is True if metrics are enabled."""

    def __init__(self) -> None:
        self.on = is_true_in_environment(OTELFLOW_METRICS)
        self.sink: Callable[[Note], None] | None = None
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        """Start empty. Also called in a forked child: the parent records its own notes, and the child has no thread."""
        self._notes: deque[Note] = deque()
        self._process_lock = threading.Lock()
        self._wake_up = threading.Event()
        self._thread_lock = threading.Lock()
        """Acquired by the caller that starts the thread, and never released: so only one thread starts."""

    def note_start(self, origin: tuple[Any, ...]) -> None:
        """Note that a run started."""
        self._notes.append((origin,))

    def note_end(self, origin: tuple[Any, ...], status: str, duration_ns: int, error: BaseException | None) -> None:
        """Note that a run ended."""
        notes = self._notes
        kind = error_type(error) if status == "failed" and error is not None else None
        notes.append((origin, status, duration_ns, kind))
        if len(notes) > _NOTES_FOR_THREAD:
            self._start_processing()

    def note_export(self, name: str, kind: str, seconds: float, error: str | None) -> None:
        """Note that an export ended."""
        self._notes.append((name, kind, seconds, error))

    def _start_processing(self) -> None:
        if len(self._notes) > _MAX_NOTES:
            self._notes.popleft()
            counts.add(NOT_MEASURED)
        if self._wake_up.is_set():
            return
        self._wake_up.set()
        if self._thread_lock.acquire(blocking=False):
            try:
                threading.Thread(target=self._run, name="otelflow-metrics", daemon=True).start()
            except RuntimeError:  # the interpreter is ending: the last collection processes the notes
                pass

    def _run(self) -> None:
        wake_up = self._wake_up
        while wake_up.wait():
            self.process()
            wake_up.clear()

    def process(self) -> None:
        """Pass all notes so far to the sink. Also waits for another thread that is doing this."""
        with self._process_lock:
            notes, sink = self._notes, self.sink
            for _ in range(len(notes)):
                try:
                    note = notes.popleft()
                except IndexError:  # another thread dropped the oldest, as there were too many
                    return
                try:
                    if sink is not None:
                        sink(note)
                except Exception as error:
                    log_once(f"record {type(error).__name__}", "A duration could not be recorded.", exc_info=True)


measures = MeasurementBuffer()


def component_type(exporter: Any) -> str:
    """Return ``otel.component.type`` of an exporter: OpenTelemetry's name if it has one, else the class."""
    cls = type(exporter)
    otlp_types = (
        [_OTLP_TYPES.get(part) for part in cls.__module__.split(".")] if cls.__name__ == "OTLPSpanExporter" else []
    )
    candidates = [getattr(exporter, "component_type", None), *otlp_types]
    return next(filter(None, candidates), f"{cls.__module__}.{cls.__qualname__}")
