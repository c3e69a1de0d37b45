"""``otelflow_tree``: each trace printed as a tree when its root span ends."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TextIO

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otelflow_exporters._render import Style, render

__all__ = ["OTELFLOW_EXPORTER_TREE_MESSAGES", "OTELFLOW_EXPORTER_TREE_OUTPUT", "TreeSpanExporter"]

OTELFLOW_EXPORTER_TREE_OUTPUT = "OTELFLOW_EXPORTER_TREE_OUTPUT"
"""Environment: ``stderr`` (the default) or ``stdout``."""

OTELFLOW_EXPORTER_TREE_MESSAGES = "OTELFLOW_EXPORTER_TREE_MESSAGES"
"""Environment: ``true`` to print the text of message events as well."""

_MOST_TRACES = 1000
"""Traces whose root has not ended that are held at once; beyond it the oldest is printed as it stands."""

_MOST_SPANS = 50_000
"""Spans of one trace that are held; what comes beyond is counted."""

_logger = logging.getLogger("otelflow")


class _Trace:
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.left_out = 0

    def add(self, span: ReadableSpan) -> None:
        if len(self.spans) < _MOST_SPANS or _is_root(span):
            self.spans.append(span)
        else:
            self.left_out += 1


def _is_root(span: ReadableSpan) -> bool:
    """Whether no span of this process stands above it."""
    return span.parent is None or span.parent.is_remote


class TreeSpanExporter(SpanExporter):
    """Prints traces to the terminal. Takes no arguments; see the constants of this module for its settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces: OrderedDict[int, _Trace] = OrderedDict()
        self._is_down = False
        self._messages = os.environ.get(OTELFLOW_EXPORTER_TREE_MESSAGES, "").strip().lower() in ("true", "1", "yes")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take ended spans; never raises."""
        if self._is_down:
            return SpanExportResult.FAILURE
        try:
            with self._lock:
                for span in spans:
                    self._take(span)
        except Exception:
            _logger.warning("otelflow_tree could not print a trace.", exc_info=True)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _take(self, span: ReadableSpan) -> None:
        context = span.context
        if context is None:
            return
        trace = self._traces.setdefault(context.trace_id, _Trace())
        trace.add(span)
        if _is_root(span):
            self._print(self._traces.pop(context.trace_id), "")
        elif len(self._traces) > _MOST_TRACES:
            self._print(self._traces.popitem(last=False)[1], "its root has not ended yet")

    def _print(self, trace: _Trace, note: str) -> None:
        out = self._output()
        notes = [note] if note else []
        if trace.left_out:
            notes.append(f"{trace.left_out} spans left out")
        style = Style(_wants_colours(out), self._messages, _columns(out), not _takes_bars(out))
        out.write("\n".join(render(trace.spans, style, ", ".join(notes))) + "\n")
        out.flush()

    @staticmethod
    def _output() -> TextIO:
        to_stdout = os.environ.get(OTELFLOW_EXPORTER_TREE_OUTPUT, "").strip().lower() == "stdout"
        return sys.stdout if to_stdout else sys.stderr

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True: a trace is printed as soon as it is whole, and nothing else waits."""
        return not self._is_down

    def shutdown(self) -> None:
        """Print the traces whose root never ended, marked so. A second call does nothing."""
        if self._is_down:
            return
        self._is_down = True
        try:
            with self._lock:
                while self._traces:
                    self._print(self._traces.popitem(last=False)[1], "its root never ended here")
        except Exception:
            _logger.warning("otelflow_tree could not print a trace.", exc_info=True)


def _columns(out: TextIO) -> int | None:
    """The width of a terminal; None for a pipe or a file, where nothing has to be cut."""
    return shutil.get_terminal_size().columns if out.isatty() else None


def _takes_bars(out: TextIO) -> bool:
    try:
        "├━✗".encode(getattr(out, "encoding", None) or "utf-8")  # a logging proxy has none
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _wants_colours(out: TextIO) -> bool:
    return out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
