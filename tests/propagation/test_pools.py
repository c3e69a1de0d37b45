"""Pools of threads and processes: jobs belong to the flow that submits them, and their events and spans come back."""

from __future__ import annotations

from typing import Any

import pool_work
import pytest
from pool_programs import program

STEPS = [1, 3, 4, 5, 6, 7]
EXPECTED: dict[str, Any] = {
    "value": 1,
    "error": "LookupError('no 2')",
    "mapped": [3, 4],
    "in chunks": [5, 6, 7],
    "inner": 9,
    "is identity": True,
    "tree": [
        [
            "everything",
            "completed",
            [
                ["failing", "failed", [["deeper", "failed", []]]],
                ["inner", "completed", [["step", "completed", []]]],
                ["outer", "completed", [["step", "completed", []]]],
                ["prints", "completed", []],
                *[["step", "completed", []]] * 5,
                ["uses_data", "completed", []],
            ],
        ]
    ],
    "spans": 14,
    "traces": 1,
    "exceptions": ["deeper"],
    "messages": sorted(
        [f"step {number}" for number in STEPS]
        + [f"flow hears of {number}" for number in STEPS]
        + ["printed 8", "Error executing 'deeper' task: no 2"]
    ),
    "severities": ["ERROR", "INFO", "WARNING"],
    "artifacts": [[f"table {number}", {"rows": [number]}] for number in STEPS],
    "results": [f"result {number}" for number in STEPS],
    "counted": [11, 2],
    "heard": sorted(
        {
            **{f"task_{what} {name}": 1 for what in ("start", "stop") for name in ("outer", "failing", "deeper")},
            **{f"task_{what} {name}": 1 for what in ("start", "stop") for name in ("prints", "uses_data")},
            **{f"flow_{what} {name}": 1 for what in ("start", "stop") for name in ("everything", "inner")},
            "task_start step": 7,
            "task_stop step": 7,
            "flow_message step": 7,
            "flow_message everything": 6,
            "flow_message inner": 2,
            "flow_message deeper": 1,
            "flow_message prints": 1,
            "new_artifact everything": 6,
            "new_artifact inner": 1,
            "new_result step": 7,
        }.items()
    ),
    "durations": True,
}
"""The facts of a run with a thread pool. A process pool must give the same."""


@pytest.mark.parametrize("kind", pool_work.KINDS)
def test_every_pool_gives_the_same_facts_as_threads(kind: str) -> None:
    """Spans, messages, artifacts, results, tasks, events and errors of jobs are the same, each once."""
    result = program(f"""
        provide()
        with pool_of({kind!r}) as pool:
            say(**facts_of(pool, exporter))
        say(dropped=stats().dropped)
        """)
    facts = result.facts
    facts["heard"] = [tuple(pair) for pair in facts["heard"]]
    assert {name: facts[name] for name in EXPECTED} == EXPECTED
    assert {"step 1", "flow hears of 1"} <= set(facts["known at once"])
    assert ["step", "completed", "None", 3] in facts["tasks"]
    assert ["deeper", "failed", "LookupError('no 2')", None] in facts["tasks"]
    assert "pool_work.step" in facts["sources"]
    assert facts["dropped"] == {}
    if kind == "threads":
        assert facts["data"] == "shared"
    else:
        assert facts["data"].startswith("NotShared: The data of flow 'everything' is in another process")
        assert 'in deeper\n    raise LookupError(f"no {number}")' in facts["cause"]
        assert "otelflow/" not in facts["cause"]


@pytest.mark.parametrize("kind", pool_work.PROCESSES)
def test_a_worker_that_dies_loses_only_its_own_spans(kind: str) -> None:
    """The flow gets the executor's own exception, the loss is counted, and nothing hangs."""
    result = program(f"""
        provide()

        @flow
        def loses(pool):
            step(1)
            try:
                pool.submit(dies).result(60)
            except Exception as error:
                return type(error).__name__

        with pool_of({kind!r}) as pool:
            run = loses(pool).execute()
        names = sorted(span.name for span in exporter.get_finished_spans())
        say(status=run.status, value=run.return_value, names=names, dropped=stats().dropped)
        """)
    assert result.facts["status"] == "completed"
    assert result.facts["value"] in ("BrokenProcessPool", "TerminatedWorkerError", "KilledWorker")
    assert result.facts["names"] == ["loses", "step"]
    assert result.facts["dropped"] == {"worker_lost": 1}


SCRIPT = """
provide()

@task
def local(number, this_flow=None):
    this_flow.log_info(f"local {number}")
    return below(number)

@task
def below(number):
    return number

@flow
def script(pool):
    return pool.submit(local, 1).result() + pool.submit(lambda: local(2)).result()

with pool_of(KIND) as pool:
    run = script(pool).execute()
say(value=run.return_value, messages=run.messages, tree=tree_of(exporter.get_finished_spans()))
"""


@pytest.mark.parametrize("kind", ["loky", "dask"])
def test_tasks_of_a_script_reach_workers_that_pickle_by_value(kind: str) -> None:
    """With cloudpickle, the tasks and lambdas of a script or notebook keep their decoration."""
    result = program(SCRIPT.replace("KIND", repr(kind)))
    assert result.facts["value"] == 3
    assert result.facts["messages"] == ["local 1", "local 2"]
    two = ["local", "completed", [["below", "completed", []]]]
    assert result.facts["tree"] == [["script", "completed", [two, two]]]
