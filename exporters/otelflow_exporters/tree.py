"""``otelflow_tree``: each trace printed as a tree when its root span ends, and on a terminal while it runs."""

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
"""Environment: ``true`` to print the text of message events as well."""

OTELFLOW_EXPORTER_TREE_ARTIFACTS = "OTELFLOW_EXPORTER_TREE_ARTIFACTS"
"""Environment: ``true`` to print artifacts and results as well."""

OTELFLOW_EXPORTER_TREE_LIVE = "OTELFLOW_EXPORTER_TREE_LIVE"
"""Environment: ``false`` to print only what has ended. The default shows what is running, where the output is a
terminal, rich is installed, and neither ``NO_COLOR`` nor ``CI`` is set."""

_MOST_TRACES = 1000
"""Traces whose root has not ended that are held at once; beyond it the oldest is printed as it stands."""

_MOST_SPANS = 50_000
"""Spans that are held, of all traces. Beyond it the oldest trace is printed as it stands; of a single one, what comes
then is counted."""

_logger = logging.getLogger("otelflow")


class _Trace:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.left_out = 0


class TreeSpanExporter(SpanExporter):
    """Prints traces to the terminal. Takes no arguments; see the constants of this module for its settings."""

    schedule_delay = 0.2
    """Seconds that an ended span may wait for others: somebody is looking. otelflow's ``configure()`` reads it."""

    def __init__(self) -> None:
        self._is_down = False
        self._live: Any = None
        self._messages = _is_on(OTELFLOW_EXPORTER_TREE_MESSAGES)
        self._artifacts = _is_on(OTELFLOW_EXPORTER_TREE_ARTIFACTS)
        self._begin()
        alive = weakref.WeakMethod(self._begin)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (begin := alive()) and begin())

    def _begin(self) -> None:
        """Start empty; also in a forked child, whose parent prints what it holds."""
        self._lock = threading.Lock()
        self._traces: OrderedDict[int, _Trace] = OrderedDict()
        self._held = 0

    def span_processor(self) -> SpanProcessor | None:
        """What shows the spans that are running, for whoever sets the provider up: an exporter sees only what has
        ended. None where the output is no terminal."""
        # Threads and rich: few programs need them.
        from otelflow_exporters._terminal.live_tree import LiveTree, is_possible

        out = self._output()
        if self._live is None and not _is_on(OTELFLOW_EXPORTER_TREE_LIVE, default=True):
            return None
        if self._live is None and is_possible(out):
            self._live = LiveTree(out)
        return self._live  # type: ignore[no-any-return]

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
        if is_root(span):
            trace.spans.append(self._held_form(span))
            self._print(self._forget(context.trace_id), "")
            return
        if self._held >= _MOST_SPANS and len(self._traces) > 1:
            self._print(self._forget(next(iter(self._traces))), "its root has not ended yet")
            trace = self._traces.setdefault(context.trace_id, _Trace())
        if self._held >= _MOST_SPANS:
            trace.left_out += 1
        else:
            trace.spans.append(self._held_form(span))
            self._held += 1
        if len(self._traces) > _MOST_TRACES:
            self._print(self._forget(next(iter(self._traces))), "its root has not ended yet")

    def _held_form(self, span: ReadableSpan) -> Span:
        return from_sdk(span, brief=not (self._messages or self._artifacts))

    def _forget(self, trace_id: int) -> _Trace:
        trace = self._traces.pop(trace_id)
        self._held = max(0, self._held - len(trace.spans)) if self._traces else 0
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
        """True: a trace is printed as soon as it is whole, and nothing else waits."""
        return not self._is_down

    def shutdown(self) -> None:
        """Print the traces whose root never ended, marked so. A second call does nothing."""
        if self._is_down:
            return
        self._is_down = True
        try:
            if self._live is not None:
                self._live.shutdown()
            with self._lock:
                while self._traces:
                    self._print(self._forget(next(iter(self._traces))), "its root never ended here")
        except Exception:
            _logger.warning("otelflow_tree could not print a trace.", exc_info=True)


def _is_on(name: str, default: bool = False) -> bool:
    said = os.environ.get(name, "").strip().lower()
    return default if not said else said in ("true", "1", "yes", "on")
