"""Define a captured run, the result of a query: its span, messages, artifacts, results, and the runs below it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, StatusCode

from otelflow import attributes as wire
from otelflow.events import FlowRunEvent, FlowRunEventType
from otelflow.records import Artifact, Keyed, Message, Result
from otelflow.testing._render import failure_details
from otelflow.testing._routing import Record
from otelflow.testing._snapshot import as_dict

__all__ = ["CapturedRun", "Failure", "Queries", "find_single", "fits_name", "stop_data"]


K = TypeVar("K", Artifact, Result)

_STOPS = (FlowRunEventType.FLOW_STOP, FlowRunEventType.TASK_STOP)


def stop_data(event: FlowRunEvent) -> dict[str, Any] | None:
    """Return the data of a STOP event (status, duration, return_value, error); None for other events."""
    return next(iter(event.event_data.data.values())) if event.event_type in _STOPS else None


class Failure(str):
    """The error of a run as text, like ``"ValueError: no rows"``."""

    type: str
    """The attribute ``error.type``."""
    message: str
    """The exception's text."""
    exception: BaseException | None
    """The exception, if a flow or task ended with it in this process; otherwise None."""

    def __new__(cls, kind: str, message: str, exception: BaseException | None = None) -> Failure:
        self = super().__new__(cls, f"{kind}: {message}" if message else kind)
        self.type, self.message, self.exception = kind, message, exception
        return self


