"""``otelflow_jsonfile``: ended spans in a file of OTLP/JSON lines, as OpenTelemetry's file exporter is specified.

Each batch of spans is one line (several above 1 MB): an ``ExportTraceServiceRequest`` in JSON, which the Collector's
``otlpjsonfile`` receiver and the upload of Jaeger's page read. Several processes may write to one file.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otelflow_exporters._jsonfile.otlp_json import lines_of
from otelflow_exporters._jsonfile.rotating_file import LineFile
from otelflow_exporters._settings import number, setting, suppressed, sync_policy

__all__ = [
    "OTELFLOW_EXPORTER_JSONFILE_FSYNC",
    "OTELFLOW_EXPORTER_JSONFILE_KEEP",
    "OTELFLOW_EXPORTER_JSONFILE_MAX_AGE",
    "OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES",
    "OTELFLOW_EXPORTER_JSONFILE_MODE",
    "OTELFLOW_EXPORTER_JSONFILE_PATH",
    "JsonFileSpanExporter",
]

OTELFLOW_EXPORTER_JSONFILE_PATH = "OTELFLOW_EXPORTER_JSONFILE_PATH"
"""Environment: the file, ``otelflow.jsonl`` in the current folder if unset; ``~`` is the home folder. Folders that are
missing are made. Beside it stands ``PATH.lock``, which keeps processes from writing at the same time."""

OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES = "OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES"
"""Environment: size that the file is rotated at, 100,000,000 if unset; 0: never. A rotated file has the time in its
name: ``otelflow-2026-11-23T10-00-00.000000Z.jsonl``."""

OTELFLOW_EXPORTER_JSONFILE_MAX_AGE = "OTELFLOW_EXPORTER_JSONFILE_MAX_AGE"
"""Environment: seconds that one file is for, none if unset. Counted from the epoch: with 3600 the file is rotated at
the first batch of each hour, with 86400 at the first of each day (UTC)."""

OTELFLOW_EXPORTER_JSONFILE_KEEP = "OTELFLOW_EXPORTER_JSONFILE_KEEP"
"""Environment: how many rotated files are kept, the newest 10 if unset; older ones are deleted."""

OTELFLOW_EXPORTER_JSONFILE_FSYNC = "OTELFLOW_EXPORTER_JSONFILE_FSYNC"
"""Environment: when spans must be on the disk itself and outlive a power cut: ``batch`` (each one), ``flush`` (the
default: at ``force_flush``, at ``shutdown``, and before a file is rotated) or ``never``. What was exported outlives the
process with any of them."""

OTELFLOW_EXPORTER_JSONFILE_MODE = "OTELFLOW_EXPORTER_JSONFILE_MODE"
"""Environment: permissions of files that are made, in octal, ``600`` if unset. Folders get the same, and the right to
enter for who may read: ``700``."""

_logger = logging.getLogger("otelflow")

_writing = threading.RLock()
"""Held while a file is written. One for all exporters of the process, so that a fork can wait for it: no child gets a
copy of a descriptor, and with it of the lock, that a write has in use. A thread can take it twice, for a signal handler
may end a span in the midst of a write."""

_exporters: weakref.WeakSet[JsonFileSpanExporter] = weakref.WeakSet()


class JsonFileSpanExporter(SpanExporter):
    """Appends spans to a file. Takes no arguments; see the constants of this module for its settings."""

    def __init__(self) -> None:
        self._file = _file_of_environment()
        self._is_down = False
        self._complained: set[str] = set()
        self._is_whole = True
        self.lost = 0
        """Spans that did not come into the file."""
        _exporters.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} path={self._file.path!r} lost={self.lost}>"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append ``spans``; never raises. SUCCESS when they are in the file.

        A span that cannot be encoded does not make it a FAILURE if others can be, for those would count as lost as
        well: it is logged, counted in ``lost``, and ``force_flush`` says so.
        """
        if self._is_down:
            return SpanExportResult.FAILURE
        try:
            with suppressed():
                return self._export(spans)
        except Exception as error:
            self._lose(len(spans), "write", f"cannot write to {self._file.path}: {error!r}")
            return SpanExportResult.FAILURE

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines, unencoded = lines_of(spans)
        if unencoded:
            self._lose(unencoded, "encode", "cannot encode a span, and leaves it out")
        if lines:
            with _writing:
                done = self._file.append(lines)
            # Said when the lock is free again: a logging handler may make spans.
            for what, why in done.problems.items():
                self._complain(what, _PROBLEMS[what] % why)
            if done.deleted:
                self._complain("delete", f"keeps {self._file.keep} rotated files: deleted {done.deleted[0]}")
            self._recover({"write", *_PROBLEMS} - set(done.problems))
        return SpanExportResult.SUCCESS if lines or not spans else SpanExportResult.FAILURE

    def _lose(self, number: int, what: str, message: str) -> None:
        self.lost += number
        self._is_whole = False
        self._complain(what, message)

    def _complain(self, what: str, message: str) -> None:
        """Log once, until it worked again."""
        if what not in self._complained:
            self._complained.add(what)
            _logger.warning("otelflow_jsonfile %s.", message)

    def _recover(self, working: set[str]) -> None:
        if "write" in self._complained & working:
            _logger.warning("otelflow_jsonfile writes to %s again; %d spans are lost.", self._file.path, self.lost)
        self._complained -= working

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Whether all that was exported since the last call is in the file, and on disk as far as is wanted.

        False too where the file was taken away before it could be synced, and where another thread writes for longer
        than ``timeout_millis``.
        """
        return not self._is_down and self._flush(timeout_millis / 1000)

    def _flush(self, seconds: float) -> bool:
        writing = _writing  # the one that is acquired is released
        if not writing.acquire(timeout=max(0.0, seconds)):
            return False
        is_synced, problem = False, "the file was taken away"
        try:
            with suppressed():
                is_synced = self._file.flush()
        except Exception as error:
            problem = repr(error)
        finally:
            writing.release()
        if not is_synced:
            self._complain("sync", f"cannot say that all is on disk: {problem}")
        is_whole, self._is_whole = self._is_whole, True
        return is_synced and is_whole

    def shutdown(self) -> None:
        """Sync what is not yet, if that is wanted. A second call does nothing."""
        if not self._is_down:
            self._is_down = True
            self._flush(30)

    def _forget_parent(self) -> None:
        """Start anew in a child that was forked: what was exported before is the parent's."""
        self._file.forget()
        self._is_whole, self.lost = True, 0


