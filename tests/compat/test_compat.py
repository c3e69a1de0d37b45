"""Test otelflow.compat: the original's public names work, and its defects are repaired."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest

import otelflow
from otelflow import compat
from otelflow.compat import Flow, Flow_Run__Config, Flow_Run__Event, Flow_Run__Event_Data, Task, flow, flow_events, task
from otelflow.testing import Capture


@task()
def add_one(x: int, this_task: Any = None) -> int:
    """A task that prints."""
    print("in the task")
    return x + 1


@flow()
def adds(x: int) -> int:
    """A flow that prints before and after its task."""
    print("before")
    value = add_one(x)
    print("after")
    return value


@pytest.fixture
def compat_events() -> Any:
    """Return the events that listeners of this package receive."""
    events: list[Flow_Run__Event] = []
    flow_events.event_listeners.append(events.append)
    yield events
    flow_events.event_listeners.remove(events.append)


def event_lines(events: list[Any]) -> list[str]:
    """Return the names of the event types; of messages, their level and text."""
    lines = []
    for event in events:
        message = event.event_data.data.get("message_data")
        lines.append(f"{message['log_level']} {message['message_text']}" if message else event.event_type.name)
    return lines


def test_a_call_returns_a_flow_that_is_set_up(captured: Capture) -> None:
    """It is not executed. It has a target, arguments and a run id in the original's form."""
    prepared = adds(1)
    assert type(prepared) is Flow
    assert (prepared.setup_completed, prepared.status, captured.spans) == (True, "pending", [])
    assert (prepared.flow_name, prepared.flow_args, prepared.flow_kwargs) == ("adds", (1,), {})
    assert re.fullmatch(r"flow_id___[a-z0-9]+", prepared.flow_id)
    assert prepared.execute() is prepared
    assert prepared.flow_return_value == prepared.return_value == 2
    assert [item.task_name for item in prepared.executed_tasks] == ["add_one"]


def test_the_order_of_events(compat_events: list[Any]) -> None:
    """A flow with one task sends its events in the order of the original."""
    run = flow(flow_config=Flow_Run__Config(print_finished_message=True))(adds.__wrapped__)(1).execute()
    assert event_lines(compat_events) == [
        "FLOW_START",
        f"10 Created flow run '{run.flow_id}' for flow 'adds'",
        f"10 Executing flow run '{run.flow_id}'",
        "TASK_START",
        "10 Executing task 'add_one'",
        "20 in the task",
        "10 Task return value: 2",
        "10 Finished task 'add_one'",
        "TASK_STOP",
        "20 before",
        "20 after",
        "10 Flow return value: 2",
        f"10 Finished flow run '{run.flow_id}'",
        "NEW_RESULT",
        "FLOW_STOP",
    ]
    assert run.results["flow-return-value"].description == "2"


def test_captured_logs_and_log_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """They leave the 'Created' line out. print_log_messages prints and returns the flow."""
    run = adds(1)
    assert run.captured_logs() == []
    run.execute()
    lines = [
        f"Executing flow run '{run.flow_id}'",
        "Executing task 'add_one'",
        "in the task",
        "Task return value: 2",
        "before",
        "after",
        "Flow return value: 2",
    ]
    assert run.captured_logs() == run.log_messages() == run.log_messages_with_colors() == lines
    assert run.captured_exec_logs == lines
    capsys.readouterr()
    assert run.print_log_messages(use_colors=False) is run
    assert capsys.readouterr().out.split("\n")[2:-1] == lines


def test_errors(capsys: pytest.CaptureFixture[str], compat_events: list[Any]) -> None:
    """Each level sends a message and prints it in red on the standard error. The caller gets the original exception."""
    error = ValueError("no way")

    @task()
    def fails() -> None:
        raise error

    @flow()
    def failing() -> None:
        fails()

    run = failing()
    with pytest.raises(ValueError, match="no way") as caught:
        run.execute()
    assert caught.value is run.flow_error is error
    error_lines = [line for line in event_lines(compat_events) if line.startswith("40")]
    assert error_lines == ["40 Error executing 'fails' task: no way", "40 Error executing flow: no way"]
    assert capsys.readouterr().err.splitlines() == [
        "\x1b[31mError executing 'fails' task: no way\x1b[0m",
        "\x1b[31mError executing flow: no way\x1b[0m",
    ]
    assert [item.task_error for item in run.executed_tasks] == [error]


