"""Set up a meter provider if the program has none, by the environment; flush it and shut it down."""

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
    """A meter provider that otelflow created, with the exporters and readers that ``exporters`` returns.

    Exporters are OpenTelemetry's metric exporters; readers are pulled from (Prometheus). In a forked child this
    provider sends nothing, and another one replaces it: otherwise each child would send the parent's numbers again,
    under the parent's name.
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

        self._arguments = (resource, exporters, pipelines)
        self.pipelines = pipelines
        self._process = os.getpid()
        self.failed_exports = 0
        """Exports since the last success that failed or have no response yet. Metrics are cumulative: the next
        successful export includes them."""
        readers: list[Any] = []
        for exporter in exporters():
            if isinstance(exporter, MetricReader):
                readers.append(exporter)
            else:
                exporter.export = self._count_failures(exporter.export)
                readers.append(PeriodicExportingMetricReader(exporter))
        # Without an id for each process, two processes of a service are one series, whose numbers go up and down.
        own_id = Resource({"service.instance.id": str(uuid.uuid4())})
        resource = resource.merge(own_id) if is_forked else own_id.merge(resource)  # the second one wins
        self.provider = MeterProvider(readers, resource, shutdown_on_exit=False)

    def copy_for_child(self) -> OwnProvider:
        """Return a new provider with the same arguments, for a forked child."""
        return OwnProvider(*self._arguments, is_forked=True)

    def _count_failures(self, export: Callable[..., Any]) -> Callable[..., Any]:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        def counted_export(*arguments: Any, **options: Any) -> Any:
            if os.getpid() != self._process:
                return MetricExportResult.SUCCESS
            self.failed_exports += 1
            result = export(*arguments, **options)
            if result is MetricExportResult.SUCCESS:
                self.failed_exports = 0
            return result

        return counted_export


_own_provider: OwnProvider | None = None
_flush_call = BackgroundCall()


def set_up_metrics(
    resource: Any, endpoint: str | None, headers: Mapping[str, str] | None, pipelines: Sequence[BatchProcessor]
) -> None:
    """Start measuring with the global meter provider; if there is none, create one and make it the global one."""
    global _own_provider
    if _own_provider is not None:
        return
    existing_instruments = instruments.in_use()  # on the API's proxy provider, if a flow ran before configure()
    if existing_instruments is not None:
        existing_instruments.export_instruments.pipelines = pipelines
    existing = metrics.get_meter_provider()
    if type(existing).__name__ != "_ProxyMeterProvider":
        instruments.use(existing_instruments or instruments.RunInstruments(existing, pipelines))
        return

    def exporters() -> list[Any]:
        created = [_create_exporter(name, endpoint, headers) for name in exporter_names("metrics")]
        return [exporter for exporter in created if exporter is not None]

    _own_provider = OwnProvider(resource, exporters, pipelines)
    metrics.set_meter_provider(_own_provider.provider)  # existing instruments of the API now use it
    instruments.use(existing_instruments or instruments.RunInstruments(_own_provider.provider, pipelines))


def _create_exporter(name: str, endpoint: str | None, headers: Mapping[str, str] | None) -> Any:
    try:
        return make_exporter(name, endpoint, headers, "metrics")
    except ConfigError as error:
        _logger.error("%s No metrics are sent with it until this is fixed.", error)
        return None


def _renew_in_child() -> None:
    """Make the first measured run of a forked child create a provider for the child."""
    global _own_provider
    if _own_provider is not None:
        inherited, _own_provider = _own_provider, None
        measures.sink = None
        instruments.make = lambda: _create_in_child(inherited)


def _create_in_child(inherited: OwnProvider) -> instruments.RunInstruments:
    global _own_provider
    _own_provider = inherited.copy_for_child()
    return instruments.RunInstruments(_own_provider.provider, _own_provider.pipelines)


after_fork_in_child(_renew_in_child)


def failed_metric_exports() -> int:
    """Return the number of exports that failed since the last success. A flush that has not ended counts as one."""
    return 0 if _own_provider is None else _own_provider.failed_exports or int(_flush_call.is_busy)


def flush_metrics(timeout: float) -> None:
    """Send the current metrics; wait up to ``timeout`` seconds."""
    if _own_provider is not None:
        force_flush = _own_provider.provider.force_flush
        _flush_call.run(lambda: force_flush(timeout * 1000), time.monotonic() + timeout)


def shut_metrics_down(timeout: float) -> None:
    """Send the current metrics, then stop sending. A call slower than ``timeout`` seconds goes on in the background."""
    if _own_provider is not None:
        shut_down = _own_provider.provider.shutdown
        run_in_background(lambda: shut_down(timeout * 1000), time.monotonic() + timeout)
