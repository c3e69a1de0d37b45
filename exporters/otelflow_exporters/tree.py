"""Exporter ``otelflow_tree``: prints each trace as a tree when its root span ends, and on a terminal while it runs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otelflow_exporters._terminal.render import render
from otelflow_exporters._terminal.text import style_for
from otelflow_exporters._trace.from_sdk import from_sdk, is_root
from otelflow_exporters._trace.markers import without_markers
from otelflow_exporters._trace.span import Span

__all__ = [
    "OTELFLOW_EXPORTER_TREE_ARTIFACTS",
    "OTELFLOW_EXPORTER_TREE_LIVE",
    "OTELFLOW_EXPORTER_TREE_MESSAGES",
    "OTELFLOW_EXPORTER_TREE_OUTPUT",
    "TreeSpanExporter",
]

OTELFLOW_EXPORTER_TREE_OUTPUT = "OTELFLOW_EXPORTER_TREE_OUTPUT"
"""Environment: ``stderr`` (the default) or ``stdout``."""

OTELFLOW_EXPORTER_TREE_MESSAGES = "OTELFLOW_EXPORTER_TREE_MESSAGES"
"""Environment: ``true`` to print the text of message events too."""

OTELFLOW_EXPORTER_TREE_ARTIFACTS = "OTELFLOW_EXPORTER_TREE_ARTIFACTS"
"""Environment: ``true`` to print artifacts and results too."""

OTELFLOW_EXPORTER_TREE_LIVE = "OTELFLOW_EXPORTER_TREE_LIVE"
"""Environment: ``false`` to print only traces that have ended.

By default the exporter also shows running spans if the output is a terminal, rich is installed, and neither
``NO_COLOR`` nor ``CI`` is set."""

_MAX_TRACES = 1000
"""Largest number of buffered traces whose root has not ended. Beyond it the oldest is printed, incomplete."""

_MAX_SPANS = 50_000
"""Largest number of buffered spans of all traces. Beyond it the oldest trace is printed, incomplete.

If only one trace is buffered, its further spans are counted and dropped."""

_logger = logging.getLogger("otelflow")


class _Trace:
    """The buffered spans of one trace, and the number of dropped ones."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.left_out = 0


class TreeSpanExporter(SpanExporter):
    """A span exporter that prints traces to stderr or stdout.

    It takes no arguments; the constants of this module name its settings. It needs nothing of otelflow, so any
    OpenTelemetry program can use it.
    """

    schedule_delay = 0.2
    """Seconds that an ended span may wait for others. Short, because a person reads the output. otelflow's
    ``configure()`` uses it for the batch processor."""

    def __init__(self) -> None:
        self._is_down = False
        self._live: Any = None
        self._messages = _is_enabled(OTELFLOW_EXPORTER_TREE_MESSAGES)
        self._artifacts = _is_enabled(OTELFLOW_EXPORTER_TREE_ARTIFACTS)
        self._reset()
        alive = weakref.WeakMethod(self._reset)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (reset := alive()) and reset())

    def _reset(self) -> None:
        """Start without traces. Also called in a forked child: the parent prints its own traces."""
        self._lock = threading.Lock()
        self._traces: OrderedDict[int, _Trace] = OrderedDict()
        self._span_count = 0

    def span_processor(self) -> SpanProcessor | None:
        """Return the processor that shows running spans: an exporter only receives spans that have ended.

        Add it to the provider that uses this exporter. otelflow's ``configure()`` does that.

        Returns:
            The processor; None if the output is not a terminal, or if the live tree is disabled.
        """
        # The live tree needs threads and rich: few programs need them, so they are imported here.
        from otelflow_exporters._terminal.live_tree import LiveTree, is_possible

        out = self._output()
        if self._live is None and not _is_enabled(OTELFLOW_EXPORTER_TREE_LIVE, default=True):
            return None
        if self._live is None and is_possible(out):
            self._live = LiveTree(out)
        return self._live  # type: ignore[no-any-return]

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Buffer ended spans, and print each trace whose root span has ended. Never raises.

        Args:
            spans: Ended spans of the SDK.

        Returns:
            ``FAILURE`` after ``shutdown()``, or if a trace could not be printed; else ``SUCCESS``.
        """
        if self._is_down:
            return SpanExportResult.FAILURE
        try:
            with self._lock:
                for span in spans:
                    self._add(span)
        except Exception:
            _logger.warning("otelflow_tree could not print a trace.", exc_info=True)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _add(self, span: ReadableSpan) -> None:
        context = span.context
        if context is None:
            return
        trace = self._traces.setdefault(context.trace_id, _Trace())
        if is_root(span):
            trace.spans.append(self._convert(span))
            self._print(self._remove(context.trace_id), "")
            return
        if self._span_count >= _MAX_SPANS and len(self._traces) > 1:
            self._print(self._remove(next(iter(self._traces))), "its root has not ended yet")
            trace = self._traces.setdefault(context.trace_id, _Trace())
        if self._span_count >= _MAX_SPANS:
            trace.left_out += 1
        else:
            trace.spans.append(self._convert(span))
            self._span_count += 1
        if len(self._traces) > _MAX_TRACES:
            self._print(self._remove(next(iter(self._traces))), "its root has not ended yet")

    def _convert(self, span: ReadableSpan) -> Span:
        return from_sdk(span, brief=not (self._messages or self._artifacts))

    def _remove(self, trace_id: int) -> _Trace:
        trace = self._traces.pop(trace_id)
        self._span_count = max(0, self._span_count - len(trace.spans)) if self._traces else 0
        return trace

    def _print(self, trace: _Trace, note: str) -> None:
        out = self._output()
        notes = [note] if note else []
        if trace.left_out:
            notes.append(f"{trace.left_out} spans left out")
        style = style_for(out, messages=self._messages, artifacts=self._artifacts)
        out.write("\n".join(render(without_markers(trace.spans), style, ", ".join(notes))) + "\n")
        out.flush()

    @staticmethod
    def _output() -> Any:
        to_stdout = os.environ.get(OTELFLOW_EXPORTER_TREE_OUTPUT, "").strip().lower() == "stdout"
        return sys.stdout if to_stdout else sys.stderr

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: a trace is printed as soon as its root span ends.

        Args:
            timeout_millis: Not used.

        Returns:
            True; False after ``shutdown()``.
        """
        return not self._is_down

    def shutdown(self) -> None:
        """Print the traces whose root has not ended, with a note. A second call does nothing."""
        if self._is_down:
            return
        self._is_down = True
        try:
            if self._live is not None:
                self._live.shutdown()
            with self._lock:
                while self._traces:
                    self._print(self._remove(next(iter(self._traces))), "its root did not end in this process")
        except Exception:
            _logger.warning("otelflow_tree could not print a trace.", exc_info=True)


def _is_enabled(name: str, default: bool = False) -> bool:
    text = os.environ.get(name, "").strip().lower()
    return default if not text else text in ("true", "1", "yes", "on")
