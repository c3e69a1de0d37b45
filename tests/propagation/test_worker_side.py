"""What a worker records of its job: which error belongs to which run, what comes too late, and how spans are made."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import pool_work
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pickling import one

from otelflow import FlowRunConfig, flow, stats, task
from otelflow._propagation.recorder import Recorder
from otelflow._spans.tracer import use_provider
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("counted_from_zero")


@task
def completes() -> int:
    """Ends well."""
    return 1


@task(raise_on_error=False)
def fails_alone() -> None:
    """Fails, and the job goes on."""
    raise KeyError("alone")


@task
def ends_the_job() -> None:
    """Fails, and the job with it."""
    raise LookupError("the job's")


def several_ends() -> None:
    """A job that raises after other runs have ended, each in its own way."""
    completes()
    fails_alone()
    ends_the_job()


def test_each_run_of_a_job_that_raises_keeps_its_own_error(pool: Executor, captured: Capture) -> None:
    """The job's exception travels once; only the run that it ended gets it."""
    run = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)(pool, several_ends).execute()
    assert [(each.name, each.status, repr(each.error)) for each in run.tasks] == [
        ("completes", "completed", "None"),
        ("fails_alone", "failed", "KeyError('alone')"),
        ("ends_the_job", "failed", 'LookupError("the job\'s")'),
    ]
    assert run.tasks[2].error is run.error
    assert [captured.task(name).error for name in ("completes", "fails_alone", "ends_the_job")] == [
        None,
        "KeyError: 'alone'",
        "LookupError: the job's",
    ]


finished: list[Any] = []


@task
def remembers_itself(this_task: Any = None) -> None:
    """Is still there when it has ended."""
    finished.append(this_task)


def speaks_late() -> None:
    """A job that uses a task after its end."""
    remembers_itself()
    finished.pop().log_info("too late")


def test_a_message_after_the_end_of_its_run_in_a_worker(pool: Executor, captured: Capture) -> None:
    """It is counted, and nowhere to be seen."""
    run = one(pool, speaks_late).execute()
    assert (run.messages, captured.task("remembers_itself").messages) == ([], [])
    assert stats().dropped == {"messages_after_end": 1}


def test_a_recorder_takes_nothing_for_a_run_that_has_ended() -> None:
    """A thread that the job left behind may speak for it: START, STOP, and nothing behind STOP."""

    class Run:
        _number, _is_flow, name, _origin, _started_ns, _span_context = 7, False, "ended", ("source",), 1, None
        run_id, _flow, return_value, error, _ended_ns, status = "task_7", None, None, None, 2, "completed"

    recorder = Recorder(None)
    recorder.record_start(Run)
    recorder.record_stop(Run)
    recorder.record_event(Run, "message", 3, "source", (20, "text", None))
    recorder.record_stop(Run)
    assert len(recorder.finish(None, None).entries) == 2


def test_a_span_from_a_worker_below_that_comes_after_the_job() -> None:
    """Its own way back is closed already: it is counted, and not in the report."""
    recorder = Recorder(None)
    recorder.record_worker_span(("in time",))
    report = recorder.finish(None, None)
    recorder.record_worker_span(("too late",))
    assert report.spans == [("in time",)]
    assert recorder.finish(None, None).drop_counts == {"after_job": 1}


@pytest.mark.parametrize("kind", ["spawn"])
def test_a_worker_whose_sdk_is_disabled(kind: str, monkeypatch: pytest.MonkeyPatch, captured: Capture) -> None:
    """Whether there are spans was decided in the process that submits: all come back."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pool_work.pool_of(kind, workers=1) as pool:
        assert one(pool, pool_work.outer, 1).execute().return_value == 1
    captured.assert_tree("one\n  outer\n    step")
    assert captured.task("step").span_id != "0" * 16


@task
def sets_many_attributes() -> None:
    """On the span that is current in the worker, by the API; one more than the SDK's default takes."""
    for number in range(129):
        trace.get_current_span().set_attribute(f"key {number}", number)


def test_a_worker_keeps_the_limits_of_the_submitting_provider(pool: Executor) -> None:
    """Where these allow more than the SDK's defaults, nothing is dropped in the worker."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=1000), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        one(pool, sets_many_attributes).execute()
    (span,) = (span for span in exporter.get_finished_spans() if span.name == "sets_many_attributes")
    assert [(span.attributes or {}).get(f"key {number}") for number in range(129)] == list(range(129))
