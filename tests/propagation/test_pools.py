"""Pools of threads and processes: jobs belong to the flow that submits them, and what they do comes back with them."""

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
"""What a pool of threads shows; one of processes shows the same."""


@pytest.mark.parametrize("kind", pool_work.KINDS)
def test_a_pool_shows_what_threads_show(kind: str) -> None:
    """Spans, messages, artifacts, results, tasks, events and errors of jobs: the same wherever they ran, each once."""
    done = program(f"""
        provide()
        with pool_of({kind!r}) as pool:
            say(**facts_of(pool, exporter))
        say(dropped=stats().dropped)
        """)
    said = done.said
    said["heard"] = [tuple(pair) for pair in said["heard"]]
    assert {name: said[name] for name in EXPECTED} == EXPECTED
    assert {"step 1", "flow hears of 1"} <= set(said["known at once"])
    assert ["step", "completed", "None", 3] in said["tasks"]
    assert ["deeper", "failed", "LookupError('no 2')", None] in said["tasks"]
    assert "pool_work.step" in said["sources"]
    assert said["dropped"] == {}
    if kind == "threads":
        assert said["data"] == "shared"
    else:
        assert said["data"].startswith("NotShared: The data of flow 'everything' is in another process")
        assert 'in deeper\n    raise LookupError(f"no {number}")' in said["cause"]
        assert "otelflow/" not in said["cause"]


@pytest.mark.parametrize("kind", pool_work.PROCESSES)
def test_a_worker_that_dies_costs_its_own_spans_only(kind: str) -> None:
    """The flow ends with the executor's own exception, the loss is counted, nothing hangs."""
    done = program(f"""
        provide()

        @flow
        def loses(pool):
            step(1)
            try:
                pool.submit(dies).result(60)
            except Exception as error:
                return type(error).__name__

        with pool_of({kind!r}) as pool:
            made = loses(pool).execute()
        names = sorted(span.name for span in exporter.get_finished_spans())
        say(status=made.status, value=made.return_value, names=names, dropped=stats().dropped)
        """)
    assert done.said["status"] == "completed"
    assert done.said["value"] in ("BrokenProcessPool", "TerminatedWorkerError", "KilledWorker")
    assert done.said["names"] == ["loses", "step"]
    assert done.said["dropped"] == {"worker_lost": 1}


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
    made = script(pool).execute()
say(value=made.return_value, messages=made.messages, tree=tree_of(exporter.get_finished_spans()))
"""


@pytest.mark.parametrize("kind", ["loky", "dask"])
def test_tasks_of_a_script_reach_workers_that_pickle_by_value(kind: str) -> None:
    """A script's or notebook's own tasks and lambdas keep their decoration with cloudpickle."""
    done = program(SCRIPT.replace("KIND", repr(kind)))
    assert done.said["value"] == 3
    assert done.said["messages"] == ["local 1", "local 2"]
    two = ["local", "completed", [["below", "completed", []]]]
    assert done.said["tree"] == [["script", "completed", [two, two]]]
