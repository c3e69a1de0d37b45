"""``otelflow_spool``: spans that are written to disk before they are sent, and sent until they are taken.

An outage of any length, a restart and a crash lose nothing that was exported: whichever process comes to the folder
next delivers what waits there, in order. At least once: what was under way when a process died is sent again.
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
    if not str(error.name).startswith("otelflow"):  # one of what it depends on
        raise
    raise ImportError("the spool needs otelflow: pip install 'otelflow-exporters[spool]'") from error
from otelflow_exporters._settings import number, setting, suppressed, sync_policy
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
"""Environment: the folder, one for each service; all processes of it may share it. If unset, ``otelflow/spool/`` and
the service's name below ``$XDG_STATE_HOME`` (``~/.local/state``; ``%LOCALAPPDATA%`` on Windows)."""

OTELFLOW_EXPORTER_SPOOL_MAX_BYTES = "OTELFLOW_EXPORTER_SPOOL_MAX_BYTES"
"""Environment: size that the folder may have, 256,000,000 if unset; 0: any. Beyond it the oldest spans go, and are
counted as lost, reason ``spool_full``."""

OTELFLOW_EXPORTER_SPOOL_MAX_AGE = "OTELFLOW_EXPORTER_SPOOL_MAX_AGE"
"""Environment: seconds that a span may wait, 604,800 (a week) if unset; 0: any number. What is older goes, reason
``spool_expired``."""

OTELFLOW_EXPORTER_SPOOL_FSYNC = "OTELFLOW_EXPORTER_SPOOL_FSYNC"
"""Environment: when spans must be on the disk itself and outlive a power cut: ``batch`` (each one), ``flush`` (the
default: at ``force_flush``, at ``shutdown``, and when a segment ends) or ``never``. What was exported outlives the
process with any of them."""

OTELFLOW_EXPORTER_SPOOL_EXIT = "OTELFLOW_EXPORTER_SPOOL_EXIT"
"""Environment: seconds that ``shutdown`` goes on sending at most, 2 if unset. It returns at once when all is sent, and
when the endpoint does not take it: the folder keeps it."""

_ENCODE_FAILED = "encode_failed"
"""A span that cannot be encoded; the others of its batch are not touched by it."""

_AFTER_SHUTDOWN = "after_shutdown"

_RECORD_BYTES = 1 << 20
"""Of what is written at once, and is the least that is sent."""


class SpoolSpanExporter(SpanExporter):
    """Keeps spans on disk until a backend has them. Takes no arguments; see the constants of this module for its
    settings, and OpenTelemetry's variables for OTLP for where it sends to; or :meth:`sending_to`.

    Raises ImportError where a library for sending is missing: the extra ``spool`` brings them.
    """

    schedule_delay = 0.5
    """Seconds that an ended span may wait for others: until it is on disk, it dies with its process. otelflow's
    ``configure()`` reads it."""

    def __init__(self) -> None:
        self._begin(destinations())

    @classmethod
    def sending_to(cls, endpoint: str | None = None, headers: Mapping[str, str] | None = None) -> SpoolSpanExporter:
        """One that sends to ``endpoint``, and with ``headers``, instead of what the environment says of these; None:
        as there. ``otelflow.configure()`` hands on what it is given."""
        made = cls.__new__(cls)
        made._begin(destinations(endpoint, headers))
        return made

    def _begin(self, where: list[Destination]) -> None:
        self._is_down = False
        self._losses_told = 0
        self._spool = Spool(
            Settings(
                folder_of_environment(),
                setting(OTELFLOW_EXPORTER_SPOOL_MAX_BYTES, number, 256_000_000),
                setting(OTELFLOW_EXPORTER_SPOOL_MAX_AGE, number, 604_800),
                setting(OTELFLOW_EXPORTER_SPOOL_FSYNC, sync_policy, "flush"),
                setting(OTELFLOW_EXPORTER_SPOOL_EXIT, _seconds, 2.0),
            ),
            where,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._spool!r}>"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write ``spans`` to the folder; never raises. SUCCESS: they are there, and outlive this process.

        Where the folder cannot be written they are sent at once, and SUCCESS says that they were taken. What cannot be
        encoded is counted, and makes no FAILURE of the others.
        """
        if self._is_down:
            self._spool.lose(_AFTER_SHUTDOWN, len(spans), "was given spans after its shutdown")
            return SpanExportResult.FAILURE
        result, encoded = SpanExportResult.SUCCESS, 0
        with suppressed():
            for payload, inside in encode_parts(spans, _RECORD_BYTES):
                encoded += len(inside)
                if not self._spool.put(payload, len(inside)):
                    result = SpanExportResult.FAILURE
        if encoded < len(spans):
            missing = len(spans) - encoded
            self._spool.lose(_ENCODE_FAILED, missing, f"cannot encode {missing} spans, and leaves them out")
        return result

    def export_encoded(self, payload: bytes, spans: int) -> SpanExportResult:
        """The same with an ExportTraceServiceRequest's bytes and the number of spans in it."""
        if self._is_down:
            self._spool.lose(_AFTER_SHUTDOWN, spans, "was given spans after its shutdown")
            return SpanExportResult.FAILURE
        if not spans or self._spool.put(payload, spans):
            return SpanExportResult.SUCCESS
        return SpanExportResult.FAILURE

    def span_processor(self) -> SpanProcessor:
        """What notes which flows are open, for whoever sets the provider up: so they can be closed by the next process
        when this one dies. ``otelflow.configure()`` adds it."""
        return self._spool.journal

    def account(self) -> SpoolStats:
        """What became of this process's spans, and how many wait in the folder."""
        return self._spool.account()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all that is in the folder, of any process, is at every endpoint; True only then.

        False also where something was lost since the last call.
        """
        if self._is_down:
            return False
        is_empty = self._spool.flush(timeout_millis / 1000)
        told, self._losses_told = self._losses_told, self._spool.losses
        return is_empty and told == self._losses_told

    def shutdown(self) -> None:
        """Stop. A second call does nothing. See OTELFLOW_EXPORTER_SPOOL_EXIT for how long it may take."""
        if not self._is_down:
            self._is_down = True
            self._spool.stop()


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise ValueError("a number of seconds is wanted, at most 3600")
    return seconds


def folder_of_environment() -> str:
    """The folder that the environment asks for."""
    said = os.environ.get(OTELFLOW_EXPORTER_SPOOL_DIR, "").strip()
    if said:
        return os.path.abspath(os.path.expanduser(said))  # the current folder may change
    state = os.environ.get("XDG_STATE_HOME", "").strip() or os.environ.get("LOCALAPPDATA", "").strip()
    return str(Path(state or Path("~/.local/state").expanduser(), "otelflow", "spool", quote(_service(), safe="")))


def _service() -> str:
    name = os.environ.get("OTEL_SERVICE_NAME", "").strip()
    for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and not name:
            name = unquote(value.strip())
    return name or "unknown_service"
