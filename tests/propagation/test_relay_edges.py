"""What comes back from a worker on a bad day: things that do not pickle, that race, that others set up in their way."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from concurrent.futures import Executor, Future, wait
from typing import Any

import pool_work
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from pickling import one, quiet

from otelflow import FlowRunEvent, flow, flow_events, task
from otelflow._spans.tracer import use_provider
from otelflow.errors import WorkerError
from otelflow.propagate import bind
from otelflow.testing import Capture

pytestmark = pytest.mark.usefixtures("counted_from_zero")

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
