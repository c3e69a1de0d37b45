"""Instruments for runs and exports, on the meter provider in use.

The metrics of exports have the names of OpenTelemetry's semantic conventions for the telemetry of an SDK:
https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from otelflow import attributes as wire
from otelflow._metrics.measurements import Note, measures
from otelflow._runtime.drop_counts import AFTER_SHUTDOWN, LISTENER_ERRORS, QUEUE_FULL, counts
from otelflow._runtime.fork import after_fork_in_child
from otelflow._spans.tracer import SCOPE
from otelflow._version import __version__

__all__ = ["ExportInstruments", "RunInstruments", "component_attributes", "in_use", "prepare", "use"]

_BOUNDS_UP_TO_A_SECOND = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BOUNDS = (*_BOUNDS_UP_TO_A_SECOND, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""Advised bucket boundaries for durations, in seconds: from a quick task to a flow that runs all night."""

MAX_SERIES = 2_000
"""Largest number of attribute sets of one instrument. All others share one series, with the overflow mark."""

_OVERFLOW_ATTRIBUTES = {"otel.metric.overflow": True}


class MeasuredProcessor(Protocol):
    """What this module uses of a processor; :class:`otelflow._export.batch_processor.BatchProcessor` implements it."""

    name: str
    kind: str
    """The value of ``otel.component.type``."""

    def stats(self) -> Any:
        """Return an :class:`otelflow._export.batch_processor.ExportStats`."""


class ExportInstruments:
    """Observable instruments for the numbers of ``stats()``, read when metrics are collected."""

    def __init__(self, meter: Any, pipelines: Sequence[MeasuredProcessor]) -> None:
        self.pipelines = pipelines
        """The processors whose spans are counted."""
        specifications: list[tuple[Any, str, Callable[[Any], Iterable[Observation]], str, str]] = [
            (meter.create_observable_counter, wire.DROPPED, self._dropped, "{item}", "Items that were left out."),
            (meter.create_observable_counter, wire.SPANS_PROCESSED, self._processed, "{span}", "Spans that ended."),
            (
                meter.create_observable_up_down_counter,
                wire.SPANS_WAITING,
                self._waiting,
                "{span}",
                "Spans in the queue.",
            ),
            (meter.create_observable_counter, wire.SPANS_EXPORTED, self._exported, "{span}", "Spans sent or lost."),
        ]
        for create, name, callback, unit, description in specifications:
            create(name, [callback], unit, description)

    def _dropped(self, _: Any) -> Iterable[Observation]:
        numbers = counts.snapshot()
        numbers.pop(LISTENER_ERRORS, None)
        for pipeline in self.pipelines:
            for reason, number in pipeline.stats().lost.items():
                numbers[reason] = numbers.get(reason, 0) + number
        return [Observation(number, {wire.DROPPED_REASON: reason}) for reason, number in numbers.items()]

    def _processed(self, _: Any) -> Iterable[Observation]:
        for pipeline in self.pipelines:
            stats = pipeline.stats()
            lost = {reason: stats.lost.get(reason, 0) for reason in (QUEUE_FULL, AFTER_SHUTDOWN)}
            yield self._observe(pipeline, stats.produced - sum(lost.values()))
            yield from (self._observe(pipeline, number, reason) for reason, number in lost.items() if number)

    def _waiting(self, _: Any) -> Iterable[Observation]:
        return [self._observe(pipeline, pipeline.stats().pending) for pipeline in self.pipelines]

    def _exported(self, _: Any) -> Iterable[Observation]:
        for pipeline in self.pipelines:
            stats = pipeline.stats()
            yield self._observe(pipeline, stats.delivered)
            for reason, number in stats.lost.items():
                if reason not in (QUEUE_FULL, AFTER_SHUTDOWN):
                    yield self._observe(pipeline, number, reason)

    def _observe(self, pipeline: MeasuredProcessor, number: int, error: str | None = None) -> Observation:
        return Observation(number, component_attributes(pipeline.name, pipeline.kind, error))


def component_attributes(name: str, kind: str, error: str | None) -> dict[str, Any]:
    """Return the attributes of an exporter's metrics, as in the semantic conventions."""
    attributes = {wire.COMPONENT_NAME: name, wire.COMPONENT_TYPE: kind}
    return attributes if error is None else {**attributes, wire.ERROR_TYPE: error}


