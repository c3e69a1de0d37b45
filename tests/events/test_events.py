"""Test listeners and the history: the events, their order, and listeners that raise, print or remove themselves."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from conftest import texts

from otelflow import FlowRunEvent, FlowRunEventType, current_task, flow, flow_events, stats, task
from otelflow.events import FlowRunEventData
from otelflow.testing import Capture


@task
def step(fail: bool = False, this_task: Any = None) -> str:
    """Send a message."""
    this_task.log_info("hello \x1b[31mred\x1b[0m")
    if fail:
        raise ValueError("no")
    return "value"


@flow
def work(fail: bool = False) -> str:
    """Call one task."""
    return step(fail)


def test_events_come_in_order_with_their_payloads(captured: Capture) -> None:
    """START is first and STOP is last; STOP has the status."""
    run = work().execute()
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "hello red", "TASK_STOP", "FLOW_STOP"]
    message, task_stop, flow_stop = (event.event_data for event in captured.events[2:])
    assert message.data == {
        "message_data": {"log_level": 20, "message": "hello \x1b[31mred\x1b[0m", "message_text": "hello red"}
    }
    assert (message.log_level, message.task_name, message.flow_name) == (20, "step", "work")
    assert task_stop.data["task_data"] == {
        "status": "completed",
        "duration": run.tasks[0].duration,
        "return_value": "value",
        "error": None,
    }
    assert flow_stop.data["flow_data"]["return_value"] == "value"
    assert (flow_stop.trace_id, flow_stop.span_id) == (run.trace_id, run.span_id)
    assert (task_stop.trace_id, task_stop.span_id) == (run.trace_id, run.tasks[0].span_id)


def test_a_failure_is_in_the_stop_event(captured: Capture) -> None:
    """TASK_STOP carries the exception object."""
    with pytest.raises(ValueError, match="no") as caught:
        work(True).execute()
    stop = captured.events[-2].event_data.data["task_data"]
    assert (stop["status"], stop["error"]) == ("failed", caught.value)
    assert texts(captured.events)[3] == "Error executing 'step' task: no"


def test_the_source_is_the_function_that_emitted(captured: Capture) -> None:
    """A task's function is the source of the messages that the task sends on its flow."""

    @task
    def speaks(this_flow: Any = None) -> None:
        this_flow.log_info("from the task")

    @flow
    def listens() -> None:
        speaks()

    listens().execute()
    (message,) = [event.event_data for event in captured.events if event.event_type is FlowRunEventType.FLOW_MESSAGE]
    assert message.event_source.endswith("speaks")
    assert message.task_name is None


def test_a_listener_that_raises_is_counted_and_the_next_is_called(caplog: pytest.LogCaptureFixture) -> None:
    """Also for BaseExceptions. The run is not affected; the error is logged once."""
    before = stats().listener_errors

    class ListenerError(BaseException):
        pass

    def raises(event: FlowRunEvent) -> None:
        raise ListenerError

    events: list[FlowRunEvent] = []
    with caplog.at_level(logging.WARNING, "otelflow"), flow_events.listen(raises), flow_events.listen(events.append):
        assert work().execute().return_value == "value"
    assert len(events) == 5
    assert stats().listener_errors == before + 5
    assert len([record for record in caplog.records if "raises raised ListenerError" in record.getMessage()]) == 1


def test_keyboard_interrupt_in_a_listener_reaches_the_caller_and_all_runs_end(captured: Capture) -> None:
    """Ctrl-C must work; START is still followed by STOP, and the spans end."""
    stops: list[str] = []

    def interrupts(event: FlowRunEvent) -> None:
        if event.event_type is FlowRunEventType.TASK_START:
            raise KeyboardInterrupt
        stops.append(event.event_type.name)

    with flow_events.listen(interrupts), pytest.raises(KeyboardInterrupt):
        work().execute()
    assert stops == ["FLOW_START", "TASK_STOP", "FLOW_STOP"]
    assert [run.status for run in captured.spans] == ["cancelled"] * 2


