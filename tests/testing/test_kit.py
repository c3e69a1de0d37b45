"""Test the queries and assertions of captures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kit_runs import nightly

from otelflow import flow, flow_events, task
from otelflow._runtime.clock import now
from otelflow.errors import ArgumentError, OtelflowError
from otelflow.testing import Capture, Failure, capture


@pytest.fixture
def captured() -> None:
    """Override the fixture: these tests create their own captures."""


# --- queries --------------------------------------------------------------------------------------------------------


def test_flows_and_tasks(kit: Capture) -> None:
    """Flows and tasks are ordered by start, nested flows and tasks at any depth included."""
    assert [run.name for run in kit.flows] == ["nightly", "inner"]
    assert [run.name for run in kit.tasks] == ["extract", "load", "extract"]
    assert [run.name for run in kit.roots] == ["nightly"]
    run = kit.flow("nightly")
    assert [task.name for task in run.tasks] == ["extract", "load", "extract"]
    assert [child.name for child in run.children] == ["extract", "load", "inner"]
    assert [descendant.name for descendant in run.descendants] == ["extract", "load", "INSERT", "inner", "extract"]
    assert run.flow("inner").task("extract").parent is run.flow("inner")
    assert (run.parent, run.kind, kit.span("INSERT").kind) == (None, "flow", "span")


def test_the_properties_of_a_run(kit: Capture) -> None:
    """A run has its status, error, duration, ids, messages, artifacts, results, events and links."""
    run = kit.flow("nightly")
    assert (run.status, run.error, run.is_open) == ("completed", None, False)
    assert 0 < (run.duration or 0) < 60
    assert run.messages == ["begins"]
    assert (run.messages[0].severity, run.messages[0].log_level) == ("WARNING", 30)
    first = run.tasks[0]
    assert first.messages == ["reading data/"]
    assert first.messages[0].attributes == {"path": "data/"}
    assert first.artifact("rows").data == {"count": 2}
    assert first.result("rows").description == "2 rows"
    assert [event.name for event in first.events] == ["otelflow.message", "otelflow.artifact", "otelflow.result"]
    assert first.attributes["otelflow.status"] == "completed"
    assert (first.trace_id, len(first.span_id), first.links) == (run.trace_id, 16, [])
    assert str(run.run_id).startswith("flow_")
    assert str(first.run_id).startswith("task_")


def test_a_failure_is_a_text_with_attributes(kit: Capture) -> None:
    """It has the error's type and message, and the exception of a task; a span of other code also has one."""
    failure = kit.task("load").error
    assert isinstance(failure, Failure)
    assert failure == "ValueError: disk full"
    assert (failure.type, failure.message) == ("ValueError", "disk full")
    assert isinstance(failure.exception, ValueError)
    other = kit.span("INSERT").error
    assert other is not None
    assert (other.type, other.message, kit.span("INSERT").status) == ("ValueError", "disk full", "failed")


def test_find(kit: Capture) -> None:
    """find() selects by name with wildcards, kind, status, attributes, and a function."""
    assert [run.name for run in kit.find("e*")] == ["extract", "extract"]
    assert [run.name for run in kit.find(kind="span")] == ["INSERT"]
    assert [run.name for run in kit.find(status="failed")] == ["load", "INSERT"]
    assert [run.name for run in kit.find(attributes={"db.name": "shop"})] == ["INSERT"]
    assert [run.name for run in kit.find(where=lambda run: run.artifacts)] == ["extract", "extract"]
    assert [run.name for run in kit.flow("inner").find("*")] == ["extract"]


def test_a_query_for_one_run_shows_what_ran(kit: Capture) -> None:
    """If there is none, or several, the error shows every tree."""
    with pytest.raises(AssertionError) as failure:
        kit.flow("daily")
    assert str(failure.value).startswith("There is no flow 'daily'. What ran:\n\nnightly  (")
    assert "  load  !ValueError: disk full" in str(failure.value)
    with pytest.raises(AssertionError, match="There are 2 tasks 'extract': use tasks or find"):
        kit.task("extract")
    with pytest.raises(AssertionError, match="There is no task 'x' below 'inner'"):
        kit.flow("inner").task("x")
    with pytest.raises(AssertionError, match=r"<task 'load' failed> has no artifact 'rows'. It has: none"):
        kit.task("load").artifact("rows")