_PROBLEMS = {
    "lock": "writes without a lock, and cannot rotate: %s",
    "rotate": "cannot rotate: %s",
}


def _file_of_environment() -> LineFile:
    path = os.environ.get(OTELFLOW_EXPORTER_JSONFILE_PATH, "").strip() or "otelflow.jsonl"
    return LineFile(
        os.path.abspath(os.path.expanduser(path)),  # the current folder may change
        most_bytes=setting(OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES, number, 100_000_000),
        period=setting(OTELFLOW_EXPORTER_JSONFILE_MAX_AGE, number, 0),
        keep=setting(OTELFLOW_EXPORTER_JSONFILE_KEEP, number, 10),
        sync=setting(OTELFLOW_EXPORTER_JSONFILE_FSYNC, sync_policy, "flush"),
        mode=setting(OTELFLOW_EXPORTER_JSONFILE_MODE, _mode, 0o600),
    )


def _mode(text: str) -> int:
    mode = int(text, 8) if text.isascii() and text.isdigit() and not set("89") & set(text) else 0
    if mode & ~0o777 or mode & 0o600 != 0o600:
        raise ValueError("permissions in octal are wanted, by which the owner may read and write: 600, 640, 660")
    return mode


def _before_fork() -> None:
    _writing.acquire()


def _after_fork_in_parent() -> None:
    _writing.release()


def _after_fork_in_child() -> None:
    global _writing
    _writing = threading.RLock()
    for exporter in list(_exporters):
        exporter._forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
