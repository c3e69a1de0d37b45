"""Metrics of what became of the spans: the instruments.

The names are those of OpenTelemetry's semantic conventions for the telemetry of an SDK:
https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.metrics import Observation

from otelflow import attributes as wire
from otelflow._export.batch_processor import Pipeline
from otelflow._runtime.drop_counts import AFTER_SHUTDOWN, LISTENER_ERRORS, QUEUE_FULL, counts

__all__ = ["AccountMeters", "of_component"]


class AccountMeters:
    """The numbers of ``stats()`` on a meter, asked for when metrics are collected."""

    def __init__(self, meter: Any, pipelines: Sequence[Pipeline]) -> None:
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
            for reason, number in pipeline.account().lost.items():
                numbers[reason] = numbers.get(reason, 0) + number
        return [Observation(number, {wire.DROPPED_REASON: reason}) for reason, number in numbers.items()]

    def _processed(self, _: Any) -> Iterable[Observation]:
        for pipeline in self.pipelines:
            account = pipeline.account()
            lost = {reason: account.lost.get(reason, 0) for reason in (QUEUE_FULL, AFTER_SHUTDOWN)}
            yield self._of(pipeline, account.produced - sum(lost.values()))
            yield from (self._of(pipeline, number, reason) for reason, number in lost.items() if number)

    def _waiting(self, _: Any) -> Iterable[Observation]:
        return [self._of(pipeline, pipeline.account().pending) for pipeline in self.pipelines]

    def _exported(self, _: Any) -> Iterable[Observation]:
        for pipeline in self.pipelines:
            account = pipeline.account()
            yield self._of(pipeline, account.delivered)
            for reason, number in account.lost.items():
                if reason not in (QUEUE_FULL, AFTER_SHUTDOWN):
                    yield self._of(pipeline, number, reason)

    def _of(self, pipeline: Pipeline, number: int, error: str | None = None) -> Observation:
        return Observation(number, of_component(pipeline.name, pipeline.kind, error))


def of_component(name: str, kind: str, error: str | None) -> dict[str, Any]:
    """Attributes of an exporter's numbers, by the semantic conventions."""
    made = {wire.COMPONENT_NAME: name, wire.COMPONENT_TYPE: kind}
    return made if error is None else {**made, wire.ERROR_TYPE: error}