def fits_name(name: str, pattern: str) -> bool:
    """Return whether ``name`` equals ``pattern`` or matches it: ``*`` is any text, ``?`` any character."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


class Queries:
    """Queries on everything in a capture, or on everything below a run. In names, ``*`` and ``?`` are wildcards."""

    def _all(self) -> list[CapturedRun]:
        raise NotImplementedError

    @property
    def flows(self) -> list[CapturedRun]:
        """All flows, nested ones included, by start."""
        return [run for run in self._all() if run.kind == "flow"]

    @property
    def tasks(self) -> list[CapturedRun]:
        """All tasks, at any depth, by start."""
        return [run for run in self._all() if run.kind == "task"]

    def flow(self, name: str) -> CapturedRun:
        """Return the only flow of that name.

        Args:
            name: The name; ``*`` and ``?`` are wildcards.

        Raises:
            AssertionError: If there is none, or several. The message shows what ran.
        """
        __tracebackhide__ = True
        return find_single("flow", name, self.flows, self)

    def task(self, name: str) -> CapturedRun:
        """Return the only task of that name.

        Args:
            name: The name; ``*`` and ``?`` are wildcards.

        Raises:
            AssertionError: If there is none, or several. The message shows what ran.
        """
        __tracebackhide__ = True
        return find_single("task", name, self.tasks, self)

    def find(
        self,
        name: str = "*",
        *,
        kind: str | None = None,
        status: str | None = None,
        where: Callable[[CapturedRun], object] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> list[CapturedRun]:
        """Return all flows, tasks and spans that meet every condition.

        Args:
            name: The name; ``*`` and ``?`` are wildcards.
            kind: ``flow``, ``task`` or ``span``; None for any.
            status: ``running``, ``completed``, ``failed`` or ``cancelled``; None for any.
            where: A function of the run; its result is true for the runs to return.
            attributes: Attributes that the span must have, with these values.

        Returns:
            The runs, by start.
        """
        expected_attributes = attributes or {}
        return [
            run
            for run in self._all()
            if fits_name(run.name, name)
            and kind in (None, run.kind)
            and status in (None, run._status())
            and all((run.span.attributes or {}).get(key) == value for key, value in expected_attributes.items())
            and (where is None or where(run))
        ]


class CapturedRun(Queries):
    """A captured flow run, task run, or span of other instrumentation.

    ``children``, ``descendants``, ``flows`` and ``tasks`` are ordered by start; ``flows`` and ``tasks`` are at any
    depth. ``messages``, ``artifacts`` and ``results`` are complete, as listeners received them; ``events`` has what
    fits on the span, within its limits. Two objects for the same span are equal.
    """

    def __init__(self, capture: Any, record: Record, events: list[FlowRunEvent]) -> None:
        self._capture, self._record, self._run_events = capture, record, events
        self.parent: CapturedRun | None = None
        """The parent; None if it was not captured, or if there is none."""
        self.children: list[CapturedRun] = []
        self._continuations: list[ReadableSpan] = []
        """The spans with the events that did not fit on this run's span."""

    # --- identity, status and times -----------------------------------------------------------------------------

    @property
    def span(self) -> ReadableSpan:
        """The span as an exporter gets it; if it is open, in its present state."""
        return self._record.span

    @property
    def name(self) -> str:
        """The span's name."""
        return self.span.name

    @property
    def kind(self) -> str:
        """``flow``, ``task``, or ``span`` for a span of other instrumentation."""
        return str((self.span.attributes or {}).get(wire.KIND, "span"))

    @property
    def is_open(self) -> bool:
        """Whether the run has not ended yet."""
        return self._record.is_open

    @property
    def status(self) -> str:
        """``running``, ``completed``, ``failed`` or ``cancelled``."""
        self._mark_inspected()
        return self._status()

    def _status(self) -> str:
        if self.is_open:
            return "running"
        status = (self.span.attributes or {}).get(wire.STATUS)
        return str(status) if status else "failed" if self.span.status.status_code is StatusCode.ERROR else "completed"

    @property
    def error(self) -> Failure | None:
        """The error of a failed run; None for others."""
        self._mark_inspected()
        return self._failure()

    def _failure(self) -> Failure | None:
        if self._status() != "failed":
            return None
        kind = self._error_type()
        description = self.span.status.description or ""
        for name in (kind, kind.rpartition(".")[2]):  # OpenTelemetry's own code prefixes the text with the short name
            description = description.removeprefix(f"{name}: ").removeprefix(name)
        stop = next(filter(None, map(stop_data, self._run_events)), None)
        return Failure(kind, description, None if stop is None else stop["error"])

    def _error_type(self) -> str:
        attributes = self.span.attributes or {}
        types = [(event.attributes or {}).get(wire.EXCEPTION_TYPE) for event in self.span.events]
        return str(attributes.get(wire.ERROR_TYPE) or next(filter(None, reversed(types)), "error"))

    @property
    def attributes(self) -> dict[str, Any]:
        """A copy of the span's attributes."""
        self._mark_inspected()
        return dict(self.span.attributes or {})

    @property
    def duration(self) -> float | None:
        """The duration in seconds; None while the run is open."""
        start, end = self._start_ns(), self._record.end_ns or self.span.end_time
        return None if self.is_open or end is None else max(0, end - start) / 1e9

    def overlaps(self, other: CapturedRun) -> bool:
        """Return whether the two runs were active at the same time, if only for a moment.

        Args:
            other: The run to compare with.
        """
        return self._start_ns() < other._end_ns() and other._start_ns() < self._end_ns()

    def _end_ns(self) -> float:
        end = self._record.end_ns or self.span.end_time
        return float("inf") if self.is_open or end is None else end

    def _start_ns(self) -> int:
        return self._record.start_ns or self.span.start_time or 0

    @property
    def links(self) -> list[Link]:
        """The span's links."""
        return list(self.span.links)

    @property
    def trace_id(self) -> str:
        """The trace id, as 32 hex digits."""
        return format(self._ids[0], "032x")

    @property
    def span_id(self) -> str:
        """The span id, as 16 hex digits."""
        return format(self._ids[1], "016x")

    @property
    def _ids(self) -> tuple[int, int]:
        context: Any = self.span.context
        return context.trace_id, context.span_id

    @property
    def run_id(self) -> str | None:
        """The flow's or task's run id; None for a span of other instrumentation."""
        attributes = self.span.attributes or {}
        return attributes.get(wire.FLOW_RUN_ID if self.kind == "flow" else wire.TASK_RUN_ID)  # type: ignore[return-value]

    def _mark_inspected(self) -> None:
        self._capture._inspected.add(self._ids)

    # --- events, messages, artifacts, results -------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """The events of the span and of the spans that continue it."""
        return [event for span in (self.span, *self._continuations) for event in span.events]

    @property
    def _dropped_events(self) -> int:
        """The number of events that are on no span."""
        dropped: Any = (self.span.attributes or {}).get(wire.DROPPED_EVENTS, 0)
        return int(max(dropped, self.span.dropped_events))

    @property
    def messages(self) -> list[Message]:
        """The run's messages: each is a ``str`` with ``.severity`` and other attributes."""
        span_events = {event.timestamp: event.attributes for event in self.events if event.name == wire.MESSAGE_EVENT}
        return [_message(event, span_events) for event in self._events_of_type(FlowRunEventType.FLOW_MESSAGE)]

    @property
    def artifacts(self) -> Keyed[Artifact]:
        """The run's artifacts. Their ``.data`` is the original object."""
        return Keyed(_artifact(event) for event in self._events_of_type(FlowRunEventType.NEW_ARTIFACT))

    @property
    def results(self) -> Keyed[Result]:
        """The run's results."""
        return Keyed(_result(event) for event in self._events_of_type(FlowRunEventType.NEW_RESULT))

    def artifact(self, key: str) -> Artifact:
        """Return the newest artifact with that key.

        Args:
            key: The artifact's key.

        Raises:
            AssertionError: If there is none. The message shows the keys that exist.
        """
        __tracebackhide__ = True
        return _item_with_key(self, "artifact", self.artifacts, key)

    def result(self, key: str) -> Result:
        """Return the newest result with that key.

        Args:
            key: The result's key.

        Raises:
            AssertionError: If there is none. The message shows the keys that exist.
        """
        __tracebackhide__ = True
        return _item_with_key(self, "result", self.results, key)

    def _events_of_type(self, kind: FlowRunEventType) -> Iterator[FlowRunEvent]:
        return (event for event in self._run_events if event.event_type is kind)

    # --- descendants --------------------------------------------------------------------------------------------

    @property
    def descendants(self) -> list[CapturedRun]:
        """All runs below this one, at any depth, by start."""
        return sorted(_descendants_of(self), key=lambda run: (run._start_ns(), run._record.number))

    def _all(self) -> list[CapturedRun]:
        return self.descendants

    def assert_tree(self, expected: str) -> None:
        """Assert that the tree that begins with this run is the expected one.

        Args:
            expected: The expected tree; see :meth:`otelflow.testing.Capture.assert_tree`.

        Raises:
            AssertionError: If something differs. The message shows both trees side by side.
            ArgumentError: If a line of ``expected`` cannot be read.
        """
        __tracebackhide__ = True
        self._capture._assert_tree(expected, [self])

    def to_dict(self) -> dict[str, Any]:
        """Return the run and all below it as plain data; see :meth:`otelflow.testing.Capture.to_dict`.

        Returns:
            A dict that is the same each time the test runs.
        """
        return as_dict(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CapturedRun) and other._record is self._record

    def __hash__(self) -> int:
        return hash(id(self._record))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r} {self._status()}>"


