"""What metrics are made of: noted on the path of a call, worked off beside it.

A histogram's ``record`` costs more than half of a task's span (opentelemetry-sdk 1.45). A run that ends leaves a tuple
here instead; it is recorded when metrics are collected, and by a thread where notes come faster than that.
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

_MANY = 5_000
"""Notes that are not left to the next collection."""
_MOST = 200_000

Note = tuple[Any, ...]
"""``(origin,)`` of a run that began; ``(origin, status, ns, error type)`` of one that ended; ``(exporter's name, its
type, seconds, error type)`` of an export."""

_KINDS = {"http": "otlp_http_span_exporter", "grpc": "otlp_grpc_span_exporter"}


class MeasurementBuffer:
    """Notes in their order, until ``sink`` takes them one by one. ``on`` says whether anybody wants them."""

    def __init__(self) -> None:
        self.on = is_true_in_environment(OTELFLOW_METRICS)
        self.sink: Callable[[Note], None] | None = None
        self._begin()
        after_fork_in_child(self._begin)

    def _begin(self) -> None:
        """Empty; also in a forked child: what its parent noted is its parent's, and the thread is gone."""
        self._taken: deque[Note] = deque()
        self._working = threading.Lock()
        self._crowded = threading.Event()
        self._unstarted = threading.Lock()
        """Taken, and never given back, by the one that starts the thread."""

    def started(self, origin: tuple[Any, ...]) -> None:
        """A run began."""
        self._taken.append((origin,))

    def stopped(self, origin: tuple[Any, ...], status: str, duration_ns: int, error: BaseException | None) -> None:
        """A run ended."""
        taken = self._taken
        kind = error_type(error) if status == "failed" and error is not None else None
        taken.append((origin, status, duration_ns, kind))
        if len(taken) > _MANY:
            self._hurry()

    def exported(self, name: str, kind: str, seconds: float, error: str | None) -> None:
        """An exporter answered."""
        self._taken.append((name, kind, seconds, error))

    def _hurry(self) -> None:
        if len(self._taken) > _MOST:
            self._taken.popleft()
            counts.add(NOT_MEASURED)
        if self._crowded.is_set():
            return
        self._crowded.set()
        if self._unstarted.acquire(blocking=False):
            try:
                threading.Thread(target=self._work, name="otelflow-metrics", daemon=True).start()
            except RuntimeError:  # the interpreter is ending: what is noted is worked off at the last collection
                pass

    def _work(self) -> None:
        crowded = self._crowded
        while crowded.wait():
            self.process()
            crowded.clear()

    def process(self) -> None:
        """Hand all notes so far to the sink. Returns when they are, whoever did it."""
        with self._working:
            taken, sink = self._taken, self.sink
            for _ in range(len(taken)):
                try:
                    note = taken.popleft()
                except IndexError:  # the oldest went meanwhile, as there were too many
                    return
                try:
                    if sink is not None:
                        sink(note)
                except Exception as error:
                    log_once(f"record {type(error).__name__}", "A duration could not be recorded.", exc_info=True)


measures = MeasurementBuffer()


def component_type(exporter: Any) -> str:
    """``otel.component.type``: OpenTelemetry's word where it has one, else the class."""
    cls = type(exporter)
    known = [_KINDS.get(part) for part in cls.__module__.split(".")] if cls.__name__ == "OTLPSpanExporter" else []
    named = [getattr(exporter, "component_type", None), *known]
    return next(filter(None, named), f"{cls.__module__}.{cls.__qualname__}")