def test_decorator_arguments() -> None:
    """They set ids, names, data and the configuration. Unknown ones raise a ValueError."""
    data = {"given": 1}

    @task(task_name="renamed", task_id="task_id___mine", raise_on_error=False)
    def step(flow_data: Any = None) -> Any:
        return flow_data

    @flow(flow_id="flow_id___mine", flow_name="named", data=data, flow_config=Flow_Run__Config(log_to_memory=False))
    def configured() -> Any:
        return step()

    run = configured().execute()
    assert (run.flow_id, run.flow_name) == ("flow_id___mine", "named")
    assert run.flow_return_value is run.data is data
    assert [(item.task_name, item.task_id) for item in run.executed_tasks] == [("renamed", "task_id___mine")]
    assert run.captured_logs() == []
    for wrong in (lambda: flow(name="x"), lambda: task(name="x"), lambda: Flow(name="x"), lambda: Task(x=1)):
        with pytest.raises(ValueError, match="has no attribute"):
            wrong()
    with pytest.raises(ValueError, match="has no attribute 'x'"):
        Flow_Run__Config(x=1)  # type: ignore[call-arg]


def test_explicit_setup() -> None:
    """setup, set_flow_target and set_flow_name work. Without a target, main() runs; without setup, execute raises."""

    class Mine(Flow):
        def main(self, x: int = 0) -> str:
            return f"main {x}"

        def task_dependencies(self) -> dict[str, Any]:
            return {"db": "database"}

    @task()
    def asks(db: str = "") -> str:
        return db

    assert Mine().setup().execute().flow_return_value == "main 0"
    assert Mine().setup(None, 3).execute().flow_return_value == "main 3"
    assert Mine().setup(asks).execute().flow_return_value == "database"
    prepared = Flow(flow_name="first").setup(asks, db="given")
    prepared.set_flow_name("second")
    assert prepared.execute().flow_return_value == "given"
    assert prepared.flow_name == "second"
    assert prepared.resolved_kwargs == {"db": "given"}
    with pytest.raises(ValueError, match=r"Error starting Flow, setup has not been called, use \.setup\(target"):
        Flow().execute()


def test_flow_run_params() -> None:
    """They are logged at INFO and added as the artifact post-data."""
    run = adds(1).execute_flow({"a": 1})
    assert "flow_run_params: {'a': 1}" in run.log_messages()
    assert run.artifacts["post-data"].data == {"a": 1}
    assert run.flow_run_params == {"a": 1}


def test_a_flow_as_a_context_manager() -> None:
    """It is the current flow inside the block, and not afterwards."""
    with Flow() as block_flow:
        assert otelflow.current_flow() is block_flow
        assert add_one(1) == 2
        with Task() as by_hand:
            by_hand.task_target = add_one.__wrapped__
            by_hand.task_args = (2,)
            assert by_hand.execute__sync() == 3
            assert by_hand.find_flow() is block_flow
    assert otelflow.current_flow() is None
    assert [item.task_name for item in block_flow.executed_tasks] == ["add_one", "add_one"]


def test_explicit_tasks() -> None:
    """They run outside a flow, sync and async. Their ids have the original's form."""

    async def later(x: int) -> int:
        return x

    with Task() as by_hand:
        by_hand.task_target = later
        by_hand.task_kwargs = {"x": 5}
        assert asyncio.run(by_hand.execute__async()) == 5
    assert re.fullmatch(r"task_id___[a-z0-9]+", by_hand.task_id)
    assert re.fullmatch(r"task_id___[a-z0-9]+", by_hand.random_task_id())
    assert by_hand.task_return_value == 5
    assert Task(task_target=add_one.__wrapped__, task_args=(1,)).execute__sync() == 2


def test_durations() -> None:
    """They are empty before the run, then seconds and status of the flow and its tasks."""
    run = adds(1)
    assert run.durations() == run.durations__with_tasks_status() == {}
    run.execute()
    task_seconds = run.tasks[0].duration
    assert run.durations() == {
        "flow_name": "adds",
        "flow_duration": run.duration,
        "flow_status": "completed",
        "flow_tasks": {"add_one": task_seconds},
    }
    assert run.durations__with_tasks_status()["flow_tasks"] == {
        1: {"task_name": "add_one", "task_duration": task_seconds, "task_status": "completed"}
    }
    assert run.flow_output() == {"output": 2, "durations": run.durations()}
    assert run.flow_stats.json()["total_tasks"] == 1


def test_json_of_a_flow() -> None:
    """It is the whole run as plain data, with events if they are captured."""
    run = flow(flow_config=Flow_Run__Config(flow_data__capture_events=True))(adds.__wrapped__)(1).execute()
    adds(2).execute()
    data = run.json()["flow_data"]
    assert (data["flow_id"], data["status"], data["return_value"]) == (run.flow_id, "completed", 2)
    assert [item["task_name"] for item in data["tasks"].values()] == ["add_one"]
    assert {item["event_data"]["flow_run_id"] for item in data["events"]} == {run.flow_id}
    assert data["events"][0]["event_type"] == "flow_start"
    assert [item["key"] for item in data["results"]] == ["flow-return-value"]


