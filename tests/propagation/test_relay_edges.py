"""Edge cases of worker results: objects that cannot be pickled, races, and unusual providers."""

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
    """Log a message with an attribute that cannot be pickled."""
    this_task.log_info("locked", lock=threading.Lock(), number=3)
    return 1


class Locked(Exception):
    """An exception that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


@task
def raises_locked() -> None:
    """Raise an exception that cannot be pickled."""
    raise Locked


def raises_large() -> None:
    """Not decorated. Raise an exception that is larger than the bound for task exceptions."""
    raise ValueError("x" * (2 << 20))


def plain(number: int) -> int:
    """A function that is not decorated itself."""
    return number


renamed = task(name="renamed")(plain)


class Shop:
    """A class whose methods are jobs."""

    @task
    @classmethod
    def of_class(cls, number: int) -> int:
        """The task decorator is above classmethod."""
        return number

    @staticmethod
    @task
    def static(number: int) -> int:
        """The task decorator is below staticmethod."""
        return number


def slow_step(number: int) -> int:
    """Give the submitter time, then run a step."""
    time.sleep(0.3)
    return pool_work.step(number)


# --- tests ----------------------------------------------------------------------------------------------------------


def test_a_message_with_an_attribute_that_cannot_be_pickled(pool: Executor, captured: Capture) -> None:
    """Its form on the span event is sent, and the job's result arrives."""
    assert one(pool, says_a_lock).execute().return_value == 1
    (message,) = captured.task("says_a_lock").messages
    assert message.attributes["number"] == 3
    assert "lock" in message.attributes["lock"]


def test_an_exception_that_cannot_be_pickled(pool: Executor, captured: Capture) -> None:
    """A WorkerError replaces it. The job's events arrive, and the pool goes on."""
    run = quiet(pool, raises_locked).execute()
    assert isinstance(run.error, WorkerError)
    assert str(run.error) == f"{__name__}.Locked: locked"
    assert captured.task("raises_locked").error == f"{__name__}.Locked: locked"
    assert "raise Locked" in str(run.error.__cause__)
    assert one(pool, plain, 3).execute().return_value == 3


def test_a_large_error_of_the_job_arrives_complete(pool: Executor) -> None:
    """The pool would have returned it anyway."""
    with pytest.raises(ValueError, match="x") as caught:
        one(pool, raises_large).execute()
    assert len(str(caught.value)) == 2 << 20


def test_a_future_cannot_be_cancelled_during_the_replay(pool: Executor) -> None:
    """It is too late: the caller gets the result."""
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
    """It calls tasks while the report is written. The result arrives."""
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


def test_a_decorated_function_is_pickled_by_its_own_name() -> None:
    """A task may have another name. As with plain functions, pickling fails if the name leads to another object."""

    @task
    def local() -> None: ...

    assert pickle.loads(pickle.dumps(renamed)) is renamed
    assert pickle.loads(pickle.dumps(Shop.of_class))(1) == 1
    assert pickle.loads(pickle.dumps(Shop.static))(1) == 1
    with pytest.raises(pickle.PicklingError, match="does not have it under that name"):
        pickle.dumps(local)


def test_a_sampler_that_cannot_be_hashed(pool: Executor) -> None:
    """It cannot be pickled either. Spans are still made."""

    class UnhashableSampler(Sampler):
        __hash__ = None  # type: ignore[assignment]

        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            return ALWAYS_ON.should_sample(*args, **kwargs)

        def get_description(self) -> str:
            return "mine"

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=UnhashableSampler(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        one(pool, pool_work.outer, 1).execute()
    assert sorted(span.name for span in exporter.get_finished_spans()) == ["one", "outer", "step"]


def test_a_copy_of_a_bound_function_is_the_same_object() -> None:
    """It is not a copy of the function inside."""
    bound = bind(pool_work.step)
    assert copy.deepcopy(bound) is copy.copy(bound) is bound
