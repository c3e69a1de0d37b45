"""``otelflow_jsonfile``: a span exporter that appends to a file of OTLP/JSON lines.

The format is that of OpenTelemetry's specification of a file exporter. Each batch of spans is one line (several above
1 MB): an ``ExportTraceServiceRequest`` in JSON. The Collector's ``otlpjsonfile`` receiver and the upload of Jaeger's
page read such files. Several processes may write to one file.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otelflow_exporters._jsonfile.otlp_json import encode_lines
from otelflow_exporters._jsonfile.rotating_file import LineFile
from otelflow_exporters._settings import parse_sync_policy, parse_whole_number, read_setting, suppress_instrumentation

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
"""Environment: path of the file. Default ``otelflow.jsonl`` in the current folder; ``~`` is the home folder. Missing
folders are created. The lock file ``PATH.lock`` keeps processes from writing at the same time."""

OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES = "OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES"
"""Environment: maximum size of the file in bytes; it is rotated before it grows beyond. Default 100,000,000; 0: never.
A rotated file has the time in its name: ``otelflow-2026-11-23T10-00-00.000000Z.jsonl``."""

OTELFLOW_EXPORTER_JSONFILE_MAX_AGE = "OTELFLOW_EXPORTER_JSONFILE_MAX_AGE"
"""Environment: length of the period of one file, in seconds. Default 0: no rotation by time. Periods are counted from
the epoch: with 3600 the file is rotated at the first batch of each hour, with 86400 at the first of each day (UTC)."""

OTELFLOW_EXPORTER_JSONFILE_KEEP = "OTELFLOW_EXPORTER_JSONFILE_KEEP"
"""Environment: number of rotated files to keep. Default 10. The oldest files are deleted."""

OTELFLOW_EXPORTER_JSONFILE_FSYNC = "OTELFLOW_EXPORTER_JSONFILE_FSYNC"
"""Environment: when spans are synced to the disk, so that they survive a power cut. ``batch``: each batch. ``flush``
(the default): at ``force_flush``, at ``shutdown``, and before a file is rotated. ``never``: not at all. With each of
them, exported spans survive the end of the process."""

OTELFLOW_EXPORTER_JSONFILE_MODE = "OTELFLOW_EXPORTER_JSONFILE_MODE"
"""Environment: permissions of new files, in octal. Default ``600``. New folders get the same permissions, and the right
to enter for everyone who may read: ``700``."""

_logger = logging.getLogger("otelflow")

_write_lock = threading.RLock()
"""Lock held while a file is written. All exporters of the process share it, so that a fork can wait for it. Otherwise a
child would inherit a descriptor that a write uses, and with it the file's lock. It is reentrant: a signal handler may
end a span during a write."""

_exporters: weakref.WeakSet[JsonFileSpanExporter] = weakref.WeakSet()


class JsonFileSpanExporter(SpanExporter):
    """A span exporter that appends spans to a file.

    The constructor takes no arguments. It reads the variables that are constants of this module.
    """

    def __init__(self) -> None:
        self._file = _file_from_environment()
        self._is_shut_down = False
        self._logged_problems: set[str] = set()
        self._is_complete = True
        self.lost = 0
        """Number of spans that could not be written to the file."""
        _exporters.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} path={self._file.path!r} lost={self.lost}>"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append ``spans`` to the file. Never raises.

        A span that cannot be encoded is logged and counted in ``lost``, and ``force_flush`` returns False. It does not
        make the result a FAILURE if others can be encoded, because those would count as lost as well.

        Args:
            spans: The ended spans.

        Returns:
            SUCCESS if the spans that can be encoded are in the file. FAILURE otherwise, and after ``shutdown``.
        """
        if self._is_shut_down:
            return SpanExportResult.FAILURE
        try:
            with suppress_instrumentation():
                return self._export(spans)
        except Exception as error:
            self._count_loss(len(spans), "write", f"cannot write to {self._file.path}, spans are lost: {error!r}")
            return SpanExportResult.FAILURE

    def _export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines, failed_spans = encode_lines(spans)
        if failed_spans:
            self._count_loss(failed_spans, "encode", "cannot encode a span; it is lost")
        if lines:
            with _write_lock:
                result = self._file.append(lines)
            # Log without the lock: a logging handler may make spans.
            for problem, detail in result.problems.items():
                self._warn_once(problem, _PROBLEM_MESSAGES[problem] % detail)
            if result.deleted:
                self._warn_once(
                    "delete",
                    f"keeps {self._file.keep} rotated files ({OTELFLOW_EXPORTER_JSONFILE_KEEP}) "
                    f"and deleted {result.deleted[0]}",
                )
            self._report_recovery({"write", *_PROBLEM_MESSAGES} - set(result.problems))
        return SpanExportResult.SUCCESS if lines or not spans else SpanExportResult.FAILURE

    def _count_loss(self, spans: int, problem: str, message: str) -> None:
        self.lost += spans
        self._is_complete = False
        self._warn_once(problem, message)

    def _warn_once(self, problem: str, message: str) -> None:
        """Log a problem once, and again only after a recovery."""
        if problem not in self._logged_problems:
            self._logged_problems.add(problem)
            _logger.warning("otelflow_jsonfile %s.", message)

    def _report_recovery(self, recovered: set[str]) -> None:
        if "write" in self._logged_problems & recovered:
            _logger.warning("otelflow_jsonfile writes to %s again; %d spans were lost.", self._file.path, self.lost)
        self._logged_problems -= recovered

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Sync the file to the disk, unless ``OTELFLOW_EXPORTER_JSONFILE_FSYNC`` is ``never``.

        Args:
            timeout_millis: Maximum time to wait for another thread that writes, in milliseconds.

        Returns:
            True if all spans that were exported since the last call are in the file, and on disk as far as the setting
            requires. False if a span was lost, if the file was removed before it could be synced, at a timeout, and
            after ``shutdown``.
        """
        return not self._is_shut_down and self._flush(timeout_millis / 1000)

    def _flush(self, seconds: float) -> bool:
        lock = _write_lock  # release the lock that was acquired: a forked child replaces the global one
        if not lock.acquire(timeout=max(0.0, seconds)):
            return False
        is_synced, problem = False, "the file was removed"
        try:
            with suppress_instrumentation():
                is_synced = self._file.flush()
        except Exception as error:
            problem = repr(error)
        finally:
            lock.release()
        if not is_synced:
            self._warn_once("sync", f"cannot confirm that all spans are on disk: {problem}")
        is_complete, self._is_complete = self._is_complete, True
        return is_synced and is_complete

    def shutdown(self) -> None:
        """Stop accepting spans, and sync the file if the setting requires it. A second call does nothing."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self._flush(30)

    def _reset_after_fork(self) -> None:
        """Reset the state in a forked child: the spans exported before belong to the parent."""
        self._file.forget_unsynced()
        self._is_complete, self.lost = True, 0