def test_events_and_config_as_plain_data(compat_events: list[Any]) -> None:
    """Both have json() and obj(). The bus also sends events that the caller raises."""
    flow_events.on__flow__start(Flow_Run__Event_Data(flow_name="by hand"))
    flow_events.on__flow_run__message(log_level=20, flow_run_id="f", task_run_id=None, message="\x1b[1mhi\x1b[0m")
    first, second = compat_events
    assert first.json()["event_type"] == "flow_start"
    assert first.json()["event_data"]["flow_name"] == first.obj().event_data.flow_name == "by hand"
    assert second.event_data.data["message_data"]["message_text"] == "hi"
    config = Flow_Run__Config()
    config.print_logs = True
    with pytest.raises(ValueError, match="has no attribute 'print_lgs'"):
        config.print_lgs = True  # type: ignore[attr-defined]
    assert config.json()["print_logs"] is config.obj().print_logs is True
    assert len(config.json()) == 10


def test_the_other_public_names() -> None:
    """The other names can be imported."""
    assert compat.FLOW__RANDOM_ID__PREFIX == "flow_id__"
    assert compat.FLOW__RANDOM_NAME__PREFIX == "flow_name__"
    assert compat.TASK__RANDOM_ID__PREFIX == "task_id__"
    assert isinstance(flow_events, compat.Flow_Events)
    assert adds(1).random_flow_id().startswith("flow_id___")
    prepared = flow(flow_config=Flow_Run__Config(log_to_memory=False))(adds.__wrapped__)(1)
    prepared.logger.add_memory_logger()
    assert len(prepared.execute().captured_logs()) == 7


# --- repaired -------------------------------------------------------------------------------------


def test_gathered_tasks_belong_to_their_flow(captured: Capture) -> None:
    """The original puts them on an orphan flow."""

    @task()
    async def step(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @flow()
    async def gathers() -> Any:
        return await asyncio.gather(*(step(number) for number in range(3)))

    run = gathers().execute()
    assert run.flow_return_value == [0, 1, 2]
    assert len(run.executed_tasks) == 3
    captured.assert_tree("gathers\n  step  x3")


def test_concurrent_flows_keep_their_own_logs() -> None:
    """In the original, one logger for all flows mixed and emptied their logs."""
    runs: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: runs.append(adds(n).execute())) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sorted(run.captured_logs()) for run in runs] == [
        sorted(
            [
                f"Executing flow run '{run.flow_id}'",
                "Executing task 'add_one'",
                "in the task",
                f"Task return value: {run.flow_return_value}",
                "before",
                "after",
                f"Flow return value: {run.flow_return_value}",
            ]
        )
        for run in runs
    ]


def test_flows_leave_no_listener_behind() -> None:
    """The original registers one for each flow and never removes it."""
    before = len(flow_events.event_listeners), len(otelflow.flow_events.event_listeners)
    flow(flow_config=Flow_Run__Config(flow_data__capture_events=True))(adds.__wrapped__)(1).execute()
    assert (len(flow_events.event_listeners), len(otelflow.flow_events.event_listeners)) == before


def test_a_second_run_after_an_error_is_clean() -> None:
    """In the original, a successful run raised the first error again."""
    outcomes: list[Any] = [ValueError("first"), 2]

    @flow()
    def again() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    run = again()
    with pytest.raises(ValueError, match="first"):
        run.execute()
    assert run.execute().flow_return_value == 2
    assert run.flow_error is None


def test_add_task_to_self_has_an_effect() -> None:
    """The original never reads it."""
    run = flow(flow_config=Flow_Run__Config(add_task_to_self=False))(adds.__wrapped__)(1).execute()
    assert run.executed_tasks == []


def test_an_artifact_without_data_is_empty() -> None:
    """The original puts a link to a search engine there."""

    @flow()
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact()

    assert makes().execute().artifacts[0].data is None


def test_bare_decorators_partials_and_await() -> None:
    """Each is a TypeError in the original."""
    import functools

    @flow
    def bare(x: int) -> int:
        return x

    @flow()
    async def waits() -> int:
        return 1

    async def main() -> Any:
        return await waits()

    assert bare(1).execute().flow_return_value == 1
    assert flow()(functools.partial(bare.__wrapped__, 2))().execute().flow_return_value == 2
    assert asyncio.run(main()).flow_return_value == 1


def test_a_message_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """In the original, log_to_console printed each line n times at the nth flow."""
    for _ in range(3):
        flow(flow_config=Flow_Run__Config(log_to_console=True))(adds.__wrapped__)(1).execute()
    assert capsys.readouterr().out.count("| Executing task 'add_one'") == 3
