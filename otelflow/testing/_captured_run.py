"""What a query gives: one run, with everything that it said, made, and has below it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, StatusCode

from otelflow import attributes as wire
from otelflow.events import FlowRunEvent, FlowRunEventType
from otelflow.records import Artifact, Keyed, Message, Result
from otelflow.testing._render import told
from otelflow.testing._routing import Record
from otelflow.testing._snapshot import as_dict

__all__ = ["CapturedRun", "Failure", "Queries", "fits_name", "only", "stop_facts"]


K = TypeVar("K", Artifact, Result)

_STOPS = (FlowRunEventType.FLOW_STOP, FlowRunEventType.TASK_STOP)


def stop_facts(event: FlowRunEvent) -> dict[str, Any] | None:
    """What an event says of the end of a run (status, duration, return_value, error); None for other events."""
    return next(iter(event.event_data.data.values())) if event.event_type in _STOPS else None


class Failure(str):
    """How a run failed, as ``"ValueError: no rows"``. ``type`` is ``error.type``, ``message`` the exception's text,
    ``exception`` the exception itself where a run of ours ended with it in this process."""

    type: str
    message: str
    exception: BaseException | None

    def __new__(cls, kind: str, message: str, exception: BaseException | None = None) -> Failure:
        self = super().__new__(cls, f"{kind}: {message}" if message else kind)
        self.type, self.message, self.exception = kind, message, exception
        return self


def fits_name(name: str, wanted: str) -> bool:
    """Whether ``name`` is ``wanted``, or fits it as a pattern: ``*`` any text, ``?`` any character."""
    return name == wanted or fnmatch.fnmatchcase(name, wanted.replace("[", "[[]"))


class Queries:
    """What can be asked of a capture, and of a run about what is below it. Names take ``*`` and ``?`` as wildcards."""

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
        """The only flow of that name; AssertionError, with every tree, for none or several."""
        __tracebackhide__ = True
        return only("flow", name, self.flows, self)

    def task(self, name: str) -> CapturedRun:
        """The only task of that name; AssertionError, with every tree, for none or several."""
        __tracebackhide__ = True
        return only("task", name, self.tasks, self)

    def find(
        self,
        name: str = "*",
        *,
        kind: str | None = None,
        status: str | None = None,
        where: Callable[[CapturedRun], object] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> list[CapturedRun]:
        """Everything that fits: name, kind (``flow``, ``task``, ``span``), status, a subset of attributes, a function.
        What is left out does not matter."""
        wanted = attributes or {}
        return [
            run
            for run in self._all()
            if fits_name(run.name, name)
            and kind in (None, run.kind)
            and status in (None, run._status())
            and all((run.span.attributes or {}).get(key) == value for key, value in wanted.items())
            and (where is None or where(run))
        ]


class CapturedRun(Queries):
    """A flow run, a task run, or a span of someone else's (``kind``: ``flow``, ``task``, ``span``).

    ``children``, ``descendants``, ``flows`` and ``tasks`` are ordered by start; the latter two at any depth.
    ``messages``, ``artifacts`` and ``results`` are its own, whole, as listeners heard them; ``events`` what its span
    carries of them, within the limits of a span. Two of the same span are equal.
    """

    def __init__(self, capture: Any, record: Record, heard: list[FlowRunEvent]) -> None:
        self._capture, self._record, self._heard = capture, record, heard
        self.parent: CapturedRun | None = None
        """The run above; None at the top of what was captured."""
        self.children: list[CapturedRun] = []
        self._continued: list[ReadableSpan] = []
        """The spans that carry what its own had no room for."""

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def span(self) -> ReadableSpan:
        """The span as an exporter gets it; while it is open, as it is now."""
        return self._record.span

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def kind(self) -> str:
        return str((self.span.attributes or {}).get(wire.KIND, "span"))

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return self._record.is_open

    @property
    def status(self) -> str:
        """``running``, ``completed``, ``failed`` or ``cancelled``."""
        self._looked_at()
        return self._status()

    def _status(self) -> str:
        if self.is_open:
            return "running"
        told = (self.span.attributes or {}).get(wire.STATUS)
        return str(told) if told else "failed" if self.span.status.status_code is StatusCode.ERROR else "completed"

    @property
    def error(self) -> Failure | None:
        """How it failed; None where it did not."""
        self._looked_at()
        return self._failure()

    def _failure(self) -> Failure | None:
        if self._status() != "failed":
            return None
        kind = self._error_type()
        description = self.span.status.description or ""
        for name in (kind, kind.rpartition(".")[2]):  # OpenTelemetry's own code puts the short name before the text
            description = description.removeprefix(f"{name}: ").removeprefix(name)
        stop = next(filter(None, map(stop_facts, self._heard)), None)
        return Failure(kind, description, None if stop is None else stop["error"])

    def _error_type(self) -> str:
        attributes = self.span.attributes or {}
        recorded = [(event.attributes or {}).get(wire.EXCEPTION_TYPE) for event in self.span.events]
        return str(attributes.get(wire.ERROR_TYPE) or next(filter(None, reversed(recorded)), "error"))

    @property
    def attributes(self) -> dict[str, Any]:
        self._looked_at()
        return dict(self.span.attributes or {})

    @property
    def duration(self) -> float | None:
        """Seconds; None while it is open."""
        start, end = self._start_ns(), self._record.end_ns or self.span.end_time
        return None if self.is_open or end is None else max(0, end - start) / 1e9

    def overlaps(self, other: CapturedRun) -> bool:
        """Whether the two ran at the same time, if only for a moment."""
        return self._start_ns() < other._end_ns() and other._start_ns() < self._end_ns()

    def _end_ns(self) -> float:
        end = self._record.end_ns or self.span.end_time
        return float("inf") if self.is_open or end is None else end

    def _start_ns(self) -> int:
        return self._record.start_ns or self.span.start_time or 0

    @property
    def links(self) -> list[Link]:
        return list(self.span.links)

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return format(self._ids[0], "032x")

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return format(self._ids[1], "016x")

    @property
    def _ids(self) -> tuple[int, int]:
        context: Any = self.span.context
        return context.trace_id, context.span_id

    @property
    def run_id(self) -> str | None:
        """The flow's or task's run id; None for a span of someone else's."""
        attributes = self.span.attributes or {}
        return attributes.get(wire.FLOW_RUN_ID if self.kind == "flow" else wire.TASK_RUN_ID)  # type: ignore[return-value]

    def _looked_at(self) -> None:
        self._capture._looked_at.add(self._ids)

    # --- what it said and made ----------------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """The span's events, with those of the spans that continue it."""
        return [event for span in (self.span, *self._continued) for event in span.events]

    @property
    def _dropped_events(self) -> int:
        """How many events are on no span."""
        said: Any = (self.span.attributes or {}).get(wire.DROPPED_EVENTS, 0)
        return int(max(said, self.span.dropped_events))

    @property
    def messages(self) -> list[Message]:
        """Its messages: ``str``, with ``.severity`` and more."""
        on_spans = {event.timestamp: event.attributes for event in self.events if event.name == wire.MESSAGE_EVENT}
        return [_message(event, on_spans) for event in self._of(FlowRunEventType.FLOW_MESSAGE)]

    @property
    def artifacts(self) -> Keyed[Artifact]:
        """Its artifacts, with the objects themselves as ``.data``."""
        return Keyed(_artifact(event) for event in self._of(FlowRunEventType.NEW_ARTIFACT))

    @property
    def results(self) -> Keyed[Result]:
        return Keyed(_result(event) for event in self._of(FlowRunEventType.NEW_RESULT))

    def artifact(self, key: str) -> Artifact:
        """The newest artifact of that key."""
        __tracebackhide__ = True
        return _keyed(self, "artifact", self.artifacts, key)

    def result(self, key: str) -> Result:
        """The newest result of that key."""
        __tracebackhide__ = True
        return _keyed(self, "result", self.results, key)

    def _of(self, kind: FlowRunEventType) -> Iterator[FlowRunEvent]:
        return (event for event in self._heard if event.event_type is kind)

    # --- what is below ------------------------------------------------------------------------------------------

    @property
    def descendants(self) -> list[CapturedRun]:
        """Everything below, at any depth, by start."""
        return sorted(_below(self), key=lambda run: (run._start_ns(), run._record.number))

    def _all(self) -> list[CapturedRun]:
        return self.descendants

    def assert_tree(self, expected: str) -> None:
        """See :meth:`otelflow.testing.Capture.assert_tree`; the tree begins with this run."""
        __tracebackhide__ = True
        self._capture._assert_tree(expected, [self])

    def to_dict(self) -> dict[str, Any]:
        """See :meth:`otelflow.testing.Capture.to_dict`."""
        return as_dict(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CapturedRun) and other._record is self._record

    def __hash__(self) -> int:
        return hash(id(self._record))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r} {self._status()}>"