def test_counts_and_durations(kit: Capture) -> None:
    """The assertions check bounds on the number of runs and on their durations."""
    kit.assert_count("extract", 2)
    kit.assert_count("e*", at_least=1, at_most=2)
    with pytest.raises(AssertionError, match="'extract' ran 2 times; expected at most 1"):
        kit.assert_count("extract", at_most=1)
    with pytest.raises(AssertionError, match="'nothing' ran 0 times; expected exactly 1"):
        kit.assert_count("nothing", 1)
    kit.assert_duration("nightly", at_most=60)
    with pytest.raises(AssertionError, match=r"<flow 'nightly' completed> took .* expected at least 60 s"):
        kit.assert_duration("nightly", at_least=60)
    with pytest.raises(AssertionError, match="There is no 'nothing'"):
        kit.assert_duration("nothing", at_most=1)


def test_a_bound_is_required(kit: Capture) -> None:
    """Without a bound the assertion would always hold."""
    with pytest.raises(ArgumentError, match="has no bound"):
        kit.assert_count("extract")
    with pytest.raises(ArgumentError, match="has no bound"):
        kit.assert_duration("extract")


def test_concurrent_tasks_overlap() -> None:
    """Tasks that ran one after the other do not overlap."""

    @task
    async def waits(name: str) -> None:
        await asyncio.sleep(0)

    @flow
    async def both() -> None:
        await asyncio.gather(waits("a"), waits("b"))
        await waits("c")

    with capture(deterministic=True) as captured:
        both().execute()
    first, second, third = captured.tasks
    assert first.overlaps(second)
    assert second.overlaps(first)
    assert not third.overlaps(first)


def test_an_open_run_is_captured() -> None:
    """A run is in the capture before it ends."""

    @task
    def steps() -> Any:
        yield 1

    with capture() as captured:
        steps_run = steps()
        next(steps_run)
        run = captured.task("steps")
        assert (run.status, run.duration, run.is_open) == ("running", None, True)
        assert "steps  (open)" in captured.tree()
        steps_run.close()
        assert captured.task("steps").status == "completed"


def test_to_dict_is_the_same_each_time() -> None:
    """The dicts have no ids, times and folders."""

    @flow
    def fails() -> None:
        raise OSError(f"no file in {__file__}")

    first: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []
    for roots in (first, second):
        with capture() as captured:
            nightly().execute()
            with pytest.raises(OSError, match="no file"):
                fails().execute()
        roots += captured.to_dict()
    assert first == second
    assert first[0]["children"][0] == {
        "name": "extract",
        "kind": "task",
        "status": "completed",
        "error": None,
        "attributes": {
            "code.function.name": "kit_runs.extract",
            "otelflow.flow.name": "nightly",
            "otelflow.kind": "task",
            "otelflow.status": "completed",
            "otelflow.task.name": "extract",
        },
        "messages": ["INFO reading data/"],
        "artifacts": [{"key": "rows", "type": "dict", "description": "Rows", "data": '{"count": 2}'}],
        "results": [{"key": "rows", "description": "2 rows"}],
        "events": [],
        "children": [],
    }
    (exception,) = first[1]["events"]
    assert 'File "test_kit.py", line N, in fails' in exception["attributes"]["exception.stacktrace"]


# --- determinism ----------------------------------------------------------------------------------------------------


def test_deterministic_ids_and_times() -> None:
    """Ids and run ids count from one; each reading of the clock is a millisecond later, also for other code's spans."""
    runs = []
    for _ in range(2):
        with capture(deterministic=True) as captured:
            nightly().execute()
        runs.append([(run.name, run.trace_id, run.span_id, run.run_id, run.duration) for run in captured.spans])
    assert runs[0] == runs[1]
    assert runs[0][0][:4] == ("nightly", f"{1:032x}", f"{1:016x}", f"flow_{1:028x}")
    assert [int(span_id, 16) for _, _, span_id, _, _ in runs[0]] == [1, 2, 3, 4, 5, 6]
    assert {run.name: run.duration for run in captured.spans}["INSERT"] == 0.001
    captured.assert_duration("load", at_least=0.005, at_most=0.005)
    assert now() > 1_700_000_000_000_000_000


def test_one_deterministic_capture_at_a_time() -> None:
    """A second one is refused, because both would use the same ids; it leaves no listener registered."""
    listeners = list(flow_events.event_listeners)
    with capture(deterministic=True) as captured:
        with pytest.raises(OtelflowError, match="deterministic capture is active already"), capture(deterministic=True):
            pass
        with pytest.raises(OtelflowError, match="active already"), captured:
            pass
    assert flow_events.event_listeners == listeners
