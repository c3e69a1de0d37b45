"""What a worker says arrives in the flow, or is counted; what engines do to its jobs."""

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
    """A flow in a trace of its own, and one that prints what it says."""
    apart().execute()
    loud().execute()


@flow(new_trace=True)
def apart() -> None:
    """Not in the submitter's trace."""


@flow(flow_config=FlowRunConfig(log_to_console=True))
def loud(this_flow: Any = None) -> None:
    """Says something aloud."""
    this_flow.log_info("aloud")


def starts_apart() -> None:
    """No task between the job and the flow."""
    apart().execute()


@task
def attaches(carrier: dict[str, str], this_flow: Any = None) -> bool:
    """Goes by headers in a job."""
    with attached(carrier) as handle:
        pool_work.step(7)
        return handle is this_flow


def prints_without_end() -> None:
    """No line end."""
    print("100 %", end="")


# --- nothing is lost in silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bound", "headers"])
def test_another_way_to_carry_the_flow_within_a_job(pool: Executor, captured: Capture, how: str) -> None:
    """It leads back, too."""

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
    """Its tasks come back, in its trace; what it is told is on their spans."""
    other = flow(inject)().execute()
    captured.clear()
    one(pool, attaches, other.return_value).execute()
    step = captured.task("step")
    assert step.trace_id == other.trace_id
    assert step.attributes["otelflow.flow.run_id"] == other.run_id
    texts = [(event.attributes or {}).get("otelflow.message.text") for event in step.events]
    assert "flow hears of 7" in texts


def test_processors_see_a_span_begin_and_end(pool: Executor) -> None:
    """As any other: one that writes at the start, one that pairs both, and the limits of this process."""
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
    (made,) = [span for span in exporter.get_finished_spans() if span.name == "many"]
    attributes = dict(made.attributes or {})
    assert (attributes["stamped"], attributes["otelflow.dropped.events"]) == (True, 199)
    assert (len(made.events), made.dropped_events) == (2, 0)


def test_what_a_worker_leaves_out_is_counted_here() -> None:
    """In the process that submits, as if it had been left out there."""
    done = program("""
        provide()
        from pickling import one
        with pool_of("spawn") as pool:
            one(pool, many).execute()
        say(dropped=stats().dropped)
        """)
    assert done.said["dropped"] == {"events_over_span_limit": 74, "values_not_relayed": 1}


def test_a_forked_process_that_submits() -> None:
    """What workers say reaches the flow, also where the submitter was forked itself."""
    done = program("""
        import os
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        else:
            provide()
            from pickling import one
            with pool_of("spawn") as pool:
                made = one(pool, step, 1).execute()
            say(messages=made.messages, results=len(made.results), dropped=stats().dropped)
        """)
    assert done.said == {"messages": ["step 1", "flow hears of 1"], "results": 1, "dropped": {}}


def test_a_jobs_own_last_line(pool: Executor) -> None:
    """Printed without a line end, it is a message of the flow."""
    assert one(pool, prints_without_end).execute().messages == ["100 %"]


def test_flows_in_a_job(pool: Executor, captured: Capture, capsys: pytest.CaptureFixture[str]) -> None:
    """One that prints does so where it runs; one in a trace of its own is linked both ways."""
    one(pool, nests_flow).execute()
    assert "| INFO     | aloud" in capsys.readouterr().out
    captured.clear()
    one(pool, starts_apart).execute()
    above, below = captured.flow("one"), captured.flow("apart")
    assert above.trace_id != below.trace_id
    assert [link.context.span_id for link in above.links] == [int(below.span_id, 16)]
    assert [link.context.span_id for link in below.links] == [int(above.span_id, 16)]


def test_a_listener_asks_what_is_current(pool: Executor) -> None:
    """The run that the event is of, as it was where it ran."""
    asked: list[Any] = []

    def listener(event: FlowRunEvent) -> None:
        if event.event_data.task_name == "step":
            made = current_task()
            asked.append(made is not None and made.run_id == event.event_data.task_run_id)

    with flow_events.listen(listener):
        one(pool, pool_work.outer, 1).execute()
    assert set(asked) == {True}


def test_an_executor_that_runs_jobs_here() -> None:
    """Its exceptions are the job's own, and no loss; ``with`` is the executor's own."""
    entered: list[str] = []

    class Here(Executor):
        def __enter__(self) -> Here:
            entered.append("in")
            return self

        def __exit__(self, *_: Any) -> None:
            entered.append("out")

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future

    with propagating(Here()) as pool:
        assert isinstance(quiet(pool, pool_work.fails, 1).execute().error, LookupError)
    assert entered == ["in", "out"]
    assert stats().dropped == {}


# --- engines --------------------------------------------------------------------------------------------------------


def test_dask_tries_again_and_awaits() -> None:
    """A job that raises is a failure to Dask as well; coroutine functions are awaited there."""
    done = program("""
        provide()
        import pathlib, tempfile
        with pool_of("dask") as pool, tempfile.TemporaryDirectory() as folder:
            @flow
            def whole():
                return pool.submit(tries, folder, retries=3).result(60), pool.submit(waits, 4).result(60)
            made = whole().execute()
        say(value=made.return_value, tree=tree_of(exporter.get_finished_spans()))
        """)
    assert done.said["value"] == [3, 4]
    assert done.said["tree"] == [["whole", "completed", [["tries", "completed", []], ["waits", "completed", []]]]]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")
def test_groups_and_notes_in_a_workers_traceback(pool: Executor) -> None:
    """They are in the text that is the cause: nothing else of the traceback comes back."""
    error = quiet(pool, raises_group).execute().error
    assert error is not None
    text = str(error.__cause__)
    assert "a note" in text
    assert "  | ValueError: first" in text
    assert "  | KeyError: 'second'" in text


def raises_group() -> None:
    """Two at once, with a note."""
    group = ExceptionGroup("both", [ValueError("first"), KeyError("second")])  # noqa: F821  # of Python 3.11
    group.add_note("a note")
    raise group
