"""The fields of FlowRunConfig: each has its effect, and the error for an invalid value says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import texts

from otelflow import FlowRunConfig, flow, task
from otelflow._export.settings import queue_settings
from otelflow.errors import ArgumentError, ConfigError
from otelflow.testing import Capture


@task
def step(this_task: Any = None) -> None:
    """Log two messages."""
    this_task.log_debug("hidden")
    this_task.log_info("working")


def run_with(**config: Any) -> Any:
    """Run a flow with these fields of FlowRunConfig."""

    @flow(flow_config=FlowRunConfig(**config))
    def work() -> None:
        step()

    return work().execute()


def test_add_task_to_self_false_keeps_no_tasks(captured: Capture) -> None:
    """The tasks are still counted."""
    run = run_with(add_task_to_self=False)
    assert run.tasks == []
    assert captured.flow("work").attributes["otelflow.flow.tasks"] == 1


def test_log_to_console_prints_each_message_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Immediately, on a line with time and severity."""
    for _ in range(3):
        run_with(log_to_console=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \| INFO     \| working", lines[0])


def test_log_to_memory_false_keeps_no_messages(captured: Capture) -> None:
    """They are still on the span, and listeners get them."""
    run = run_with(log_to_memory=False)
    assert run.messages == []
    assert [event.name for event in captured.task("step").events] == ["otelflow.message"]
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "working", "TASK_STOP", "FLOW_STOP"]


def test_logging_enabled_false_drops_all_messages(captured: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    """In memory, on the span, for listeners and on the console."""
    run = run_with(logging_enabled=False, log_to_console=True, print_logs=True)
    assert run.messages == []
    assert captured.task("step").events == []
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]
    assert capsys.readouterr().out == ""


def test_print_logs_prints_the_messages_after_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Printing them creates no further messages, although output is captured."""
    run = run_with(print_logs=True)
    assert capsys.readouterr().out == "working\n"
    assert run.messages == ["working"]


def test_print_none_return_value_logs_a_message() -> None:
    """At INFO, if a task or the flow returns None."""
    assert run_with(print_none_return_value=True).messages == [
        "working",
        "Task return value: None",
        "Flow return value: None",
    ]


def test_print_finished_message_logs_a_message() -> None:
    """At INFO, at the end of each task and of the flow."""
    run = run_with(print_finished_message=True)
    assert run.messages == ["working", "Finished task 'step'", f"Finished flow run '{run.run_id}'"]


def test_raise_flow_error_raises_or_stores_the_error() -> None:
    """True raises the error to the caller; False stores it in flow.error."""

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flow(fails)().execute()
    run = flow(flow_config=FlowRunConfig(raise_flow_error=False))(fails)().execute()
    assert (run.status, str(run.error)) == ("failed", "no")


def test_log_level_drops_messages_below_it(captured: Capture) -> None:
    """Everywhere. The level may be a name or a number."""
    assert FlowRunConfig(log_level="debug").log_level == 10
    assert run_with(log_level="DEBUG").messages == ["hidden", "working"]
    assert run_with(log_level=30).messages == []
    assert [run.messages for run in captured.tasks] == [["hidden", "working"], []]
    assert [event.name for run in captured.spans for event in run.events] == ["otelflow.message"] * 2


def test_capture_output_turns_printed_lines_into_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """It is on by default for deferred flows and off for transparent ones. Both defaults can be changed."""
    runs: list[Any] = []

    def prints(this_flow: Any = None) -> None:
        runs.append(this_flow)
        print("line")

    flow(prints)().execute()
    flow(transparent=True)(prints)()
    flow(flow_config=FlowRunConfig(capture_output=False))(prints)().execute()
    flow(transparent=True, flow_config=FlowRunConfig(capture_output=True))(prints)()
    assert [list(run.messages) for run in runs] == [["line"], [], [], ["line"]]
    assert capsys.readouterr().out == "line\n" * 4


def test_print_error_stack_trace_prints_the_traceback_once(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, once for an exception that passes a task and a flow."""

    @task
    def fails() -> None:
        raise ValueError("no")

    @flow(flow_config=FlowRunConfig(print_error_stack_trace=True, raise_flow_error=False))
    def failing() -> None:
        fails()

    failing().execute()
    assert capsys.readouterr().err.count("ValueError: no\n") == 1


def test_max_messages_and_max_tasks_keep_the_newest(captured: Capture) -> None:
    """The number of dropped ones is on the span."""

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
    ("fields", "error", "message"),
    [
        (
            {"raise_flow_eror": False},
            ArgumentError,
            "has no argument 'raise_flow_eror'. Did you mean 'raise_flow_error'?",
        ),
        (
            {"log_level": "LOUD"},
            ConfigError,
            "log_level must be a number, at least 0, or one of DEBUG, INFO, WARNING, ERROR, CRITICAL; got 'LOUD'.",
        ),
        ({"print_logs": "yes"}, ConfigError, "print_logs must be True or False; got 'yes'."),
        ({"max_tasks": -1}, ConfigError, "max_tasks must be a whole number, at least 0; got -1."),
    ],
)
def test_an_invalid_setting_is_an_error(fields: dict[str, Any], error: type[Exception], message: str) -> None:
    """The error has the name, the value and the valid values."""
    with pytest.raises(error, match=re.escape(message)):
        FlowRunConfig(**fields)


def test_a_config_is_immutable() -> None:
    """Several flows may share one object."""
    with pytest.raises(AttributeError):
        FlowRunConfig().print_logs = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("OTELFLOW_QUEUE_BYTES", "lots", "must be a whole number, at least 1; got 'lots'. Using 256000000."),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "must be a whole number, at least 1; got '0'. Using 512."),
        ("OTEL_BSP_SCHEDULE_DELAY", "inf", "must be a number, at least 1; got 'inf'. Using 5000."),
    ],
)
def test_the_log_names_the_wrong_value_and_the_value_in_use(
    variable: str, text: str, message: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The number in use is written in full."""
    monkeypatch.setenv(variable, text)
    queue_settings()
    assert [record.getMessage() for record in caplog.records] == [f"{variable} {message}"]


def test_a_batch_size_that_is_not_set_is_the_exporters_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter of otelflow sends larger batches if many spans wait; a number in the environment is a limit."""
    monkeypatch.delenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", raising=False)
    assert queue_settings()["batch_size"] is None
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")
    assert queue_settings()["batch_size"] == 64