class RunInstruments:
    """The instruments for runs on one meter provider.

    A collection calls the observable counter, which first processes the buffered notes. So the collection is complete.
    """

    def __init__(self, provider: Any, pipelines: Sequence[MeasuredProcessor] = ()) -> None:
        meter = provider.get_meter(SCOPE, __version__)
        self.export_instruments = ExportInstruments(meter, pipelines)
        self._active: dict[str, int] = {}
        self._series: dict[tuple[Any, ...], dict[str, Any]] = {}
        meter.create_observable_up_down_counter(wire.FLOW_ACTIVE, [self._flows], "{flow}", "Flows that are running.")
        self._flow_duration, self._task_duration, self._export_duration = (
            meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=BOUNDS)
            for name, description in (
                (wire.FLOW_DURATION, "Duration of flows."),
                (wire.TASK_DURATION, "Duration of tasks."),
                (wire.EXPORT_DURATION, "Duration of an export."),
            )
        )

    # --- notes ------------------------------------------------------------------------------------------------------

    def record(self, note: Note) -> None:
        """Record one note; see :data:`otelflow._metrics.measurements.Note`."""
        if len(note) == 1:
            if note[0][2] is None:
                self._count_flow(note[0][1][0], 1)
        elif isinstance(note[0], str):
            name, kind, seconds, error = note
            self._export_duration.record(seconds, self._attributes(component_attributes, name, kind, error), Context())
        else:
            self._record_end(*note)

    def _record_end(self, origin: tuple[Any, ...], status: str, duration_ns: int, error: str | None) -> None:
        _, (flow, _), task, _, span_context = origin
        if task is None:
            self._count_flow(flow, -1)
        histogram = self._flow_duration if task is None else self._task_duration
        context = Context()
        if span_context is not None and span_context.trace_flags.sampled:  # the exemplar links to the trace
            context = set_span_in_context(NonRecordingSpan(span_context), context)
        histogram.record(duration_ns / 1e9, self._attributes(_run_attributes, flow, task, status, error), context)

    def _count_flow(self, name: str, change: int) -> None:
        running = self._active.get(name)
        if running is not None or len(self._active) < MAX_SERIES:
            self._active[name] = max(0, (running or 0) + change)  # below 0: a flow that started before the instruments

    def reset_active_flows(self) -> None:
        """Set all numbers of active flows to 0. Called in a forked child: these flows run in the parent."""
        self._active = dict.fromkeys(self._active, 0)

    def _attributes(self, create: Callable[..., dict[str, Any]], *facts: Any) -> dict[str, Any]:
        attributes = self._series.get(facts)
        if attributes is None:
            if len(self._series) >= MAX_SERIES:
                return _OVERFLOW_ATTRIBUTES
            attributes = self._series[facts] = create(*facts)
        return attributes

    # --- read at a collection ---------------------------------------------------------------------------------------

    def _flows(self, _: Any) -> Iterable[Observation]:
        measures.process()
        return [Observation(number, {wire.FLOW_NAME: name}) for name, number in list(self._active.items())]


def _run_attributes(flow: str | None, task: str | None, status: str, error: str | None) -> dict[str, Any]:
    attributes = {wire.FLOW_NAME: flow, wire.TASK_NAME: task, wire.STATUS: status, wire.ERROR_TYPE: error}
    return {key: value for key, value in attributes.items() if value is not None}


_in_use: RunInstruments | None = None
make: Callable[[], RunInstruments] = lambda: RunInstruments(metrics.get_meter_provider())  # noqa: E731
"""Creates the instruments for the first run that is measured."""


def use(meters: RunInstruments) -> None:
    """Record the measurements of runs with these instruments from now on."""
    global _in_use
    _in_use = meters
    measures.sink, measures.on = meters.record, True


def in_use() -> RunInstruments | None:
    """Return the instruments that record the measurements of runs, if there are any."""
    return _in_use if measures.sink is not None else None


def prepare() -> None:
    """Create the instruments, if there are none, before the first run is measured."""
    if measures.sink is None:
        use(make())


def _in_child() -> None:
    if _in_use is not None:
        _in_use.reset_active_flows()


after_fork_in_child(_in_child)
