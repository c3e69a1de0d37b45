"""What comes back from a worker on a bad day: things that do not pickle, that race, that others set up in their way."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, wait
from typing import Any

import pool_work
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from pickling import Pickling, one
from pool_programs import program

from otelflow import FlowRunConfig, FlowRunEvent, current_task, flow, flow_events, stats, task
from otelflow._runtime.drop_counts import counts
from otelflow._spans.tracer import use_provider
from otelflow.errors import WorkerError
from otelflow.propagate import attached, bind, inject, propagating
from otelflow.testing import Capture


@pytest.fixture
def pool() -> Iterator[Executor]:
    """A propagating executor that pickles."""
    with propagating(Pickling()) as made:
        yield made


@pytest.fixture(autouse=True)
def counted_from_zero() -> None:
    """Each test counts its own losses."""
    counts.clear()


quiet = flow(flow_config=FlowRunConfig(raise_flow_error=False))(one.__wrapped__)

# --- jobs -----------------------------------------------------------------------------------------------------------


@task
def says_a_lock(this_task: Any = None) -> int:
    """A message attribute that cannot be pickled."""
    this_task.log_info("locked", lock=threading.Lock(), number=3)
    return 1


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


@task
def raises_locked() -> None:
    """Fails with it."""
    raise Locked


def raises_large() -> None:
    """Not decorated, and its exception is larger than what travels twice."""
    raise ValueError("x" * (2 << 20))


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


def plain(number: int) -> int:
    """Not decorated itself."""
    return number


renamed = task(name="renamed")(plain)


class Shop:
    """Methods that are jobs."""

    @task
    @classmethod
    def of_class(cls, number: int) -> int:
        """Decorated above."""
        return number

    @staticmethod
    @task
    def static(number: int) -> int:
        """Decorated below."""
        return number


def slow_step(number: int) -> int:
    """Gives the submitter time."""
    time.sleep(0.3)
    return pool_work.step(number)


# --- nothing breaks -------------------------------------------------------------------------------------------------


def test_a_message_with_anything_in_its_attributes(pool: Executor, captured: Capture) -> None:
    """What its span event shows travels; the job's result is there."""
    assert one(pool, says_a_lock).execute().return_value == 1
    (message,) = captured.task("says_a_lock").messages
    assert message.attributes["number"] == 3
    assert "lock" in message.attributes["lock"]


def test_an_exception_that_cannot_be_pickled(pool: Executor, captured: Capture) -> None:
    """Something stands for it; what the job did is there, and the pool lives."""
    run = quiet(pool, raises_locked).execute()
    assert isinstance(run.error, WorkerError)
    assert str(run.error) == f"{__name__}.Locked: locked"
    assert captured.task("raises_locked").error == f"{__name__}.Locked: locked"
    assert "raise Locked" in str(run.error.__cause__)
    assert one(pool, plain, 3).execute().return_value == 3


def test_a_large_error_of_the_job_arrives_whole(pool: Executor) -> None:
    """It is what the pool would have handed over anyway."""
    with pytest.raises(ValueError, match="x") as caught:
        one(pool, raises_large).execute()
    assert len(str(caught.value)) == 2 << 20


def test_a_future_that_is_cancelled_while_it_lands(pool: Executor) -> None:
    """It is too late: who waits gets the result."""
    futures: list[Future[Any]] = []
    cancelled: list[bool] = []

    def listener(event: FlowRunEvent) -> None:
        if event.event_data.task_name == "step":
            cancelled.append(futures[0].cancel())

    @flow
    def submits() -> Any:
        futures.append(pool.submit(slow_step, 1))
        return wait(futures, 20)

    with flow_events.listen(listener):
        run: Any = submits().execute()
    assert run.return_value.not_done == set()
    assert futures[0].result() == 1
    assert set(cancelled) == {False}


def test_a_thread_that_the_job_leaves_running(pool: Executor, captured: Capture) -> None:
    """It goes on with tasks while the report is made: the result is there all the same."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def leaves() -> Any:
        def loop() -> None:
            while not stop.is_set():
                pool_work.outer.__wrapped__(1)

        threads.append(threading.Thread(target=bind(loop)))
        threads[-1].start()
        return "done"

    globals()["leaves"] = leaves
    leaves.__qualname__ = "leaves"
    try:
        for _ in range(20):
            assert one(pool, leaves).execute().return_value == "done"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        del globals()["leaves"]
        captured.clear()


def test_a_decorated_function_is_pickled_under_a_name_of_its_own() -> None:
    """Under another name if it has one; not at all where its name leads to something else, as plain functions."""

    @task
    def local() -> None: ...

    assert pickle.loads(pickle.dumps(renamed)) is renamed
    assert pickle.loads(pickle.dumps(Shop.of_class))(1) == 1
    assert pickle.loads(pickle.dumps(Shop.static))(1) == 1
    with pytest.raises(pickle.PicklingError, match="not found under that name"):
        pickle.dumps(local)


def test_a_sampler_that_cannot_be_hashed(pool: Executor) -> None:
    """Nor pickled: spans are made all the same."""

    class Mine(Sampler):
        __hash__ = None  # type: ignore[assignment]

        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            return ALWAYS_ON.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return "mine"

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=Mine(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        one(pool, pool_work.outer, 1).execute()
    assert sorted(span.name for span in exporter.get_finished_spans()) == ["one", "outer", "step"]


def test_a_bound_function_is_copied_as_one() -> None:
    """Not as the function inside it."""
    bound = bind(pool_work.step)
    assert copy.deepcopy(bound) is copy.copy(bound) is bound


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
