"""Test all that the OSBot-Utils document shows, with otelflow's own names and with the OSBot-Utils names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from spellings import OWN, SEED

from otelflow.testing import Capture


@pytest.fixture(params=[OWN, SEED], ids=lambda spelling: spelling.name)
def api(request: pytest.FixtureRequest) -> Any:
    """Return the names to use: otelflow's own, or those of OSBot-Utils."""
    return request.param


@pytest.fixture
def listened(api: Any) -> Any:
    """Collect the events that listeners of this API receive."""
    events: list[Any] = []
    api.flow_events.event_listeners.append(events.append)
    yield events
    api.flow_events.event_listeners.remove(events.append)


def test_a_flow_processes_input_through_a_task(api: Any, captured: Capture) -> None:
    """Basic usage: a flow calls a task; execute() returns the flow with its return value."""

    @api.task()
    def process_data(data: list[int]) -> list[int]:
        return [item * 2 for item in data]

    @api.flow()
    def my_flow(input_data: list[int]) -> list[int]:
        return process_data(input_data)

    instance = my_flow([1, 2]).execute()
    assert isinstance(instance, api.Flow)
    assert instance.return_value == [2, 4]
    assert [task.name for task in instance.tasks] == ["process_data"]
    captured.assert_tree("my_flow\n  process_data")


def test_dependencies_are_injected_and_data_is_shared(api: Any) -> None:
    """Task dependencies: injection by name, with data of one task and data of the flow."""
    injected: dict[str, Any] = {}

    @api.task()
    def task_with_deps(
        this_task: Any = None, this_flow: Any = None, task_data: Any = None, flow_data: Any = None
    ) -> None:
        injected.update(task=this_task, flow=this_flow)
        task_data["local"] = "only visible to this task"
        flow_data["shared"] = "visible to all tasks"

    @api.task()
    def the_next(task_data: Any = None, flow_data: Any = None) -> Any:
        return dict(task_data), dict(flow_data)

    @api.flow()
    def sharing() -> Any:
        task_with_deps()
        return the_next()

    run = sharing().execute()
    assert isinstance(injected["task"], api.Task)
    assert injected["flow"] is run
    assert run.return_value == ({}, {"shared": "visible to all tasks"})
    assert run.data == {"shared": "visible to all tasks"}
    assert injected["task"].data == {"local": "only visible to this task"}


def test_async_flows_and_tasks(api: Any, captured: Capture) -> None:
    """Async support: an async flow awaits an async task, executed or awaited."""

    @api.task()
    async def async_task() -> str:
        await asyncio.sleep(0)
        return "completed"

    @api.flow()
    async def async_flow() -> str:
        return await async_task()

    async def awaits() -> Any:
        return await async_flow()

    assert async_flow().execute().return_value == "completed"
    assert asyncio.run(awaits()).return_value == "completed"
    captured.assert_tree("async_flow  x2\n  async_task")


def test_sync_and_async_tasks_mix(api: Any) -> None:
    """Async support: a sync task inside an async one belongs to the same flow."""

    @api.task()
    def inner(this_flow: Any = None) -> str:
        return this_flow.run_id

    @api.task()
    async def outer() -> str:
        return inner()

    @api.flow()
    async def mixed() -> tuple[str, str]:
        return await outer(), inner()

    run = mixed().execute()
    assert run.return_value == (run.run_id, run.run_id)
    assert sorted(task.name for task in run.tasks) == ["inner", "inner", "outer"]


def test_a_task_may_fail_without_the_flow(api: Any) -> None:
    """Error handling: raise_on_error=False ends the task only."""

    @api.task(raise_on_error=False)
    def task_continues_on_error() -> None:
        raise ValueError("Task error")

    @api.flow(flow_config=api.Config(raise_flow_error=False))
    def flow_continues_on_error() -> str:
        assert task_continues_on_error() is None
        return "Flow completed despite error"

    run = flow_continues_on_error().execute()
    assert run.return_value == "Flow completed despite error"
    assert run.error is None
    assert [task.status for task in run.tasks] == ["failed"]
    assert "Error executing 'task_continues_on_error' task: Task error" in run.messages


def test_a_flow_may_fail_without_its_caller(api: Any) -> None:
    """Error handling: raise_flow_error=False returns the flow, with the original error."""
    error = KeyError("lost")

    @api.flow(flow_config=api.Config(raise_flow_error=False))
    def fails() -> None:
        raise error

    run = fails().execute()
    assert run.status == "failed"
    assert run.error is error


def test_listeners_receive_events(api: Any, listened: list[Any], capsys: Any) -> None:
    """Event listening: types and payloads are as the document shows them."""

    def event_listener(event: Any) -> None:
        if event.event_type == api.EventType.TASK_START:
            print(f"Task started: {event.event_data.task_name}")
        elif event.event_type == api.EventType.FLOW_MESSAGE:
            print(f"Log message: {event.event_data.data['message_data']['message']}")

    @api.task()
    def step(this_task: Any = None) -> None:
        this_task.log_info("working")

    @api.flow()
    def work() -> None:
        step()

    api.flow_events.event_listeners.append(event_listener)
    try:
        work().execute()
    finally:
        api.flow_events.event_listeners.remove(event_listener)
    printed = capsys.readouterr().out.splitlines()
    assert "Task started: step" in printed
    assert "Log message: working" in printed
    types = [event.event_type.name for event in listened if event.event_type != api.EventType.FLOW_MESSAGE]
    assert types == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]