def only(kind: str, name: str, runs: list[CapturedRun], among: Queries) -> CapturedRun:
    """The only one of that name; AssertionError, with what there was, for none or several."""
    __tracebackhide__ = True
    found = [run for run in runs if run.name == name] or [run for run in runs if fits_name(run.name, name)]
    if len(found) == 1:
        return found[0]
    where = "" if not isinstance(among, CapturedRun) else f" below {among.name!r}"
    if not found:
        others = [run for run in among._all() if run.name == name]
        hint = f" There is a {others[0].kind} of that name: use {others[0].kind}({name!r})." if others else ""
        raise AssertionError(f"There is no {kind} {name!r}{where}.{hint} {told(among)}")
    raise AssertionError(
        f"There are {len(found)} {kind}s {name!r}{where}: use {kind}s, or find(...), to look at several. {told(among)}"
    )


def _keyed(run: CapturedRun, kind: str, kept: Keyed[K], key: str) -> K:
    __tracebackhide__ = True
    try:
        return kept[key]
    except KeyError:
        keys = ", ".join(repr(item.key) for item in kept) or "none"
        raise AssertionError(f"{run!r} has no {kind} {key!r}. It has: {keys}.") from None


def _below(run: CapturedRun) -> Iterator[CapturedRun]:
    waiting = list(run.children)
    while waiting:
        found = waiting.pop()
        yield found
        waiting.extend(found.children)


def _message(event: FlowRunEvent, on_spans: dict[int, Any]) -> Message:
    facts, data = event.event_data.data["message_data"], event.event_data
    on_span = on_spans.get(event._ns) or {}
    attributes = {key: value for key, value in on_span.items() if key not in (wire.MESSAGE_TEXT, wire.MESSAGE_SEVERITY)}
    text, level, raw = facts["message_text"], facts["log_level"], facts["message"]
    return Message(text, level, event._ns, data.task_name, data.task_run_id, raw, attributes)


def _artifact(event: FlowRunEvent) -> Artifact:
    facts, data = event.event_data.data["artifact_data"], event.event_data
    return Artifact(facts["key"], facts["data"], facts["description"], facts["type"], event._ns, data.task_run_id)


def _result(event: FlowRunEvent) -> Result:
    facts = event.event_data.data["result_data"]
    return Result(facts["key"], facts["description"], event._ns, event.event_data.task_run_id)
