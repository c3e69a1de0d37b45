"""Check captured runs: whether events agree with spans, and the checks of ``capflow`` after a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from otelflow import attributes as wire
from otelflow._secrets.detect import looks_secret
from otelflow._values.text import scrub_and_truncate
from otelflow.events import FlowRunEventType
from otelflow.testing._captured_run import CapturedRun, stop_data

__all__ = ["CHECKS", "disagreements"]

_START = (FlowRunEventType.FLOW_START, FlowRunEventType.TASK_START)


def disagreements(runs: Iterable[CapturedRun]) -> list[str]:
    """Return a line for each difference between the events that listeners received and the spans."""
    runs = list(runs)
    duplicates = [ids for ids, number in Counter(run._ids for run in runs).items() if number > 1]
    return [
        *(f"span {span_id:016x} was exported twice" for _, span_id in duplicates),
        *(f"{run!r}: {problem}" for run in runs if run.kind != "span" for problem in _run_disagreements(run)),
    ]


def _run_disagreements(run: CapturedRun) -> list[str]:
    span_status = (run.span.attributes or {}).get(wire.STATUS)
    starts = sum(event.event_type in _START for event in run._run_events)
    stops = [data for data in map(stop_data, run._run_events) if data is not None]
    problems = []
    if (starts, len(stops)) != (1, 0 if run.is_open else 1):
        problems.append(f"{starts} START and {len(stops)} STOP events for a span that is {run._status()}")
    problems += [
        f"the STOP event has status {stop['status']}, the span has {span_status}"
        for stop in stops
        if stop["status"] != span_status
    ]
    if not run._dropped_events:
        for kind, name, field in (
            ("messages", wire.MESSAGE_EVENT, wire.MESSAGE_TEXT),
            ("artifacts", wire.ARTIFACT_EVENT, wire.ARTIFACT_KEY),
            ("results", wire.RESULT_EVENT, wire.RESULT_KEY),
        ):
            on_span = [(event.attributes or {}).get(field) for event in run.events if event.name == name]
            in_events = [scrub_and_truncate(str(getattr(item, "key", item)))[0] for item in getattr(run, kind)]
            if sorted(map(str, on_span)) != sorted(in_events):
                problems.append(f"{kind} on the span are {on_span}, listeners received {in_events}")
    return problems


# --- checks after a test --------------------------------------------------------------------------------------------


def _label(run: CapturedRun) -> str:
    return f"{run.kind} {run.name!r}"


def _find_open_spans(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [f"{_label(run)} is still open" for run in runs if run.is_open]


def _find_unchecked_errors(capture: Any, runs: list[CapturedRun]) -> list[str]:
    """Find errors that the test did not check, and that did not reach it.

    An error is reported for the innermost run. The test has checked it if it inspected any run that it passed through.
    """
    problems = []
    for run in runs:
        if run._failure() is None or any(child._failure() for child in run.children):
            continue
        path = [run]
        while path[-1].parent is not None and path[-1].parent._failure():
            path.append(path[-1].parent)
        reached_test = path[-1].parent is None and path[-1]._ids not in capture._handled_failures
        if not reached_test and not any(ancestor._ids in capture._inspected for ancestor in path):
            problems.append(f"{_label(run)} failed with {run._failure()}, and the test did not check it")
    return problems


def _find_secrets(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [
        f"{_label(run)} seems to have a secret in clear text in {name!r}"
        for run in runs
        for group in (run.span.attributes or {}, *((event.attributes or {}) for event in run.events))
        for name, value in group.items()
        if isinstance(value, str) and looks_secret(name, value, code=name == wire.EXCEPTION_STACKTRACE)
    ]


def _find_dropped_events(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [
        f"{_label(run)} lost {run._dropped_events} events; {len(run.span.events)} are on its span"
        for run in runs
        if run._dropped_events
    ]


def _find_orphans(capture: Any, runs: list[CapturedRun]) -> list[str]:
    if not any(run.kind == "flow" for run in runs):
        return []
    orphans = [run for run in runs if (run.span.attributes or {}).get(wire.TASK_ORPHAN)]
    hint = "did a thread or pool lose its context? If it is the test's set-up, call capflow.clear() after it"
    return [f"{_label(run)} ran outside any flow: {hint}" for run in orphans]


def _find_attached_context(capture: Any, runs: list[CapturedRun]) -> list[str]:
    return [] if capture.context_is_back else ["the test left a context attached: it did not detach a token"]


Check = Callable[[Any, "list[CapturedRun]"], "list[str]"]

CHECKS: dict[str, Check] = {
    "open_spans": _find_open_spans,
    "errors": _find_unchecked_errors,
    "secrets": _find_secrets,
    "dropped": _find_dropped_events,
    "orphans": _find_orphans,
    "context": _find_attached_context,
}
"""The checks of ``capflow`` after a test that passed, by the name for ``otelflow_allow``."""