def test_artifacts_and_results(api: Any, listened: list[Any]) -> None:
    """Artifacts and results: the flow keeps them, and listeners receive them."""

    @api.flow()
    def flow_with_artifacts(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact(
            description="API Response", key="api-response", data={"status": "success"}, artifact_type="json"
        )
        this_flow.add_flow_result(key="calculation-result", description="Final calculation value: 42")

    run = flow_with_artifacts().execute()
    assert run.artifacts["api-response"].data == {"status": "success"}
    assert run.results["calculation-result"].description == "Final calculation value: 42"
    payloads = [event.event_data.data for event in listened if event.event_type.name.startswith("NEW_")]
    artifact = {"description": "API Response", "key": "api-response", "data": {"status": "success"}, "type": "json"}
    assert payloads == [
        {"artifact_data": artifact},
        {"result_data": {"key": "calculation-result", "description": "Final calculation value: 42"}},
    ]


def test_the_event_types_and_fields(api: Any, listened: list[Any]) -> None:
    """Event data structure: there are seven types, and events have these fields."""
    assert {kind.name: kind.value for kind in api.EventType} == {
        name: name.lower()
        for name in (
            "FLOW_START",
            "FLOW_STOP",
            "TASK_START",
            "TASK_STOP",
            "FLOW_MESSAGE",
            "NEW_ARTIFACT",
            "NEW_RESULT",
        )
    }

    @api.task()
    def step() -> None:
        pass

    @api.flow()
    def fields() -> None:
        step()

    run = fields().execute()
    (start,) = [event for event in listened if event.event_type is api.EventType.TASK_START]
    data = start.event_data
    assert (data.flow_name, data.flow_run_id, data.task_name) == ("fields", run.run_id, "step")
    assert data.task_run_id == run.tasks[0].run_id
    assert data.log_level == 20
    assert data.event_source.endswith("step")
    assert isinstance(start.timestamp, int)
    assert len(start.event_id) == 36


def test_the_eight_settings_and_their_defaults(api: Any) -> None:
    """Configuration: the eight fields have the document's defaults."""
    config = api.Config()
    defaults = {
        "add_task_to_self": True,
        "log_to_console": False,
        "log_to_memory": True,
        "logging_enabled": True,
        "print_logs": False,
        "print_none_return_value": False,
        "print_finished_message": False,
        "raise_flow_error": True,
    }
    assert {name: getattr(config, name) for name in defaults} == defaults


def test_printed_lines_become_messages(api: Any, capsys: Any) -> None:
    """Output capture: lines of tasks and of the flow become messages, and still go to the terminal."""

    @api.task()
    def chatty() -> None:
        print("from the task")
        print()

    @api.flow()
    def captured() -> None:
        chatty()
        print("from the flow")

    run = captured().execute()
    assert [text for text in run.messages if text.startswith("from")] == ["from the task", "from the flow"]
    assert capsys.readouterr().out == "from the task\n\nfrom the flow\n"


def test_a_flow_can_be_extended(api: Any) -> None:
    """Flow extensions: subclasses add features, and main() can replace the function."""

    class Timed(api.Flow):
        def main(self) -> str:
            return "from main"

        def summary(self) -> str:
            return f"{self.name}: {self.return_value}"

    run = Timed().setup() if api.name == "compat" else Timed()
    assert run.execute().return_value == "from main"
    assert run.summary().endswith("from main")


def test_a_pipeline_of_tasks(api: Any, captured: Capture) -> None:
    """Data processing pipeline: sequence, validation, errors and shared data are in one trace."""

    @api.task()
    def load(flow_data: Any = None) -> list[str]:
        flow_data["source"] = "numbers"
        return ["1", "2", "x"]

    @api.task(raise_on_error=False)
    def convert(text: str) -> int:
        return int(text)

    @api.task()
    def store(numbers: list[int], flow_data: Any = None, this_flow: Any = None) -> int:
        this_flow.add_flow_artifact("Sum", "sum", {flow_data["source"]: sum(numbers)}, "json")
        return sum(numbers)

    @api.flow()
    def pipeline() -> int:
        numbers = [convert(text) for text in load()]
        return store([number for number in numbers if number is not None])

    run = pipeline().execute()
    assert run.return_value == 3
    captured.assert_tree("""
        pipeline  {otelflow.flow.tasks_failed=1}
          load
          convert  x2
          convert  !ValueError
          store
    """)
    assert [(task.name, task.status) for task in run.tasks] == [(span.name, span.status) for span in captured.tasks]
