"""The exported spans of flows and tasks: names, parents, attributes, events, status and links."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from conftest import texts
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

import otelflow
from otelflow import FlowRunConfig, flow, task
from otelflow._spans.tracer import use_provider
from otelflow.testing import Capture


@task
def step(value: int) -> int:
    """A task of this module."""
    return value


@flow
def outer() -> int:
    """A flow of this module."""
    return step(1)


def test_a_flow_span(captured: Capture) -> None:
    """A flow is a root span with its name, kind INTERNAL, otelflow's scope and version, and the flow's attributes."""
    run = outer().execute()
    span = captured.flow("outer").span
    assert span.parent is None
    assert span.kind is SpanKind.INTERNAL
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("otelflow", otelflow.__version__)
    assert dict(span.attributes or {}) == {
        "otelflow.kind": "flow",
        "otelflow.flow.name": "outer",
        "otelflow.flow.run_id": run.run_id,
        "code.function.name": f"{__name__}.outer",
        "otelflow.status": "completed",
        "otelflow.flow.tasks": 1,
        "otelflow.flow.tasks_failed": 0,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_task_span(captured: Capture) -> None:
    """A task is a child span that carries its own identity and its flow's."""
    run = outer().execute()
    captured.assert_tree("outer\n  step")
    assert captured.task("step").attributes == {
        "otelflow.kind": "task",
        "otelflow.task.name": "step",
        "otelflow.task.run_id": run.tasks[0].run_id,
        "otelflow.flow.name": "outer",
        "otelflow.flow.run_id": run.run_id,
        "code.function.name": f"{__name__}.step",
        "otelflow.status": "completed",
    }


def test_the_objects_know_their_spans(captured: Capture) -> None:
    """trace_id and span_id are the exported span's, as hex, and durations agree to the nanosecond."""
    run = outer().execute()
    for run_object in (run, run.tasks[0]):
        span = captured.span(run_object.name)
        expected = (span.trace_id, span.span_id, span.duration)
        assert (run_object.trace_id, run_object.span_id, run_object.duration) == expected


def test_given_names_and_attributes(captured: Capture) -> None:
    """Names and attributes of the decorators are on the spans from their start."""

    @task(name="load rows", attributes={"rows": 3, "ok": True, "tags": ["a", "b"], "more": {"x": 1}})
    def load() -> None:
        pass

    @flow(name="nightly", attributes={"team": "data"})
    def run() -> None:
        load()

    run().execute()
    attributes = captured.task("load rows").attributes
    custom = {key: attributes[key] for key in ("rows", "ok", "tags", "more")}
    assert custom == {"rows": 3, "ok": True, "tags": ("a", "b"), "more": '{"x": 1}'}
    assert captured.flow("nightly").attributes["team"] == "data"


def test_events_are_on_the_object_that_was_called(captured: Capture) -> None:
    """this_flow adds events to the root span and this_task to the task's, wherever they are called."""

    @task
    def speak(this_task: Any = None, this_flow: Any = None) -> None:
        this_task.log_warning("own", attempt=2)
        this_flow.log_info("flow's")
        this_task.add_artifact("Rows", "rows", {"count": 2}, "json")
        this_task.add_result("total", "2 rows")

    @flow
    def speaking() -> None:
        speak()

    speaking().execute()
    message, artifact, result = captured.task("speak").events
    assert (message.name, dict(message.attributes or {})) == (
        "otelflow.message",
        {"otelflow.message.text": "own", "otelflow.message.severity": "WARNING", "attempt": 2},
    )
    assert next(iter(message.attributes or {})) == "otelflow.message.text"
    attributes = dict(artifact.attributes or {})
    assert artifact.name == "otelflow.artifact"
    assert (attributes["otelflow.artifact.key"], attributes["otelflow.artifact.type"]) == ("rows", "json")
    assert attributes["otelflow.artifact.description"] == "Rows"
    assert json.loads(str(attributes["otelflow.artifact.data"])) == {"count": 2}
    assert attributes["otelflow.artifact.size"] == len('{"count": 2}')
    assert (result.name, dict(result.attributes or {})) == (
        "otelflow.result",
        {"otelflow.result.key": "total", "otelflow.result.description": "2 rows"},
    )
    assert captured.flow("speaking").messages == ["flow's"]


def test_a_failure_is_recorded_once_at_its_origin(captured: Capture) -> None:
    """Every span that an exception passed has status ERROR and its type; only the innermost has the exception event."""

    @task
    def inner() -> None:
        raise LookupError("not here")

    @task
    def middle() -> None:
        inner()

    @flow
    def failing() -> None:
        middle()

    with pytest.raises(LookupError):
        failing().execute()
    for run in captured.spans:
        assert run.span.status.status_code is StatusCode.ERROR
        assert run.span.status.description == "LookupError: not here"
        assert run.attributes["error.type"] == "LookupError"
        assert run.attributes["otelflow.status"] == "failed"
    assert [(run.name, [event.name for event in run.events]) for run in captured.spans] == [
        ("failing", []),
        ("middle", []),
        ("inner", ["exception", "otelflow.message"]),
    ]
    exception, message = captured.task("inner").events
    attributes = dict(exception.attributes or {})
    assert (attributes["exception.type"], attributes["exception.message"]) == ("LookupError", "not here")
    assert 'raise LookupError("not here")' in str(attributes["exception.stacktrace"])
    assert dict(message.attributes or {})["otelflow.message.text"] == "Error executing 'inner' task: not here"