_PROBLEM_MESSAGES = {
    "lock": "writes without a lock and cannot rotate the file: %s",
    "rotate": "cannot rotate the file and continues in it: %s",
}


def _file_from_environment() -> LineFile:
    path = os.environ.get(OTELFLOW_EXPORTER_JSONFILE_PATH, "").strip() or "otelflow.jsonl"
    return LineFile(
        os.path.abspath(os.path.expanduser(path)),  # the current folder may change later
        max_bytes=read_setting(OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES, parse_whole_number, 100_000_000),
        period=read_setting(OTELFLOW_EXPORTER_JSONFILE_MAX_AGE, parse_whole_number, 0),
        keep=read_setting(OTELFLOW_EXPORTER_JSONFILE_KEEP, parse_whole_number, 10),
        sync=read_setting(OTELFLOW_EXPORTER_JSONFILE_FSYNC, parse_sync_policy, "flush"),
        mode=read_setting(OTELFLOW_EXPORTER_JSONFILE_MODE, _parse_mode, 0o600),
    )


def _parse_mode(text: str) -> int:
    mode = int(text, 8) if text.isascii() and text.isdigit() and not set("89") & set(text) else 0
    if mode & ~0o777 or mode & 0o600 != 0o600:
        raise ValueError("must be octal permissions that let the owner read and write, such as 600, 640 or 660")
    return mode


def _before_fork() -> None:
    _write_lock.acquire()


def _after_fork_in_parent() -> None:
    _write_lock.release()


def _after_fork_in_child() -> None:
    global _write_lock
    _write_lock = threading.RLock()
    for exporter in list(_exporters):
        exporter._reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
