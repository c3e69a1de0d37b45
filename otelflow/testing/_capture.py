"""Capture flows, tasks and spans that run in a block, as trees to query and to assert on."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from opentelemetry.context import Context

from otelflow._runtime import clock
from otelflow._spans.tracer import SCOPE
from otelflow.context import attach, current_run, detach, get_current
from otelflow.errors import ArgumentError, OtelflowError
from otelflow.events import FlowRunEvent
from otelflow.listeners import flow_events
from otelflow.testing import _routing
from otelflow.testing._captured_run import CapturedRun, Queries, find_single, stop_data
from otelflow.testing._checks import disagreements
from otelflow.testing._deterministic import deterministic_ids_and_clock
from otelflow.testing._diff import corrected, difference
from otelflow.testing._expected_tree import Expected, parse_tree
from otelflow.testing._match import fits, matches
from otelflow.testing._render import failure_details, report
from otelflow.testing._snapshot import as_dict
from otelflow.testing._source_update import Updates

__all__ = ["Capture", "capture"]


class Capture(Queries):
    """Context manager that captures flows, tasks and the spans of other instrumentation while it is active.

    :func:`capture` and the fixture ``capflow`` create it. Queries work while it is active and afterwards.

    Args:
        deterministic: Make span, trace and run ids 1, 2, 3…, and each reading of otelflow's clock a millisecond later
            than the one before. A process can have one such capture at a time.

    Raises:
        OtelflowError: On entering a capture that is active already, or a second deterministic one.
    """

    updates: Updates | None = None
    """With ``--otelflow-update``: collects differences, instead of failing the test."""

    def __init__(self, *, deterministic: bool = False) -> None:
        self.deterministic = deterministic
        self.is_active = False
        self.has_told = False
        """Whether the message of a failed assertion already shows what ran."""
        self.context_is_back = True
        """Whether the context at the end was the one that this capture attached."""
        self._lock = threading.Lock()
        self._undo = ExitStack()
        self._span_ids: Iterator[int] | None = itertools.count(1) if deterministic else None
        self._trace_ids: Iterator[int] | None = itertools.count(1) if deterministic else None
        self._reset()

    def _reset(self) -> None:
        self._records: list[_routing.Record] = []
        self._run_events: list[tuple[Any, FlowRunEvent]] = []
        """Events, each with its span context. Its ids are read only by a query: reading them creates the span of a task
        that otherwise might need none."""
        self._traces: set[int] = set()
        self._inspected: set[tuple[int, int]] = set()
        self._handled_failures: set[tuple[int, int]] = set()
        """Ids of runs whose error did not reach their caller."""

    # --- start and end ------------------------------------------------------------------------------------------

    def __enter__(self) -> Capture:
        if self.is_active:
            raise OtelflowError("This capture is active already. Create another one with capture().")
        if self.deterministic:
            self._undo.enter_context(deterministic_ids_and_clock())
        self._undo.enter_context(flow_events.listen(self._on_event))
        _routing.activate(self)
        self.is_active = True
        self._attached = Context({**get_current(), _routing.CAPTURE_KEY: self})
        self._token = attach(self._attached)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.look_at_context()
        detach(self._token)
        self.is_active = False
        _routing.deactivate(self)
        self._undo.close()

    def look_at_context(self) -> None:
        """Set :attr:`context_is_back`. Called at the end; the test's own thread may call it before."""
        current = get_current()
        if current.get(_routing.CAPTURE_KEY) is self:  # otherwise the capture started in another context
            self.context_is_back = current is self._attached

    def clear(self) -> None:
        """Forget everything captured so far."""
        with self._lock:
            self._reset()

    # --- incoming spans and events ------------------------------------------------------------------------------

    def _on_start(self, span: Any) -> _routing.Record:
        scope = span.instrumentation_scope
        needs_clock = self.deterministic and (scope is None or scope.name != SCOPE)
        record = _routing.Record(span, clock.now() if needs_clock else None)
        with self._lock:
            self._records.append(record)
            self._traces.add(span.context.trace_id)
        return record

    def _on_end(self, record: _routing.Record, span: Any) -> None:
        record.end_ns = clock.now() if record.start_ns is not None else None
        record.span, record.is_open = span, False

    def _on_event(self, event: FlowRunEvent) -> None:
        context = _context_of(event)
        if _routing.capture_of(get_current(), None if context is None else context.trace_id) is not self:
            return
        self._run_events.append((context, event))
        data = stop_data(event)
        if data is not None and data["error"] is not None:
            self._note_handled_error(data["error"], context)

    def _note_handled_error(self, error: BaseException, context: Any) -> None:
        """Remember a run whose error does not reach its caller. During its STOP event it is the current run."""
        run = current_run()
        ids = _ids(context)
        if run is not None and ids is not None and ids == _ids(run._span_context) and run._tolerates(error):
            self._handled_failures.add(ids)

    # --- queries ------------------------------------------------------------------------------------------------

    @property
    def spans(self) -> list[CapturedRun]:
        """All flows, tasks and spans, by start."""
        return self._all()

    @property
    def roots(self) -> list[CapturedRun]:
        """All flows, tasks and spans without a captured parent, by start."""
        return [run for run in self._all() if run.parent is None]

    @property
    def events(self) -> list[FlowRunEvent]:
        """The events that listeners received, in order."""
        return [event for _, event in self._run_events]

    def span(self, name: str) -> CapturedRun:
        """Return the only flow, task or span of that name.

        Args:
            name: The name; ``*`` and ``?`` are wildcards.

        Raises:
            AssertionError: If there is none, or several. The message shows what ran.
        """
        __tracebackhide__ = True
        return find_single("span", name, self.spans, self)

    def _all(self) -> list[CapturedRun]:
        with self._lock:
            records = sorted(
                self._records, key=lambda record: (record.start_ns or record.span.start_time or 0, record.number)
            )
            events = list(self._run_events)
        events_by_ids: dict[tuple[int, int] | None, list[FlowRunEvent]] = defaultdict(list)
        for context, event in events:
            events_by_ids[_ids(context)].append(event)
        spans = [CapturedRun(self, record, []) for record in records]
        by_ids = {run._ids: run for run in spans}
        runs = [run for run in spans if not _merge_continuation(run, by_ids)]
        for run in runs:
            run._run_events = events_by_ids[run._ids]
            parent = run.span.parent
            run.parent = None if parent is None else by_ids.get((parent.trace_id, parent.span_id))
            if run.parent is not None:
                run.parent.children.append(run)
        return runs

    # --- assertions ---------------------------------------------------------------------------------------------

    def assert_tree(self, expected: str) -> None:
        """Assert that exactly these runs were captured, in this structure.

        Args:
            expected: The expected tree as text; :mod:`otelflow.testing._expected_tree` describes the format.

        Raises:
            AssertionError: If something differs. The message shows both trees side by side.
            ArgumentError: If a line of ``expected`` cannot be read.
        """
        __tracebackhide__ = True
        self._assert_tree(expected, self.roots)

    def _assert_tree(self, expected: str, runs: list[CapturedRun]) -> None:
        __tracebackhide__ = True
        lines = parse_tree(expected)
        all_runs = [run for root in runs for run in (root, *root.descendants)]
        if matches(lines, runs):
            self._inspected |= {run._ids for run in all_runs if _expects_failure(run, lines)}
        elif self.updates is not None:
            self.updates.add(sys._getframe(2), expected, corrected(lines, runs), difference(lines, runs))
            self._inspected |= {run._ids for run in all_runs}
        else:
            raise AssertionError(
                f"What ran is not the expected tree; > marks what differs.\n\n{difference(lines, runs)}\n"
            )

    def assert_count(
        self, name: str, exactly: int | None = None, *, at_most: int | None = None, at_least: int | None = None
    ) -> None:
        """Assert how many flows, tasks and spans of that name were captured.

        Args:
            name: The name; ``*`` and ``?`` are wildcards.
            exactly: The expected number.
            at_most: The largest allowed number.
            at_least: The smallest allowed number.

        Raises:
            AssertionError: If the number is another one. The message shows what ran.
            ArgumentError: If there is no bound.
        """
        __tracebackhide__ = True
        if exactly is None and at_most is None and at_least is None:
            raise ArgumentError(f"assert_count({name!r}) has no bound. Pass exactly, at_most or at_least.")
        count = len(self.find(name))
        bounds = ((exactly, count == exactly, "exactly"), (at_most, count <= (at_most or 0), "at most"))
        for bound, holds, word in (*bounds, (at_least, count >= (at_least or 0), "at least")):
            if bound is not None and not holds:
                raise AssertionError(f"{name!r} ran {count} times; expected {word} {bound}. {failure_details(self)}")

    def assert_duration(self, name: str, *, at_most: float | None = None, at_least: float | None = None) -> None:
        """Assert the duration of each run of that name.

        With a deterministic capture, durations are exact. With the real clock, allow for a slow machine.

        Args:
            name: The name; ``*`` and ``?`` are wildcards.
            at_most: The longest allowed duration, in seconds.
            at_least: The shortest allowed duration, in seconds.

        Raises:
            AssertionError: If a duration is outside the bounds, a run has not ended, or there is no such run.
            ArgumentError: If there is no bound.
        """
        __tracebackhide__ = True
        if at_most is None and at_least is None:
            raise ArgumentError(f"assert_duration({name!r}) has no bound. Pass at_most or at_least, in seconds.")
        runs = self.find(name)
        if not runs:
            raise AssertionError(f"There is no {name!r}. {failure_details(self)}")
        for run in runs:
            duration = run.duration
            if duration is None:
                raise AssertionError(f"{run!r} has not ended, and has no duration. {failure_details(self)}")
            if (at_most is not None and duration > at_most) or (at_least is not None and duration < at_least):
                is_too_short = at_most is None or duration <= at_most
                bound = f"at least {at_least} s" if is_too_short else f"at most {at_most} s"
                raise AssertionError(f"{run!r} took {duration:.6f} s; expected {bound}. {failure_details(self)}")

    def assert_events_agree(self) -> None:
        """Assert that the events that listeners received agree with the spans.

        Raises:
            AssertionError: If they differ. The message has a line for each difference.
        """
        __tracebackhide__ = True
        problems = disagreements(self.spans)
        if problems:
            raise AssertionError("Events and spans disagree:\n" + "\n".join(problems))

    # --- all runs as text and data ------------------------------------------------------------------------------

    def tree(self) -> str:
        """Return what ran as text.

        Returns:
            Indented lines with names, durations, errors and messages.
        """
        return report(self.roots)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the trees as plain data for a snapshot.

        Returns:
            A dict for each root. It is the same each time the test runs: without ids, times, folders and line numbers.
        """
        return [as_dict(run) for run in self.roots]

    def __repr__(self) -> str:
        return f"<Capture of {len(self._records)} spans{', active' if self.is_active else ''}>"


def _merge_continuation(run: CapturedRun, by_ids: dict[Any, CapturedRun]) -> bool:
    """Add a span that only continues the events of a captured run to that run. Return whether it is such a span."""
    parent = by_ids.get(_ids(run.span.parent)) if run.kind == "continuation" else None
    if parent is not None:
        parent._continuations.append(run.span)
    return parent is not None


def _expects_failure(run: CapturedRun, expected: list[Expected]) -> bool:
    """Return whether a line of the expected tree says that ``run`` fails. If so, the test has checked its error."""
    return any((line.error and fits(line, run)) or _expects_failure(run, line.children) for line in expected)


def _context_of(event: FlowRunEvent) -> Any:
    record = event._record  # has the span context itself, not only ids as text; events created by users have none
    return record[2][4] if len(record) > 2 else None


def _ids(context: Any) -> tuple[int, int] | None:
    return None if context is None else (context.trace_id, context.span_id)


def capture(*, deterministic: bool = False) -> Capture:
    """Capture everything that runs within ``with capture() as captured:``, and send it nowhere.

    In the whole process, flows and tasks use the capture's own provider. So do the spans of other instrumentation, if
    the program has set no global provider; if it has, the capture gets a copy of them. At the end of the block,
    everything is restored.

    Args:
        deterministic: Use the same ids and times each time the test runs; see :class:`Capture`.

    Returns:
        A capture that becomes active when the block begins.
    """
    return Capture(deterministic=deterministic)
