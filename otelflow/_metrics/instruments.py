"""Measure runs and exports: the instruments, on the meter provider in use.

The names of the numbers of exports are those of OpenTelemetry's semantic conventions for the telemetry of an SDK:
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

__all__ = ["ExportInstruments", "RunInstruments", "in_use", "of_component", "prepare", "use"]

_TO_A_SECOND = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BOUNDS = (*_TO_A_SECOND, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0)
"""Advice for the buckets of durations, in seconds: from a quick task to a night's flow."""

MOST_SERIES = 2_000
"""Sets of attributes of one instrument; what comes beyond is one series more, marked as OpenTelemetry has it."""

_OVERFLOW = {"otel.metric.overflow": True}


class MeasuredProcessor(Protocol):
    """What this module needs of a pipeline; :class:`otelflow._export.batch_processor.BatchProcessor` is one."""

    name: str
    kind: str
    """As ``otel.component.type`` has it."""

    def stats(self) -> Any:
        """An :class:`otelflow._export.batch_processor.ExportStats`."""


class ExportInstruments:
    """The numbers of ``stats()`` on a meter, asked for when metrics are collected."""

    def __init__(self, meter: Any, pipelines: Sequence[MeasuredProcessor]) -> None:
        self.pipelines = pipelines
        """Whose spans are told of."""
        observed: list[tuple[Any, str, Callable[[Any], Iterable[Observation]], str, str]] = [
            (meter.create_observable_counter, wire.DROPPED, self._dropped, "{item}", "What was left out."),
            (meter.create_observable_counter, wire.SPANS_PROCESSED, self._processed, "{span}", "Spans that ended."),
            (meter.create_observable_up_down_counter, wire.SPANS_WAITING, self._waiting, "{span}", "Spans that wait."),
            (meter.create_observable_counter, wire.SPANS_EXPORTED, self._exported, "{span}", "Spans sent, or not."),
        ]
        for create, name, callback, unit, description in observed:
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
            account = pipeline.stats()
            lost = {reason: account.lost.get(reason, 0) for reason in (QUEUE_FULL, AFTER_SHUTDOWN)}
            yield self._of(pipeline, account.produced - sum(lost.values()))
            yield from (self._of(pipeline, number, reason) for reason, number in lost.items() if number)

    def _waiting(self, _: Any) -> Iterable[Observation]:
        return [self._of(pipeline, pipeline.stats().pending) for pipeline in self.pipelines]

    def _exported(self, _: Any) -> Iterable[Observation]:
        for pipeline in self.pipelines:
            account = pipeline.stats()
            yield self._of(pipeline, account.delivered)
            for reason, number in account.lost.items():
                if reason not in (QUEUE_FULL, AFTER_SHUTDOWN):
                    yield self._of(pipeline, number, reason)

    def _of(self, pipeline: MeasuredProcessor, number: int, error: str | None = None) -> Observation:
        return Observation(number, of_component(pipeline.name, pipeline.kind, error))


def of_component(name: str, kind: str, error: str | None) -> dict[str, Any]:
    """Attributes of an exporter's numbers, by the semantic conventions."""
    made = {wire.COMPONENT_NAME: name, wire.COMPONENT_TYPE: kind}
    return made if error is None else {**made, wire.ERROR_TYPE: error}


class RunInstruments:
    """The instruments on one meter provider. What is asked for when metrics are collected works off the notes first, so
    that a collection is whole."""

    def __init__(self, provider: Any, pipelines: Sequence[MeasuredProcessor] = ()) -> None:
        meter = provider.get_meter(SCOPE, __version__)
        self.account = ExportInstruments(meter, pipelines)
        self._active: dict[str, int] = {}
        self._series: dict[tuple[Any, ...], dict[str, Any]] = {}
        meter.create_observable_up_down_counter(wire.FLOW_ACTIVE, [self._flows], "{flow}", "Flows that run.")
        self._flow_duration, self._task_duration, self._export_duration = (
            meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=BOUNDS)
            for name, description in (
                (wire.FLOW_DURATION, "How long flows took."),
                (wire.TASK_DURATION, "How long tasks took."),
                (wire.EXPORT_DURATION, "How long an export took."),
            )
        )

    # --- notes ------------------------------------------------------------------------------------------------------

    def take(self, note: Note) -> None:
        """Record one note; see :data:`otelflow._metrics.measurements.Note`."""
        if len(note) == 1:
            if note[0][2] is None:
                self._count_flow(note[0][1][0], 1)
        elif isinstance(note[0], str):
            name, kind, seconds, error = note
            self._export_duration.record(seconds, self._attributes(of_component, name, kind, error), Context())
        else:
            self._ended(*note)

    def _ended(self, origin: tuple[Any, ...], status: str, duration_ns: int, error: str | None) -> None:
        _, (flow, _), task, _, span_context = origin
        if task is None:
            self._count_flow(flow, -1)
        histogram = self._flow_duration if task is None else self._task_duration
        context = Context()
        if span_context is not None and span_context.trace_flags.sampled:  # an exemplar leads to the trace
            context = set_span_in_context(NonRecordingSpan(span_context), context)
        histogram.record(duration_ns / 1e9, self._attributes(_of_run, flow, task, status, error), context)

    def _count_flow(self, name: str, change: int) -> None:
        running = self._active.get(name)
        if running is not None or len(self._active) < MOST_SERIES:
            self._active[name] = max(0, (running or 0) + change)  # one that began before all this ends, too

    def forget_flows(self) -> None:
        """None runs: those of before the fork are the parent's."""
        self._active = dict.fromkeys(self._active, 0)

    def _attributes(self, make: Callable[..., dict[str, Any]], *facts: Any) -> dict[str, Any]:
        made = self._series.get(facts)
        if made is None:
            if len(self._series) >= MOST_SERIES:
                return _OVERFLOW
            made = self._series[facts] = make(*facts)
        return made

    # --- what is asked for at a collection --------------------------------------------------------------------------

    def _flows(self, _: Any) -> Iterable[Observation]:
        measures.process()
        return [Observation(number, {wire.FLOW_NAME: name}) for name, number in list(self._active.items())]


def _of_run(flow: str | None, task: str | None, status: str, error: str | None) -> dict[str, Any]:
    made = {wire.FLOW_NAME: flow, wire.TASK_NAME: task, wire.STATUS: status, wire.ERROR_TYPE: error}
    return {key: value for key, value in made.items() if value is not None}


_in_use: RunInstruments | None = None
make: Callable[[], RunInstruments] = lambda: RunInstruments(metrics.get_meter_provider())  # noqa: E731
"""Makes the instruments where there are none yet."""


def use(meters: RunInstruments) -> None:
    """From now on runs are measured by these instruments."""
    global _in_use
    _in_use = meters
    measures.sink, measures.on = meters.take, True


def in_use() -> RunInstruments | None:
    """The instruments that runs are measured by, if there are any."""
    return _in_use if measures.sink is not None else None


def prepare() -> None:
    """Have instruments, before the first run is measured."""
    if measures.sink is None:
        use(make())


def _in_child() -> None:
    if _in_use is not None:
        _in_use.forget_flows()


after_fork_in_child(_in_child)
