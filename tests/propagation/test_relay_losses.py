"""Events of a worker arrive in the flow, or are counted. Engines may retry and await jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import pool_work
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pickling import one, quiet
from pool_programs import program

from otelflow import FlowRunConfig, FlowRunEvent, current_task, flow, flow_events, stats, task
from otelflow._spans.tracer import use_provider
from otelflow.propagate import attached, bind, inject, propagating
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("counted_from_zero")


@task
def nests_flow() -> None:
    """Run a flow in a new trace, and one that prints its messages."""
    apart().execute()
    loud().execute()


@flow(new_trace=True)
def apart() -> None:
    """A flow that is not in the submitter's trace."""


@flow(flow_config=FlowRunConfig(log_to_console=True))
def loud(this_flow: Any = None) -> None:
    """Log a message that is printed."""
    this_flow.log_info("aloud")


def starts_apart() -> None:
    """Run the flow directly, with no task between it and the job."""
    apart().execute()


@task
def attaches(carrier: dict[str, str], this_flow: Any = None) -> bool:
    """Attach headers in a job."""
    with attached(carrier) as handle:
        pool_work.step(7)
        return handle is this_flow


def prints_without_end() -> None:
    """Print without a line end."""
    print("100 %", end="")


# --- every loss is counted ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bound", "headers"])
def test_another_way_to_carry_the_flow_within_a_job(pool: Executor, captured: Capture, how: str) -> None:
    """Bound functions and headers lead back to the flow, too."""

    @flow
    def submits() -> Any:
        if how == "bound":
            return pool.submit(bind(pool_work.step), 7).result(20)
        return pool.submit(attaches, inject()).result(20)

    run = submits().execute()
    assert run.return_value == (7 if how == "bound" else True)
    assert run.messages == ["step 7", "flow hears of 7"]
    captured.assert_tree("submits\n  step" if how == "bound" else "submits\n  attaches\n  step")


def test_headers_of_another_flow_within_a_job(pool: Executor, captured: Capture) -> None:
    """Its tasks come back, in its trace. Its messages are on their spans."""
    other = flow(inject)().execute()
    captured.clear()
    one(pool, attaches, other.return_value).execute()
    step = captured.task("step")
    assert step.trace_id == other.trace_id
    assert step.attributes["otelflow.flow.run_id"] == other.run_id
    texts = [(event.attributes or {}).get("otelflow.message.text") for event in step.events]
    assert "flow hears of 7" in texts


def test_processors_see_a_span_begin_and_end(pool: Executor) -> None:
    """One writes at the start, one pairs start and end, and the limits of this process apply."""
    seen: list[str] = []

    class Pairs(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            span.set_attribute("stamped", trace.get_current_span(parent_context).get_span_context().is_valid)
            seen.append(f"+{span.name}")

        def on_end(self, span: Any) -> None:
            seen.remove(f"+{span.name}")

    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_events=2))
    provider.add_span_processor(Pairs())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        one(pool, pool_work.many).execute()
    assert seen == []
    (span_of_many,) = [span for span in exporter.get_finished_spans() if span.name == "many"]
    attributes = dict(span_of_many.attributes or {})
    assert (attributes["stamped"], attributes["otelflow.dropped.events"]) == (True, 199)
    assert (len(span_of_many.events), span_of_many.dropped_events) == (2, 0)


def test_drops_in_a_worker_are_counted_in_the_submitting_process() -> None:
    """The counts are as if the drops had happened there."""
    done = program("""
        provide()
        from pickling import one
        with pool_of("spawn") as pool:
            one(pool, many).execute()
        say(dropped=stats().dropped)
        """)
    assert done.facts["dropped"] == {"events_over_span_limit": 74, "values_not_relayed": 1}


def test_a_forked_process_that_submits() -> None:
    """Events of workers reach the flow even if the submitter itself was forked."""
    done = program("""
        import os
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        else:
            provide()
            from pickling import one
            with pool_of("spawn") as pool:
                run = one(pool, step, 1).execute()
            say(messages=run.messages, results=len(run.results), dropped=stats().dropped)
        """)
    assert done.facts == {"messages": ["step 1", "flow hears of 1"], "results": 1, "dropped": {}}


def test_an_unfinished_line_of_a_job_is_a_message(pool: Executor) -> None:
    """It was printed without a line end."""
    assert one(pool, prints_without_end).execute().messages == ["100 %"]


def test_flows_in_a_job(pool: Executor, captured: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    """A flow that prints does so where it runs. A flow in a new trace is linked both ways."""
    one(pool, nests_flow).execute()
    assert "| INFO     | aloud" in capsys.readouterr().out
    captured.clear()
    one(pool, starts_apart).execute()
    above, below = captured.flow("one"), captured.flow("apart")
    assert above.trace_id != below.trace_id
    assert [link.context.span_id for link in above.links] == [int(below.span_id, 16)]
    assert [link.context.span_id for link in below.links] == [int(above.span_id, 16)]


def test_a_listener_sees_the_current_run(pool: Executor) -> None:
    """The current run is the one that sent the event, as in its worker."""
    matches: list[Any] = []

    def listener(event: FlowRunEvent) -> None:
        if event.event_data.task_name == "step":
            current = current_task()
            matches.append(current is not None and current.run_id == event.event_data.task_run_id)

    with flow_events.listen(listener):
        one(pool, pool_work.outer, 1).execute()
    assert set(matches) == {True}


def test_an_executor_that_runs_jobs_in_this_process() -> None:
    """The job's own exceptions are raised, and no loss is counted. ``with`` enters the executor itself."""
    calls: list[str] = []

    class InlineExecutor(Executor):
        def __enter__(self) -> InlineExecutor:
            calls.append("in")
            return self

        def __exit__(self, *_: Any) -> None:
            calls.append("out")

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future

    with propagating(InlineExecutor()) as pool:
        assert isinstance(quiet(pool, pool_work.fails, 1).execute().error, LookupError)
    assert calls == ["in", "out"]
    assert stats().dropped == {}


# --- engines --------------------------------------------------------------------------------------------------------


def test_dask_retries_and_awaits_jobs() -> None:
    """Dask sees a failure if a job raises. It awaits coroutine functions."""
    done = program("""
        provide()
        import pathlib, tempfile
        with pool_of("dask") as pool, tempfile.TemporaryDirectory() as folder:
            @flow
            def whole():
                return pool.submit(tries, folder, retries=3).result(60), pool.submit(waits, 4).result(60)
            run = whole().execute()
        say(value=run.return_value, tree=tree_of(exporter.get_finished_spans()))
        """)
    assert done.facts["value"] == [3, 4]
    assert done.facts["tree"] == [["whole", "completed", [["tries", "completed", []], ["waits", "completed", []]]]]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_groups_and_notes_in_a_workers_traceback(pool: Executor) -> None:
    """They are in the text of the cause; the rest of the traceback does not come back."""
    error = quiet(pool, raises_group).execute().error
    assert error is not None
    text = str(error.__cause__)
    assert "a note" in text
    assert "  | ValueError: first" in text
    assert "  | KeyError: 'second'" in text


def raises_group() -> None:
    """Raise two exceptions in a group with a note."""
    group = ExceptionGroup("both", [ValueError("first"), KeyError("second")])  # noqa: F821  # of Python 3.11
    group.add_note("a note")
    raise group