def test_a_listener_may_remove_itself(captured: Capture) -> None:
    """The next one is still called."""
    events: list[FlowRunEvent] = []

    def removes_itself(event: FlowRunEvent) -> None:
        events.append(event)
        flow_events.event_listeners.remove(removes_itself)

    flow_events.event_listeners.insert(0, removes_itself)
    work().execute()
    assert (len(events), len(captured.events)) == (1, 5)


def test_the_output_of_a_listener_is_not_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to the terminal, and makes no events that would make the listener print again."""
    with flow_events.listen(lambda event: print(event.event_type.name)):
        run = work().execute()
    assert run.messages == ["hello red"]
    assert capsys.readouterr().out.split() == ["FLOW_START", "TASK_START", "FLOW_MESSAGE", "TASK_STOP", "FLOW_STOP"]


def test_a_listener_sees_the_run_as_current() -> None:
    """The context is the run's, also at START."""
    names: list[Any] = []
    with flow_events.listen(lambda event: names.append(current_task() and current_task().name)):  # type: ignore[union-attr]
        work().execute()
    assert names == [None, "step", "step", "step", None]


def test_listen_returns_an_object_that_removes_the_listener() -> None:
    """A call of it removes the listener; a second call does nothing."""
    events: list[FlowRunEvent] = []
    remove = flow_events.listen(events.append)
    remove()
    remove()
    work().execute()
    assert events == []


def test_the_history_has_the_events_of_listeners(captured: Capture) -> None:
    """They have the same ids and times, no return values, and small previews of artifacts."""

    @flow
    def makes(this_flow: Any = None) -> str:
        this_flow.add_artifact("Rows", "rows", {"big": "x" * 100_000})
        return "value"

    makes().execute()
    history, events = flow_events.history(), captured.events
    assert [event.event_id for event in history] == [event.event_id for event in events]
    assert [event.timestamp for event in history] == [event.timestamp for event in events]
    assert history[-1].event_data.data["flow_data"]["return_value"] is None
    assert events[-1].event_data.data["flow_data"]["return_value"] == "value"
    assert len(history[1].event_data.data["artifact_data"]["data"].encode()) <= 2048
    assert len(events[1].event_data.data["artifact_data"]["data"]["big"]) == 100_000


def test_the_history_is_bounded() -> None:
    """It has only the newest 1000 events."""

    @flow
    def many() -> None:
        for _ in range(600):
            step()

    many().execute()
    history = flow_events.history()
    assert len(history) == 1000
    assert history[-1].event_type is FlowRunEventType.FLOW_STOP


def test_an_event_of_the_user_can_be_raised(captured: Capture) -> None:
    """raise_event sends any event to the listeners; its fields have defaults."""
    event = FlowRunEvent(FlowRunEventType.NEW_RESULT, FlowRunEventData(data={"result_data": {"key": "k"}}))
    flow_events.raise_event(event)
    assert captured.events == [event]
    assert len(event.event_id) == 36
    assert "NEW_RESULT" in repr(event)


def test_the_original_object_is_in_memory_and_with_listeners(captured: Capture) -> None:
    """artifacts[...].data is the object that was added."""
    data = {"rows": object()}

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact("Rows", "rows", data)

    run = makes().execute()
    assert run.artifacts[0].data is run.artifacts["rows"].data is data
    assert captured.events[1].event_data.data["artifact_data"]["data"] is data
    with pytest.raises(KeyError, match=r"there is no key 'none'\. The keys are: 'rows'"):
        run.artifacts["none"]


def test_to_dict_is_plain_data() -> None:
    """json can write it."""
    import json

    run = work().execute()
    data = json.loads(json.dumps(run.to_dict()))
    assert (data["name"], data["status"], data["return_value"]) == ("work", "completed", '"value"')
    assert [item["name"] for item in data["tasks"]] == ["step"]
    assert data["messages"] == [{"text": "hello red", "severity": "INFO", "task_name": "step"}]
    assert repr(run).startswith("<Flow 'work' completed in 0.")


def test_messages_before_and_after_a_run() -> None:
    """Before the run they are kept in memory; after it they are dropped and counted."""
    before = stats().dropped.get("messages_after_end", 0)
    run = work()
    run.log_info("before")
    assert run.messages == ["before"]
    run.execute()
    run.log_info("after")
    assert run.messages == ["before", "hello red"]
    assert stats().dropped["messages_after_end"] == before + 1
