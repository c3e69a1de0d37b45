"""Each field of FlowRunConfig has its effect, and wrong values are refused with a way out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import texts

from otelflow import FlowRunConfig, flow, task
from otelflow.errors import ArgumentError, ConfigError
from otelflow.testing import Capture


@task
def step(this_task: Any = None) -> None:
    """A task that says something."""
    this_task.log_debug("hidden")
    this_task.log_info("working")


def run_with(**config: Any) -> Any:
    @flow(flow_config=FlowRunConfig(**config))
    def work() -> None:
        step()

    return work().execute()


def test_add_task_to_self(captured: Capture) -> None:
    """False: no task is kept; they are counted all the same."""
    run = run_with(add_task_to_self=False)
    assert run.tasks == []
    assert captured.flow("work").attributes["otelflow.flow.tasks"] == 1


def test_log_to_console(capsys: pytest.CaptureFixture[str]) -> None:
    """True: each message once, as it comes; a line a message, with time and severity."""
    for _ in range(3):
        run_with(log_to_console=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \| INFO     \| working", lines[0])


def test_log_to_memory(captured: Capture) -> None:
    """False: not in memory; still on the span and for listeners."""
    run = run_with(log_to_memory=False)
    assert run.messages == []
    assert [event.name for event in captured.task("step").events] == ["otelflow.message"]
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "working", "TASK_STOP", "FLOW_STOP"]


def test_logging_enabled(captured: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    """False: no messages at all."""
    run = run_with(logging_enabled=False, log_to_console=True, print_logs=True)
    assert run.messages == []
    assert captured.task("step").events == []
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]
    assert capsys.readouterr().out == ""


def test_print_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """True: the messages are printed when the run has ended, and are no messages again."""
    run = run_with(print_logs=True)
    assert capsys.readouterr().out == "working\n"
    assert run.messages == ["working"]


def test_print_none_return_value() -> None:
    """True: a message, at INFO, when a task or the flow returns None."""
    assert run_with(print_none_return_value=True).messages == [
        "working",
        "Task return value: None",
        "Flow return value: None",
    ]


def test_print_finished_message() -> None:
    """True: a message, at INFO, at the end of each task and of the flow."""
    run = run_with(print_finished_message=True)
    assert run.messages == ["working", "Finished task 'step'", f"Finished flow run '{run.run_id}'"]


def test_raise_flow_error() -> None:
    """True lets the error through; False keeps it in flow.error."""

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow(fails)().execute()
    run = flow(flow_config=FlowRunConfig(raise_flow_error=False))(fails)().execute()
    assert (run.status, str(run.error)) == ("failed", "no")


def test_log_level(captured: Capture) -> None:
    """Messages below it reach nobody; a name is as good as a number."""
    assert FlowRunConfig(log_level="debug").log_level == 10
    assert run_with(log_level="DEBUG").messages == ["hidden", "working"]
    assert run_with(log_level=30).messages == []
    assert [run.messages for run in captured.tasks] == [["hidden", "working"], []]
    assert [event.name for run in captured.spans for event in run.events] == ["otelflow.message"] * 2


def test_capture_output(capsys: pytest.CaptureFixture[str]) -> None:
    """On by default for deferred flows, off for transparent ones; both can be turned."""
    kept: list[Any] = []

    def prints(this_flow: Any = None) -> None:
        kept.append(this_flow)
        print("line")

    flow(prints)().execute()
    flow(transparent=True)(prints)()
    flow(flow_config=FlowRunConfig(capture_output=False))(prints)().execute()
    flow(transparent=True, flow_config=FlowRunConfig(capture_output=True))(prints)()
    assert [list(run.messages) for run in kept] == [["line"], [], [], ["line"]]
    assert capsys.readouterr().out == "line\n" * 4


def test_print_error_stack_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """True: the whole traceback on the standard error, once for one exception."""

    @task
    def fails() -> None:
        raise ValueError("no")

    @flow(flow_config=FlowRunConfig(print_error_stack_trace=True, raise_flow_error=False))
    def failing() -> None:
        fails()

    failing().execute()
    assert capsys.readouterr().err.count("ValueError: no\n") == 1


def test_max_messages_and_max_tasks(captured: Capture) -> None:
    """The newest are kept, and what went is on the span."""

    @flow(flow_config=FlowRunConfig(max_messages=2, max_tasks=3))
    def many() -> None:
        for _ in range(5):
            step()

    run = many().execute()
    assert (len(run.messages), len(run.tasks)) == (2, 3)
    attributes = captured.flow("many").attributes
    assert attributes["otelflow.dropped.tasks"] == 2
    assert attributes["otelflow.dropped.messages"] == 3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"raise_flow_eror": False},
            ArgumentError,
            "has no argument 'raise_flow_eror'. Did you mean 'raise_flow_error'?",
        ),
        ({"log_level": "LOUD"}, ConfigError, "log_level is 'LOUD'. Use a number from 0 up or one of: DEBUG, INFO"),
        ({"print_logs": "yes"}, ConfigError, "print_logs is 'yes'. Use True or False."),
        ({"max_tasks": -1}, ConfigError, "max_tasks is -1. Use a whole number from 0 up."),
    ],
)
def test_wrong_settings(given: dict[str, Any], error: type[Exception], message: str) -> None:
    """What, which, and the way out."""
    with pytest.raises(error, match=re.escape(message)):
        FlowRunConfig(**given)


def test_it_cannot_be_changed() -> None:
    """One object may serve any number of flows."""
    with pytest.raises(AttributeError):
        FlowRunConfig().print_logs = True  # type: ignore[misc]
