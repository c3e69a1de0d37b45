"""The live tree: the running spans with elapsed time, counts and progress, on the lower part of a terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing import parent_process
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from otelflow_exporters._terminal.text import clean, duration, style_for
from otelflow_exporters._trace.markers import is_marker
from otelflow_exporters._trace.open_spans import OpenSpans, OpenTrace

__all__ = ["LiveTree", "Row", "is_possible", "rows"]

_SECONDS_PER_PICTURE = 0.125
_MIN_SECONDS = 0.2
"""Seconds that a run must have lasted before it is drawn: shorter runs would only flicker."""

_MAX_EQUAL = 3
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_logger = logging.getLogger("otelflow")


def is_possible(out: Any) -> bool:
    """Return whether the tree can be drawn on ``out``: an interactive terminal with colours, and rich is installed."""
    return (
        type(out) is io.TextIOWrapper  # test runners and notebooks replace the stream by a class of their own
        and out.isatty()
        and style_for(out).colours
        and not style_for(out).ascii_only
        and not os.environ.get("CI")
        and not hasattr(sys, "ps1")  # in an interactive session the picture would cover the prompt
        and parent_process() is None  # the parent process draws on this terminal
        and find_spec("rich") is not None
    )


class Row(NamedTuple):
    """One line of the picture."""

    label: str
    elapsed: float | None = None
    done: int = 0
    failed: int = 0
    progress: tuple[float, float] | None = None


def rows(running: OpenSpans, now: int, max_rows: int) -> list[Row]:
    """Return at most ``max_rows`` rows for the spans that run at ``now``, in nanoseconds since the epoch."""
    with running.lock:
        result: list[Row] = []
        rows_left_out = 0
        for top in running.older_than(now - int(_MIN_SECONDS * 1e9)):
            for row in _rows_of(top, now):
                if len(result) < max_rows - 1:
                    result.append(row)
                else:
                    rows_left_out += 1
                    if rows_left_out > max_rows:  # an exact number beyond this is of no use
                        break
    return [*result, Row(f"… and {rows_left_out} more lines")] if rows_left_out else result


def _rows_of(top: OpenTrace, now: int) -> Iterator[Row]:
    """Yield the rows of an open span and of its open descendants, without recursion."""
    stack: list[tuple[str, str, OpenTrace]] = [("", "", top)]
    while stack:
        prefix, indent, node = stack.pop()
        yield Row(prefix + clean(node.name, 48), (now - node.start) / 1e9, node.total, node.failed_total, node.progress)
        by_name: dict[str, list[OpenTrace]] = defaultdict(list)
        for child in node.children.values():
            by_name[child.name].append(child)
        open_children: list[tuple[str, str, OpenTrace]] = []
        for name in {**node.ended_counts, **by_name}:
            done, failed = node.ended_counts.get(name, (0, 0))
            siblings, label = by_name.get(name, []), f"{indent}   {clean(name, 48)}"
            if len(siblings) > _MAX_EQUAL:
                oldest = min(child.start for child in siblings)
                yield Row(f"{label} ×{len(siblings)}", (now - oldest) / 1e9, done, failed)
                continue
            if done:
                yield Row(label, None, done, failed)
            open_children.extend((f"{indent}   ", f"{indent}   ", child) for child in siblings)
        stack.extend(reversed(open_children))


class LiveTree(SpanProcessor):
    """A span processor that draws the open spans on the terminal ``out``. It does not print ended traces."""

    def __init__(self, out: io.TextIOWrapper) -> None:
        from otelflow_exporters._terminal.live_region import Region

        self._running = OpenSpans()
        self._region = Region(out)
        self._wake_up = threading.Event()
        self._is_down = False
        self._thread: threading.Thread | None = None
        alive = weakref.WeakMethod(self._stop_in_child)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (stop := alive()) and stop())

    def _stop_in_child(self) -> None:
        """Stop drawing in a forked child: the parent draws on this terminal."""
        self._is_down = True
        self._region.forget()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._is_down or not span.context.trace_flags.sampled or is_marker(span.attributes):
            return
        self._running.add(span)
        if not self._wake_up.is_set():
            self._wake_up.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._draw_pictures, name="otelflow-live-tree", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending
                    self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if not self._is_down:
            self._running.remove(span)

    def _draw_pictures(self) -> None:
        turn = 0
        while not self._is_down:
            try:
                self._wake_up.wait()
                turn += 1
                picture_rows = rows(self._running, time.time_ns(), max(3, self._region.height - 2))
                if picture_rows:
                    self._region.draw(_picture(picture_rows, _SPINNER[turn % len(_SPINNER)]))
                else:
                    self._region.hide()
                    with self._running.lock:
                        if not self._running:
                            self._wake_up.clear()
                time.sleep(_SECONDS_PER_PICTURE)
            except Exception:
                _logger.warning("The live tree could not be drawn. It is off from now on.", exc_info=True)
                self._is_down = True
                self._region.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: no span waits here."""
        return True

    def shutdown(self) -> None:
        """Remove the picture and restore the terminal."""
        self._is_down = True
        self._wake_up.set()
        self._region.close()


def _picture(picture_rows: list[Row], spinner: str) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left", "left"):
        table.add_column(no_wrap=True, overflow="ellipsis", justify=justify)
    for row in picture_rows:
        name = row.label.lstrip(" ")
        indent = " " * (len(row.label) - len(name))
        is_open = row.elapsed is not None
        label = Text(f"{indent}{spinner if is_open else ' '} {name}", "" if is_open else "dim")
        counts = Text()
        if row.done - row.failed:
            counts.append(f"✓ {row.done - row.failed}  ", "green")
        if row.failed:
            counts.append(f"✗ {row.failed}  ", "bold red")
        bar: Any = ""
        if row.progress is not None:
            done, total = row.progress
            counts.append(f"{done:g} of {total:g}")
            bar = ProgressBar(
                total=total, completed=min(done, total), width=24, complete_style="cyan", finished_style="green"
            )
        table.add_row(label, Text(_elapsed(row.elapsed), "cyan"), bar, counts)
    return table


def _elapsed(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 120 else duration(seconds)
