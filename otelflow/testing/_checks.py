"""What is looked for in a captured test: spans and events that disagree, and what should not be left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from otelflow import attributes as wire
from otelflow._secrets.detect import looks_secret
from otelflow._values.text import scrub_and_truncate
from otelflow.events import FlowRunEventType
from otelflow.testing._captured_run import CapturedRun, stop_facts

__all__ = ["CHECKS", "disagreements"]

_START = (FlowRunEventType.FLOW_START, FlowRunEventType.TASK_START)


def disagreements(runs: Iterable[CapturedRun]) -> list[str]:
    """Where what listeners heard of a run is not what its span says, in a line each."""
    runs = list(runs)
    twice = [ids for ids, number in Counter(run._ids for run in runs).items() if number > 1]
    return [
        *(f"span {span_id:016x} came twice" for _, span_id in twice),
        *(f"{run!r}: {problem}" for run in runs if run.kind != "span" for problem in _disagree(run)),
    ]


def _disagree(run: CapturedRun) -> list[str]:
    told = (run.span.attributes or {}).get(wire.STATUS)
    starts = sum(event.event_type in _START for event in run._heard)
    stops = [facts for facts in map(stop_facts, run._heard) if facts is not None]
    problems = []
    if (starts, len(stops)) != (1, 0 if run.is_open else 1):
        problems.append(f"{starts} START and {len(stops)} STOP events for a span that is {run._status()}")
    problems += [f"STOP says {stop['status']}, the span {told}" for stop in stops if stop["status"] != told]
    if not run._dropped_events:
        for what, name, field in (
            ("messages", wire.MESSAGE_EVENT, wire.MESSAGE_TEXT),
            ("artifacts", wire.ARTIFACT_EVENT, wire.ARTIFACT_KEY),
            ("results", wire.RESULT_EVENT, wire.RESULT_KEY),
        ):
            on_span = [(event.attributes or {}).get(field) for event in run.events if event.name == name]
            heard = [scrub_and_truncate(str(getattr(item, "key", item)))[0] for item in getattr(run, what)]
            if sorted(map(str, on_span)) != sorted(heard):
                problems.append(f"{what} on the span are {on_span}, heard were {heard}")
    return problems


# --- lint -----------------------------------------------------------------------------------------------------------


def _named(run: CapturedRun) -> str:
    return f"{run.kind} {run.name!r}"


def _open_spans(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [f"{_named(run)} is still open" for run in runs if run.is_open]


def _errors(capture: Any, runs: list[CapturedRun]) -> list[str]:
    """Errors that nobody looked at: the innermost run of each, with the runs that it passed through."""
    found = []
    for run in runs:
        if run._failure() is None or any(child._failure() for child in run.children):
            continue
        passed = [run]
        while passed[-1].parent is not None and passed[-1].parent._failure():
            passed.append(passed[-1].parent)
        left = passed[-1].parent is None and passed[-1]._ids not in capture._kept_in
        if not left and not any(one._ids in capture._looked_at for one in passed):
            found.append(f"{_named(run)} failed with {run._failure()}, and the test did not look at it")
    return found


def _secrets(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [
        f"{_named(run)} has what looks like a secret in clear in {name!r}"
        for run in runs
        for group in (run.span.attributes or {}, *((event.attributes or {}) for event in run.events))
        for name, value in group.items()
        if isinstance(value, str) and looks_secret(name, value, code=name == wire.EXCEPTION_STACKTRACE)
    ]


def _dropped(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [
        f"{_named(run)} lost {run._dropped_events} events: its span has {len(run.span.events)}"
        for run in runs
        if run._dropped_events
    ]


def _orphans(capture: Any, runs: list[CapturedRun]) -> list[str]:
    if not any(run.kind == "flow" for run in runs):
        return []
    orphans = [run for run in runs if (run.span.attributes or {}).get(wire.TASK_ORPHAN)]
    why = "a thread or pool lost its context? If it is the test's own set-up: capflow.clear() after it"
    return [f"{_named(run)} ran outside any flow: {why}" for run in orphans]


def _context(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [] if capture.context_is_back else ["the test left a context attached: a token that nobody detached"]


Check = Callable[[Any, "list[CapturedRun]"], "list[str]"]

CHECKS: dict[str, Check] = {
    "open_spans": _open_spans,
    "errors": _errors,
    "secrets": _secrets,
    "dropped": _dropped,
    "orphans": _orphans,
    "context": _context,
}
"""What ``capflow`` looks for at the end of a test that passed, by the name under which it can be allowed."""