def test_the_same_exception_in_a_second_run_is_recorded_again(captured: Capture) -> None:
    """An exception is recorded once for each propagation, not once for each object."""
    error = OSError("disk full")

    @task
    def save() -> None:
        raise error

    @flow
    def twice() -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="disk full"):
                save()

    twice().execute()
    recorded = [[event.name for event in run.events if event.name == "exception"] for run in captured.tasks]
    assert recorded == [["exception"], ["exception"]]


def test_an_error_type_outside_the_builtins_is_qualified(captured: Capture) -> None:
    """error.type is the fully qualified name of the class."""

    class Refused(Exception):
        pass

    @task
    def refuse() -> None:
        raise Refused

    with pytest.raises(Refused):
        refuse()
    assert captured.task("refuse").attributes["error.type"] == f"{__name__}.{Refused.__qualname__}"


def test_a_nested_flow_is_a_child_span(captured: Capture) -> None:
    """A flow inside a flow is in the same trace, and has its own tasks."""

    @flow
    def around() -> Any:
        return outer().execute()

    run = around().execute()
    captured.assert_tree("around\n  outer\n    step")
    assert run.tasks == []
    assert [task_run.name for task_run in run.return_value.tasks] == ["step"]


def test_a_flow_below_a_request_is_its_child(captured: Capture) -> None:
    """Inside a foreign span, the flow is its child. A task's span can be the parent of a foreign span."""
    tracer = trace.get_tracer("web")

    @task
    def queries() -> None:
        with tracer.start_as_current_span("SELECT"):
            step(1)

    @flow
    def handle() -> None:
        queries()

    with tracer.start_as_current_span("GET /"):
        handle().execute()
    captured.assert_tree("""
        GET /
          handle
            queries
              SELECT
                step  {otelflow.flow.name=handle}
    """)


def test_a_new_trace_is_linked_both_ways(captured: Capture) -> None:
    """``new_trace=True`` starts a new trace, with links from and to the span that was current."""

    @flow(new_trace=True)
    def apart() -> None:
        step(1)

    @flow
    def caller() -> None:
        apart().execute()

    caller().execute()
    captured.assert_tree("caller\napart\n  step")
    above, below = captured.flow("caller"), captured.flow("apart")
    assert below.span.parent is None
    assert below.trace_id != above.trace_id
    assert [link.context for link in below.links] == [above.span.context]
    assert [link.context for link in above.links] == [below.span.context]


def test_an_orphan_task_is_an_ordinary_span(captured: Capture) -> None:
    """A task outside any flow runs, and its span says that it is an orphan."""
    assert step(7) == 7
    attributes = captured.task("step").attributes
    assert attributes["otelflow.task.orphan"] is True
    assert "otelflow.flow.name" not in attributes


def test_sampled_out_runs_work_the_same(captured: Capture) -> None:
    """Values, events, memory and ids are the same; no span is recorded."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        run = outer().execute()
    assert run.return_value == 1
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]
    assert run.trace_id == run.tasks[0].trace_id
    assert run.span_id != run.tasks[0].span_id
    assert exporter.get_finished_spans() == ()


def test_without_an_sdk_runs_work_the_same(captured: Capture) -> None:
    """With the API alone there are no spans and no ids; everything else is the same."""
    with use_provider(trace.NoOpTracerProvider()):
        run = outer().execute()
    assert run.return_value == 1
    assert texts(captured.events) == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]
    assert (run.trace_id, run.span_id) == (None, None)
    assert captured.events[0].event_data.trace_id is None


def test_a_flow_below_an_unsampled_remote_parent_is_not_sampled() -> None:
    """The flow and its tasks are not exported; they are in the caller's trace."""
    context = trace.SpanContext(random.getrandbits(128), random.getrandbits(64), True, trace.TraceFlags(0))
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider), trace.use_span(trace.NonRecordingSpan(context)):
        run = outer().execute()
    assert exporter.get_finished_spans() == ()
    assert run.trace_id == f"{context.trace_id:032x}"


def test_suppressed_instrumentation_makes_no_spans(captured: Capture) -> None:
    """Tasks that run inside an exporter leave no spans: these would be exported again."""
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    try:
        assert outer().execute().return_value == 1
    finally:
        detach(token)
    assert captured.spans == []


def test_dropped_events_are_counted_on_the_span(captured: Capture) -> None:
    """A span keeps 128 events; one of these marks the gap. The span and the stats have the number of missing events."""
    before = otelflow.stats().dropped.get("events_over_span_limit", 0)

    @flow(flow_config=FlowRunConfig(max_messages=50))
    def talks(this_flow: Any = None) -> None:
        for number in range(200):
            this_flow.log_info(f"line {number}")

    run = talks().execute()
    attributes = captured.flow("talks").attributes
    assert attributes["otelflow.dropped.events"] == 73
    assert attributes["otelflow.dropped.messages"] == 150
    assert otelflow.stats().dropped["events_over_span_limit"] == before + 73
    assert run.messages == [f"line {number}" for number in range(150, 200)]
