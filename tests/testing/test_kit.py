"""The test kit: captures and what can be asked of them."""

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
    """These tests make their own captures."""


# --- queries --------------------------------------------------------------------------------------------------------


def test_flows_and_tasks(kit: Capture) -> None:
    """By start; nested flows included, tasks at any depth."""
    assert [run.name for run in kit.flows] == ["nightly", "inner"]
    assert [run.name for run in kit.tasks] == ["extract", "load", "extract"]
    assert [run.name for run in kit.roots] == ["nightly"]
    run = kit.flow("nightly")
    assert [one.name for one in run.tasks] == ["extract", "load", "extract"]
    assert [one.name for one in run.children] == ["extract", "load", "inner"]
    assert [one.name for one in run.descendants] == ["extract", "load", "INSERT", "inner", "extract"]
    assert run.flow("inner").task("extract").parent is run.flow("inner")
    assert (run.parent, run.kind, kit.span("INSERT").kind) == (None, "flow", "span")


def test_what_a_run_says_of_itself(kit: Capture) -> None:
    """Status, error, duration, ids, messages, artifacts, results, events, links."""
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


def test_a_failure_is_a_text_and_more(kit: Capture) -> None:
    """The error's type and message, and the exception where it is at hand; also of someone else's span."""
    failure = kit.task("load").error
    assert isinstance(failure, Failure)
    assert failure == "ValueError: disk full"
    assert (failure.type, failure.message) == ("ValueError", "disk full")
    assert isinstance(failure.exception, ValueError)
    other = kit.span("INSERT").error
    assert other is not None
    assert (other.type, other.message, kit.span("INSERT").status) == ("ValueError", "disk full", "failed")


def test_find(kit: Capture) -> None:
    """By name with wildcards, kind, status, attributes, and a function."""
    assert [run.name for run in kit.find("e*")] == ["extract", "extract"]
    assert [run.name for run in kit.find(kind="span")] == ["INSERT"]
    assert [run.name for run in kit.find(status="failed")] == ["load", "INSERT"]
    assert [run.name for run in kit.find(attributes={"db.name": "shop"})] == ["INSERT"]
    assert [run.name for run in kit.find(where=lambda run: run.artifacts)] == ["extract", "extract"]
    assert [run.name for run in kit.flow("inner").find("*")] == ["extract"]


def test_a_query_for_one_says_what_there_was(kit: Capture) -> None:
    """None or several: the failure prints every tree."""
    with pytest.raises(AssertionError) as none:
        kit.flow("daily")
    assert str(none.value).startswith("There is no flow 'daily'. What ran:\n\nnightly  (")
    assert "  load  !ValueError: disk full" in str(none.value)
    with pytest.raises(AssertionError, match="There are 2 tasks 'extract': use tasks, or find"):
        kit.task("extract")
    with pytest.raises(AssertionError, match="There is no task 'x' below 'inner'"):
        kit.flow("inner").task("x")
    with pytest.raises(AssertionError, match=r"<task 'load' failed> has no artifact 'rows'. It has: none"):
        kit.task("load").artifact("rows")


def test_counts_and_durations(kit: Capture) -> None:
    """Bounds on how often and how long."""
    kit.assert_count("extract", 2)
    kit.assert_count("e*", at_least=1, at_most=2)
    with pytest.raises(AssertionError, match="'extract' ran 2 times; expected were at most 1"):
        kit.assert_count("extract", at_most=1)
    with pytest.raises(AssertionError, match="'nothing' ran 0 times; expected were exactly 1"):
        kit.assert_count("nothing", 1)
    kit.assert_duration("nightly", at_most=60)
    with pytest.raises(AssertionError, match=r"<flow 'nightly' completed> took .* expected was at least 60 s"):
        kit.assert_duration("nightly", at_least=60)
    with pytest.raises(AssertionError, match="There is no 'nothing'"):
        kit.assert_duration("nothing", at_most=1)


def test_a_bound_has_to_be_said(kit: Capture) -> None:
    """Else the assertion would hold whatever ran."""
    with pytest.raises(ArgumentError, match="has no bound"):
        kit.assert_count("extract")
    with pytest.raises(ArgumentError, match="has no bound"):
        kit.assert_duration("extract")


def test_what_ran_at_the_same_time() -> None:
    """Concurrent tasks overlap; those that ran one after the other do not."""

    @task
    async def waits(name: str) -> None:
        await asyncio.sleep(0)

    @flow
    async def both() -> None:
        await asyncio.gather(waits("a"), waits("b"))
        await waits("c")

    with capture(deterministic=True) as made:
        both().execute()
    first, second, third = made.tasks
    assert first.overlaps(second)
    assert second.overlaps(first)
    assert not third.overlaps(first)


def test_an_open_run_is_seen() -> None:
    """While it runs, and when it never ends."""

    @task
    def steps() -> Any:
        yield 1

    with capture() as made:
        left = steps()
        next(left)
        run = made.task("steps")
        assert (run.status, run.duration, run.is_open) == ("running", None, True)
        assert "steps  (open)" in made.tree()
        left.close()
        assert made.task("steps").status == "completed"


def test_to_dict_is_the_same_each_time() -> None:
    """No ids, no times, no folders."""

    @flow
    def fails() -> None:
        raise OSError(f"no file in {__file__}")

    made = []
    for _ in range(2):
        with capture() as one:
            nightly().execute()
            with pytest.raises(OSError, match="no file"):
                fails().execute()
        made.append(one.to_dict())
    assert made[0] == made[1]
    assert made[0][0]["children"][0] == {
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
    (exception,) = made[0][1]["events"]
    assert 'File "test_kit.py", line N, in fails' in exception["attributes"]["exception.stacktrace"]


# --- determinism ----------------------------------------------------------------------------------------------------


def test_deterministic_ids_and_times() -> None:
    """Ids and run ids count from one, each reading of the clock is a millisecond later; foreign spans step as well."""
    told = []
    for _ in range(2):
        with capture(deterministic=True) as made:
            nightly().execute()
        told.append([(run.name, run.trace_id, run.span_id, run.run_id, run.duration) for run in made.spans])
    assert told[0] == told[1]
    assert told[0][0][:4] == ("nightly", f"{1:032x}", f"{1:016x}", f"flow_{1:028x}")
    assert [int(span_id, 16) for _, _, span_id, _, _ in told[0]] == [1, 2, 3, 4, 5, 6]
    assert {run.name: run.duration for run in made.spans}["INSERT"] == 0.001
    made.assert_duration("load", at_least=0.005, at_most=0.005)
    assert now() > 1_700_000_000_000_000_000


def test_one_deterministic_capture_at_a_time() -> None:
    """Two would count on the same ids; nothing is left behind by the one that is refused."""
    listeners = list(flow_events.event_listeners)
    with capture(deterministic=True) as made:
        with pytest.raises(OtelflowError, match="deterministic capture is active already"), capture(deterministic=True):
            pass
        with pytest.raises(OtelflowError, match="active already"), made:
            pass
    assert flow_events.event_listeners == listeners