def find_single(kind: str, name: str, runs: list[CapturedRun], among: Queries) -> CapturedRun:
    """Return the only run of that name; raise AssertionError, with what ran, if there is none or several."""
    __tracebackhide__ = True
    matching = [run for run in runs if run.name == name] or [run for run in runs if fits_name(run.name, name)]
    if len(matching) == 1:
        return matching[0]
    where = "" if not isinstance(among, CapturedRun) else f" below {among.name!r}"
    if not matching:
        others = [run for run in among._all() if run.name == name]
        hint = f" There is a {others[0].kind} of that name: use {others[0].kind}({name!r})." if others else ""
        raise AssertionError(f"There is no {kind} {name!r}{where}.{hint} {failure_details(among)}")
    raise AssertionError(
        f"There are {len(matching)} {kind}s {name!r}{where}: use {kind}s or find(...) to get them all. "
        f"{failure_details(among)}"
    )


def _item_with_key(run: CapturedRun, kind: str, items: Keyed[K], key: str) -> K:
    __tracebackhide__ = True
    try:
        return items[key]
    except KeyError:
        keys = ", ".join(repr(item.key) for item in items) or "none"
        raise AssertionError(f"{run!r} has no {kind} {key!r}. It has: {keys}.") from None


def _descendants_of(run: CapturedRun) -> Iterator[CapturedRun]:
    pending = list(run.children)
    while pending:
        descendant = pending.pop()
        yield descendant
        pending.extend(descendant.children)


def _message(event: FlowRunEvent, span_events: dict[int, Any]) -> Message:
    message, data = event.event_data.data["message_data"], event.event_data
    span_attributes = span_events.get(event._ns) or {}
    own_keys = (wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY)
    attributes = {key: value for key, value in span_attributes.items() if key not in own_keys}
    text, level, raw = message["message_text"], message["log_level"], message["message"]
    return Message(text, level, event._ns, data.task_name, data.task_run_id, raw, attributes)


def _artifact(event: FlowRunEvent) -> Artifact:
    artifact, run_id = event.event_data.data["artifact_data"], event.event_data.task_run_id
    return Artifact(artifact["key"], artifact["data"], artifact["description"], artifact["type"], event._ns, run_id)


def _result(event: FlowRunEvent) -> Result:
    result = event.event_data.data["result_data"]
    return Result(result["key"], result["description"], event._ns, event.event_data.task_run_id)
