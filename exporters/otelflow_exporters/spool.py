"""``otelflow_spool``: a span exporter that writes spans to disk and sends them until the backend accepts them.

No exported span is lost by an outage of any length, a restart or a crash. The next process on the folder delivers what
is in it, in order. Delivery is at least once: a request that was in flight when a process died is sent again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

try:
    from otelflow._otlp.request_encoder import encode_parts
except ModuleNotFoundError as error:
    if not str(error.name).startswith("otelflow"):  # a dependency of otelflow is missing
        raise
    raise ImportError("the spool needs otelflow: pip install 'otelflow-exporters[spool]'") from error
from otelflow_exporters._settings import parse_sync_policy, parse_whole_number, read_setting, suppress_instrumentation
from otelflow_exporters._spool.destination import OTELFLOW_EXPORTER_SPOOL_ENDPOINTS, Destination, destinations
from otelflow_exporters._spool.spool import Settings, Spool, SpoolStats

__all__ = [
    "OTELFLOW_EXPORTER_SPOOL_DIR",
    "OTELFLOW_EXPORTER_SPOOL_ENDPOINTS",
    "OTELFLOW_EXPORTER_SPOOL_EXIT",
    "OTELFLOW_EXPORTER_SPOOL_FSYNC",
    "OTELFLOW_EXPORTER_SPOOL_MAX_AGE",
    "OTELFLOW_EXPORTER_SPOOL_MAX_BYTES",
    "SpoolSpanExporter",
    "folder_of_environment",
]

OTELFLOW_EXPORTER_SPOOL_DIR = "OTELFLOW_EXPORTER_SPOOL_DIR"
"""Environment: the folder, one for each service. All processes of the service may share it. Default:
``otelflow/spool/`` and the service's name below ``$XDG_STATE_HOME`` (``~/.local/state``; ``%LOCALAPPDATA%`` on
Windows)."""

OTELFLOW_EXPORTER_SPOOL_MAX_BYTES = "OTELFLOW_EXPORTER_SPOOL_MAX_BYTES"
"""Environment: maximum size of the folder in bytes. Default 256,000,000; 0: no limit. Above it the oldest spans are
deleted and counted as lost, reason ``spool_full``."""

OTELFLOW_EXPORTER_SPOOL_MAX_AGE = "OTELFLOW_EXPORTER_SPOOL_MAX_AGE"
"""Environment: maximum seconds that a span may wait. Default 604,800 (a week); 0: no limit. Older spans are dropped and
counted as lost, reason ``spool_expired``."""

OTELFLOW_EXPORTER_SPOOL_FSYNC = "OTELFLOW_EXPORTER_SPOOL_FSYNC"
"""Environment: when spans are synced to the disk, so that they survive a power cut. ``batch``: each export. ``flush``
(the default): at ``force_flush``, at ``shutdown``, and when a segment ends. ``never``: not at all. With each of them,
exported spans survive the end of the process."""

OTELFLOW_EXPORTER_SPOOL_EXIT = "OTELFLOW_EXPORTER_SPOOL_EXIT"
"""Environment: maximum seconds that ``shutdown`` continues to send. Default 2. It returns at once when everything is
sent, and when the endpoint does not accept requests: the folder keeps the spans."""

_ENCODE_FAILED = "encode_failed"
"""Loss reason: the span cannot be encoded. The other spans of its batch are not affected."""

_AFTER_SHUTDOWN = "after_shutdown"

_RECORD_BYTES = 1 << 20
"""Maximum size of a record. A record is written at once, and is the smallest unit that is sent."""


class SpoolSpanExporter(SpanExporter):
    """A span exporter that keeps spans on disk until a backend has accepted them.

    The constructor takes no arguments. It reads the variables that are constants of this module, and OpenTelemetry's
    OTLP variables for the endpoint. :meth:`sending_to` takes the endpoint as an argument.

    Raises:
        ImportError: A library for sending is missing. The extra ``spool`` installs them.
    """

    schedule_delay = 0.5
    """Seconds that an ended span may wait for others before it is exported: until it is on disk, it is lost if the
    process dies. ``otelflow.configure()`` reads this."""

    def __init__(self) -> None:
        self._set_up(destinations())

    @classmethod
    def sending_to(cls, endpoint: str | None = None, headers: Mapping[str, str] | None = None) -> SpoolSpanExporter:
        """Return an exporter that sends to ``endpoint`` with ``headers``, instead of the environment's values.

        ``otelflow.configure()`` passes its own arguments to this.

        Args:
            endpoint: URL of the only endpoint. None: the endpoint or endpoints of the environment.
            headers: Headers of each request. None: those of the environment.

        Returns:
            The exporter.

        Raises:
            ImportError: A library for sending is missing. The extra ``spool`` installs them.
        """
        exporter = cls.__new__(cls)
        exporter._set_up(destinations(endpoint, headers))
        return exporter

    def _set_up(self, targets: list[Destination]) -> None:
        self._is_shut_down = False
        self._spool = Spool(
            Settings(
                folder_of_environment(),
                read_setting(OTELFLOW_EXPORTER_SPOOL_MAX_BYTES, parse_whole_number, 256_000_000),
                read_setting(OTELFLOW_EXPORTER_SPOOL_MAX_AGE, parse_whole_number, 604_800),
                read_setting(OTELFLOW_EXPORTER_SPOOL_FSYNC, parse_sync_policy, "flush"),
                read_setting(OTELFLOW_EXPORTER_SPOOL_EXIT, _parse_seconds, 2.0),
            ),
            targets,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._spool!r}>"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write ``spans`` to the folder. Never raises.

        If the folder cannot be written, the spans are sent directly, once. Spans that cannot be encoded are counted as
        lost; they do not make the result a FAILURE.

        Args:
            spans: The ended spans.

        Returns:
            SUCCESS if the spans are in the folder and survive the end of this process, or were accepted by each
            endpoint. FAILURE otherwise, and after ``shutdown``.
        """
        if self._is_shut_down:
            self._spool.report_loss(_AFTER_SHUTDOWN, len(spans), "got spans after shutdown(); they are lost")
            return SpanExportResult.FAILURE
        result, encoded = SpanExportResult.SUCCESS, 0
        with suppress_instrumentation():
            for payload, part_spans in encode_parts(spans, _RECORD_BYTES):
                encoded += len(part_spans)
                if not self._spool.put(payload, len(part_spans)):
                    result = SpanExportResult.FAILURE
        if encoded < len(spans):
            missing = len(spans) - encoded
            self._spool.report_loss(_ENCODE_FAILED, missing, f"cannot encode {missing} spans; they are lost")
        return result

    def export_encoded(self, payload: bytes, spans: int) -> SpanExportResult:
        """Write an encoded request to the folder, as :meth:`export` does with spans. Never raises.

        Args:
            payload: The bytes of an ``ExportTraceServiceRequest``.
            spans: Number of spans in it.

        Returns:
            SUCCESS or FAILURE, as :meth:`export`.
        """
        if self._is_shut_down:
            self._spool.report_loss(_AFTER_SHUTDOWN, spans, "got spans after shutdown(); they are lost")
            return SpanExportResult.FAILURE
        if not spans or self._spool.put(payload, spans):
            return SpanExportResult.SUCCESS
        return SpanExportResult.FAILURE

    def span_processor(self) -> SpanProcessor:
        """Return the span processor that records which flows are open. Add it to the tracer provider.

        If this process dies, the next process on the folder can then close these flows. ``otelflow.configure()`` adds
        the processor.

        Returns:
            The same processor at each call.
        """
        return self._spool.journal

    def account(self) -> SpoolStats:
        """Count the spans of this process that were delivered or lost, and the spans in the folder.

        Returns:
            Delivered and lost spans so far, and the spans that wait in the folder now.
        """
        return self._spool.account()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until each endpoint has all spans in the folder, including those of other processes.

        Args:
            timeout_millis: Maximum time to wait, in milliseconds.

        Returns:
            True if the folder is empty and no span was lost since the last call. False otherwise, and after
            ``shutdown``.
        """
        if self._is_shut_down:
            return False
        is_empty = self._spool.flush(timeout_millis / 1000)
        return not self._spool.take_new_losses() and is_empty

    def shutdown(self) -> None:
        """Send for at most ``OTELFLOW_EXPORTER_SPOOL_EXIT`` seconds, then stop. A second call does nothing."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self._spool.stop()


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ValueError("must be a number of seconds from 0 to 3600")
    return seconds


def folder_of_environment() -> str:
    """Return the spool's folder according to the environment, whether it exists or not.

    Returns:
        The path: ``OTELFLOW_EXPORTER_SPOOL_DIR`` as an absolute path, or the service's default folder.
    """
    folder = os.environ.get(OTELFLOW_EXPORTER_SPOOL_DIR, "").strip()
    if folder:
        return os.path.abspath(os.path.expanduser(folder))  # the current folder may change later
    state = os.environ.get("XDG_STATE_HOME", "").strip() or os.environ.get("LOCALAPPDATA", "").strip()
    return str(Path(state or Path("~/.local/state").expanduser(), "otelflow", "spool", quote(_service_name(), safe="")))


def _service_name() -> str:
    name = os.environ.get("OTEL_SERVICE_NAME", "").strip()
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and not name:
            name = unquote(value.strip())
    return name or "unknown_service"
