"""A meter provider where the program has none: set up as the environment says, flushed and shut down with the rest."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry import metrics

from otelflow._export.batch_processor import BatchProcessor
from otelflow._metrics import instruments
from otelflow._metrics.measurements import measures
from otelflow._providers.exporters import exporter_names, make_exporter
from otelflow._runtime.fork import after_fork_in_child
from otelflow._runtime.waiting import BackgroundCall, run_in_background
from otelflow.errors import ConfigError

__all__ = ["failed_metric_exports", "flush_metrics", "set_up_metrics", "shut_metrics_down"]

_logger = logging.getLogger("otelflow")


class OwnProvider:
    """A meter provider of our making. ``exporters`` makes what its metrics go to: OpenTelemetry's metric exporters, and
    readers that wait to be asked (Prometheus).

    In a forked child it is silent, and another takes its place: what the parent has counted would come again from each
    child, under the parent's name.
    """

    def __init__(
        self,
        resource: Any,
        exporters: Callable[[], list[Any]],
        pipelines: Sequence[BatchProcessor],
        is_forked: bool = False,
    ) -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource

        self._made = (resource, exporters, pipelines)
        self.pipelines = pipelines
        self._process = os.getpid()
        self.not_sent = 0
        """Exports that failed, or have not been answered, since the last that did not fail. Metrics add up: the next
        export makes good for them."""
        readers: list[Any] = []
        for exporter in exporters():
            if isinstance(exporter, MetricReader):
                readers.append(exporter)
            else:
                exporter.export = self._watched(exporter.export)
                readers.append(PeriodicExportingMetricReader(exporter))
        # Without an id of its own each, two processes of a service are one series, whose numbers go up and down.
        own_id = Resource({"service.instance.id": str(uuid.uuid4())})
        resource = resource.merge(own_id) if is_forked else own_id.merge(resource)  # the second goes before the first
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False)

    def again(self) -> OwnProvider:
        """The same for a forked child."""
        return OwnProvider(*self._made, is_forked=True)

    def _watched(self, export: Callable[..., Any]) -> Callable[..., Any]:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        def watched(*arguments: Any, **options: Any) -> Any:
            if os.getpid() != self._process:
                return MetricExportResult.SUCCESS
            self.not_sent += 1
            result = export(*arguments, **options)
            if result is MetricExportResult.SUCCESS:
                self.not_sent = 0
            return result

        return watched


_own: OwnProvider | None = None
_flushing = BackgroundCall()


def set_up_metrics(
    resource: Any, endpoint: str | None, headers: Mapping[str, str] | None, pipelines: Sequence[BatchProcessor]
) -> None:
    """Measure from now on: on the global meter provider, or one that is made and becomes it."""
    global _own
    if _own is not None:
        return
    measuring = instruments.in_use()  # where a flow ran before configure(): on the API's stand-in for a provider
    if measuring is not None:
        measuring.account.pipelines = pipelines
    existing = metrics.get_meter_provider()
    if type(existing).__name__ != "_ProxyMeterProvider":
        instruments.use(measuring or instruments.RunInstruments(existing, pipelines))
        return

    def exporters() -> list[Any]:
        return [made for name in exporter_names("metrics") if (made := _exporter(name, endpoint, headers)) is not None]

    _own = OwnProvider(resource, exporters, pipelines)
    metrics.set_meter_provider(_own.provider)  # the instruments that there are become its own
    instruments.use(measuring or instruments.RunInstruments(_own.provider, pipelines))


def _exporter(name: str, endpoint: str | None, headers: Mapping[str, str] | None) -> Any:
    try:
        return make_exporter(name, endpoint, headers, "metrics")
    except ConfigError as error:
        _logger.error("%s Its metrics are not sent until it is mended.", error)
        return None


def _in_child() -> None:
    """The first run that is measured makes a provider for this process."""
    global _own
    if _own is not None:
        inherited, _own = _own, None
        measures.sink = None
        instruments.make = lambda: _made_again(inherited)


def _made_again(inherited: OwnProvider) -> instruments.RunInstruments:
    global _own
    _own = inherited.again()
    return instruments.RunInstruments(_own.provider, _own.pipelines)


after_fork_in_child(_in_child)


def failed_metric_exports() -> int:
    """Exports that failed since the last that did not; a flush that has not ended is one."""
    return 0 if _own is None else _own.not_sent or int(_flushing.is_busy)


def flush_metrics(timeout: float) -> None:
    """Send the metrics as they stand, and wait for that no longer than ``timeout`` seconds."""
    if _own is not None:
        force_flush = _own.provider.force_flush
        _flushing.run(lambda: force_flush(timeout * 1000), time.monotonic() + timeout)


def shut_metrics_down(timeout: float) -> None:
    """The same, and no more after that. What it takes longer for than ``timeout`` seconds is left."""
    if _own is not None:
        shut_down = _own.provider.shutdown
        run_in_background(lambda: shut_down(timeout * 1000), time.monotonic() + timeout)
