"""A capture: everything that runs while it is active, as trees to look at and to assert on."""

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
from otelflow.testing._captured_run import CapturedRun, Queries, only, stop_facts
from otelflow.testing._checks import disagreements
from otelflow.testing._deterministic import same_each_time
from otelflow.testing._diff import corrected, difference
from otelflow.testing._expected_tree import Expected, read
from otelflow.testing._match import fits, matches
from otelflow.testing._render import report, told
from otelflow.testing._snapshot import as_dict
from otelflow.testing._source_update import Updates

__all__ = ["Capture", "capture"]


class Capture(Queries):
    """What ran while it was active: flows, tasks, and the spans of other instrumentation, in the trees that they are.

    Made by :func:`capture` or the fixture ``capflow``; a context manager. Queries may be asked while it is active and
    afterwards. ``deterministic=True``: ids are 1, 2, 3…, run ids too, and each reading of otelflow's clock is a
    millisecond after the one before; one such capture at a time in a process.
    """

    updates: Updates | None = None
    """Where differences go instead of failing, with ``--otelflow-update``."""

    def __init__(self, *, deterministic: bool = False) -> None:
        self.deterministic = deterministic
        self.is_active = False
        self.has_told = False
        """Whether a failed assertion has shown what ran already."""
        self.context_is_back = True
        """Whether the context at the end was the one that this capture attached."""
        self._lock = threading.Lock()
        self._undo = ExitStack()
        self._span_ids: Iterator[int] | None = itertools.count(1) if deterministic else None
        self._trace_ids: Iterator[int] | None = itertools.count(1) if deterministic else None
        self._forget()

    def _forget(self) -> None:
        self._records: list[_routing.Record] = []
        self._heard: list[tuple[Any, FlowRunEvent]] = []
        """Events, each with the ids of its span. These are not looked at before a query: a task that may leave no span
        gets one when somebody looks."""
        self._traces: set[int] = set()
        self._looked_at: set[tuple[int, int]] = set()
        self._kept_in: set[tuple[int, int]] = set()
        """Runs whose error did not reach their caller."""

    # --- beginning and end --------------------------------------------------------------------------------------

    def __enter__(self) -> Capture:
        if self.is_active:
            raise OtelflowError("This capture is active already. Make another one with capture().")
        if self.deterministic:
            self._undo.enter_context(same_each_time())
        self._undo.enter_context(flow_events.listen(self._hear))
        _routing.enter(self)
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
        _routing.leave(self)
        self._undo.close()

    def look_at_context(self) -> None:
        """Note whether a context was left attached. Asked at the end; a test's own thread may ask before."""
        current = get_current()
        if current.get(_routing.CAPTURE_KEY) is self:  # else this is another context than the one it began in
            self.context_is_back = current is self._attached

    def clear(self) -> None:
        """Forget what ran so far."""
        with self._lock:
            self._forget()

    # --- what comes in ------------------------------------------------------------------------------------------

    def _began(self, span: Any) -> _routing.Record:
        scope = span.instrumentation_scope
        steps = self.deterministic and (scope is None or scope.name != SCOPE)
        record = _routing.Record(span, clock.now() if steps else None)
        with self._lock:
            self._records.append(record)
            self._traces.add(span.context.trace_id)
        return record

    def _ended(self, record: _routing.Record, span: Any) -> None:
        record.end_ns = clock.now() if record.start_ns is not None else None
        record.span, record.is_open = span, False

    def _hear(self, event: FlowRunEvent) -> None:
        context = _context_of(event)
        if _routing.owner_of(get_current(), None if context is None else context.trace_id) is not self:
            return
        self._heard.append((context, event))
        facts = stop_facts(event)
        if facts is not None and facts["error"] is not None:
            self._note_end(facts["error"], context)

    def _note_end(self, error: BaseException, context: Any) -> None:
        """Whether the error that a run ended with reaches its caller: the run is the current one while it says STOP."""
        run = current_run()
        ids = _ids(context)
        if run is not None and ids is not None and ids == _ids(run._span_context) and run._tolerates(error):
            self._kept_in.add(ids)

    # --- queries ------------------------------------------------------------------------------------------------

    @property
    def spans(self) -> list[CapturedRun]:
        """Everything, by start."""
        return self._all()

    @property
    def roots(self) -> list[CapturedRun]:
        """What has nothing captured above it, by start."""
        return [run for run in self._all() if run.parent is None]

    @property
    def events(self) -> list[FlowRunEvent]:
        """What a listener heard, in order."""
        return [event for _, event in self._heard]

    def span(self, name: str) -> CapturedRun:
        """The only flow, task or span of that name."""
        __tracebackhide__ = True
        return only("span", name, self.spans, self)

    def _all(self) -> list[CapturedRun]:
        with self._lock:
            records = sorted(self._records, key=lambda one: (one.start_ns or one.span.start_time or 0, one.number))
            heard = list(self._heard)
        by_ids: dict[tuple[int, int] | None, list[FlowRunEvent]] = defaultdict(list)
        for context, event in heard:
            by_ids[_ids(context)].append(event)
        everything = [CapturedRun(self, record, []) for record in records]
        known = {run._ids: run for run in everything}
        made = [run for run in everything if not _continues(run, known)]
        for run in made:
            run._heard = by_ids[run._ids]
            above = run.span.parent
            run.parent = None if above is None else known.get((above.trace_id, above.span_id))
            if run.parent is not None:
                run.parent.children.append(run)
        return made

    # --- assertions ---------------------------------------------------------------------------------------------

    def assert_tree(self, expected: str) -> None:
        """That exactly these runs were there, in this form; the way of writing is in
        :mod:`otelflow.testing._expected_tree`. The failure shows both trees side by side."""
        __tracebackhide__ = True
        self._assert_tree(expected, self.roots)

    def _assert_tree(self, expected: str, runs: list[CapturedRun]) -> None:
        __tracebackhide__ = True
        wanted = read(expected)
        everything = [run for root in runs for run in (root, *root.descendants)]
        if matches(wanted, runs):
            self._looked_at |= {run._ids for run in everything if _is_named(run, wanted)}
        elif self.updates is not None:
            self.updates.note(sys._getframe(2), expected, corrected(wanted, runs), difference(wanted, runs))
            self._looked_at |= {run._ids for run in everything}
        else:
            raise AssertionError(
                f"What ran is not the expected tree; > marks what differs.\n\n{difference(wanted, runs)}\n"
            )

    def assert_count(
        self, name: str, exactly: int | None = None, *, at_most: int | None = None, at_least: int | None = None
    ) -> None:
        """How many flows, tasks and spans of that name (``*`` and ``?`` are wildcards) there were."""
        __tracebackhide__ = True
        if exactly is None and at_most is None and at_least is None:
            raise ArgumentError(f"assert_count({name!r}) has no bound. Say how many: exactly, at_most or at_least.")
        found = len(self.find(name))
        bounds = ((exactly, found == exactly, "exactly"), (at_most, found <= (at_most or 0), "at most"))
        for bound, holds, word in (*bounds, (at_least, found >= (at_least or 0), "at least")):
            if bound is not None and not holds:
                raise AssertionError(f"{name!r} ran {found} times; expected were {word} {bound}. {told(self)}")

    def assert_duration(self, name: str, *, at_most: float | None = None, at_least: float | None = None) -> None:
        """How long, in seconds, each run of that name took. With a deterministic capture this is exact; with the real
        clock, leave room for a slow machine."""
        __tracebackhide__ = True
        if at_most is None and at_least is None:
            raise ArgumentError(f"assert_duration({name!r}) has no bound. Say how long, in seconds: at_most, at_least.")
        found = self.find(name)
        if not found:
            raise AssertionError(f"There is no {name!r}. {told(self)}")
        for run in found:
            took = run.duration
            if took is None:
                raise AssertionError(f"{run!r} has not ended, and has no duration. {told(self)}")
            if (at_most is not None and took > at_most) or (at_least is not None and took < at_least):
                limits = f"at least {at_least} s" if at_most is None or took <= at_most else f"at most {at_most} s"
                raise AssertionError(f"{run!r} took {took:.6f} s; expected was {limits}. {told(self)}")

    def assert_events_agree(self) -> None:
        """That what listeners heard is what the spans say."""
        __tracebackhide__ = True
        problems = disagreements(self.spans)
        if problems:
            raise AssertionError("Events and spans disagree:\n" + "\n".join(problems))

    # --- the whole ----------------------------------------------------------------------------------------------

    def tree(self) -> str:
        """What ran, as text: names, durations, errors, messages."""
        return report(self.roots)

    def to_dict(self) -> list[dict[str, Any]]:
        """The trees as plain data, the same for each run of a test: without ids, times, folders and line numbers."""
        return [as_dict(run) for run in self.roots]

    def __repr__(self) -> str:
        return f"<Capture of {len(self._records)} spans{', active' if self.is_active else ''}>"


def _continues(run: CapturedRun, known: dict[Any, CapturedRun]) -> bool:
    """Whether this is no run, but carries events of one that is here: then it is a part of that."""
    above = known.get(_ids(run.span.parent)) if run.kind == "continuation" else None
    if above is not None:
        above._continued.append(run.span)
    return above is not None


def _is_named(run: CapturedRun, expected: list[Expected]) -> bool:
    """Whether a line of the expected tree says that ``run`` fails: then the test has looked at it."""
    return any((line.error and fits(line, run)) or _is_named(run, line.children) for line in expected)


def _context_of(event: FlowRunEvent) -> Any:
    record = event._record  # its context saves the way to text and back; events that a user made have none
    return record[2][4] if len(record) > 2 else None


def _ids(context: Any) -> tuple[int, int] | None:
    return None if context is None else (context.trace_id, context.span_id)


def capture(*, deterministic: bool = False) -> Capture:
    """Capture everything that runs within ``with capture() as captured:``, and send it nowhere.

    Flows and tasks go to a provider of the capture's own, in the whole process; so do the spans of other
    instrumentation that uses the global provider, if the program has set none; if it has, they are copied to here.
    Afterwards everything is as it was.
    """
    return Capture(deterministic=deterministic)
