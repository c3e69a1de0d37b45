"""The live tree: what is running, with elapsed time, counts and progress, on the lower part of a terminal."""

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

_SECONDS_A_PICTURE = 0.125
_SHORTEST = 0.2
"""Seconds that a run must have lasted to be drawn: shorter ones would only flicker."""

_MOST_EQUAL = 3
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_logger = logging.getLogger("otelflow")


def is_possible(out: Any) -> bool:
    """Whether ``out`` is a terminal that can be drawn on, with a person before it and rich at hand."""
    return (
        type(out) is io.TextIOWrapper  # a stand-in of a test runner or of a notebook has its own ways
        and out.isatty()
        and style_for(out).colours
        and not style_for(out).ascii_only
        and not os.environ.get("CI")
        and not hasattr(sys, "ps1")  # an interactive session: its prompt would be drawn over
        and parent_process() is None  # the terminal is the parent's
        and find_spec("rich") is not None
    )


class Row(NamedTuple):
    """One line of the picture."""

    label: str
    elapsed: float | None = None
    done: int = 0
    failed: int = 0
    progress: tuple[float, float] | None = None


def rows(running: OpenSpans, now: int, most: int) -> list[Row]:
    """At most ``most`` lines for what is running at ``now``, nanoseconds since the epoch."""
    with running.lock:
        made: list[Row] = []
        left_out = 0
        for top in running.older_than(now - int(_SHORTEST * 1e9)):
            for row in _below(top, now):
                if len(made) < most - 1:
                    made.append(row)
                else:
                    left_out += 1
                    if left_out > most:  # nobody counts further than that
                        break
    return [*made, Row(f"… and {left_out} lines more")] if left_out else made


def _below(top: OpenTrace, now: int) -> Iterator[Row]:
    """The rows of an open span and of everything open below it, without recursion."""
    stack: list[tuple[str, str, OpenTrace]] = [("", "", top)]
    while stack:
        prefix, indent, one = stack.pop()
        yield Row(prefix + clean(one.name, 48), (now - one.start) / 1e9, one.total, one.failed_in_all, one.progress)
        by_name: dict[str, list[OpenTrace]] = defaultdict(list)
        for child in one.below.values():
            by_name[child.name].append(child)
        waiting: list[tuple[str, str, OpenTrace]] = []
        for name in {**one.ended, **by_name}:
            done, failed = one.ended.get(name, (0, 0))
            equal, label = by_name.get(name, []), f"{indent}   {clean(name, 48)}"
            if len(equal) > _MOST_EQUAL:
                oldest = min(child.start for child in equal)
                yield Row(f"{label} ×{len(equal)}", (now - oldest) / 1e9, done, failed)
                continue
            if done:
                yield Row(label, None, done, failed)
            waiting.extend((f"{indent}   ", f"{indent}   ", child) for child in equal)
        stack.extend(reversed(waiting))


class LiveTree(SpanProcessor):
    """Draws the open spans on the terminal ``out`` until it is shut down. Ended traces are not its subject."""

    def __init__(self, out: io.TextIOWrapper) -> None:
        from otelflow_exporters._terminal.live_region import Region

        self._running = OpenSpans()
        self._region = Region(out)
        self._something = threading.Event()
        self._is_down = False
        self._thread: threading.Thread | None = None
        alive = weakref.WeakMethod(self._stop_in_child)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (stop := alive()) and stop())

    def _stop_in_child(self) -> None:
        """A forked child draws nothing: the terminal is its parent's."""
        self._is_down = True
        self._region.forget()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._is_down or not span.context.trace_flags.sampled or is_marker(span.attributes):
            return
        self._running.started(span)
        if not self._something.is_set():
            self._something.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._draw_on, name="otelflow-live-tree", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending
                    self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if not self._is_down:
            self._running.ended(span)

    def _draw_on(self) -> None:
        turn = 0
        while not self._is_down:
            try:
                self._something.wait()
                turn += 1
                shown = rows(self._running, time.time_ns(), max(3, self._region.height - 2))
                if shown:
                    self._region.draw(_picture(shown, _SPINNER[turn % len(_SPINNER)]))
                else:
                    self._region.hide()
                    with self._running.lock:
                        if not self._running:
                            self._something.clear()
                time.sleep(_SECONDS_A_PICTURE)
            except Exception:
                _logger.warning("The live tree stops: it could not be drawn.", exc_info=True)
                self._is_down = True
                self._region.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True: nothing waits here."""
        return True

    def shutdown(self) -> None:
        """Take the picture away and give the terminal back."""
        self._is_down = True
        self._something.set()
        self._region.close()


def _picture(shown: list[Row], spinner: str) -> Any:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left", "left"):
        table.add_column(no_wrap=True, overflow="ellipsis", justify=justify)
    for row in shown:
        bare = row.label.lstrip(" ")
        indent = " " * (len(row.label) - len(bare))
        is_open = row.elapsed is not None
        label = Text(f"{indent}{spinner if is_open else ' '} {bare}", "" if is_open else "dim")
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
