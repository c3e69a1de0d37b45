"""How runs begin and end: in each shape of callable, and with each kind of end."""

from __future__ import annotations

import asyncio
import functools
import gc
import pickle
import sys
import threading
import traceback
import warnings
import weakref
from copy import copy, deepcopy
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import Any

import pytest
from conftest import texts
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from otelflow import Flow, FlowRunConfig, Task, current_flow, current_task, flow, stats, task
from otelflow.errors import NothingToRun, OtelflowError
from otelflow.testing import Capture


@task
def plain(x: int, *, y: int = 0) -> int:
    """Adds."""
    return x + y


@flow
def deferred(x: int) -> int:
    """A deferred flow."""
    return plain(x)


class Thing:
    """Decorated methods of each kind."""

    @task
    def method(self, x: int) -> tuple[str, int]:
        return type(self).__name__, x

    @classmethod
    @task
    def of_class(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @task
    @classmethod
    def of_class_below(cls, x: int) -> tuple[str, int]:
        return cls.__name__, x

    @staticmethod
    @task
    def static(x: int) -> tuple[str, int]:
        return "", x

    @task
    @staticmethod
    def static_below(x: int) -> tuple[str, int]:
        return "", x

    @flow
    def as_flow(self, x: int) -> tuple[str, int]:
        return type(self).__name__, x


# --- shapes ---------------------------------------------------------------------------------------


def test_a_decorated_function_looks_like_itself() -> None:
    """Signature, name, documentation and kind are the function's."""

    @task
    async def coroutine() -> None: ...

    @flow(transparent=True)
    def generator() -> Any:
        yield

    @task
    async def async_generator() -> Any:
        yield

    assert str(signature(plain)) == "(x: 'int', *, y: 'int' = 0) -> 'int'"
    assert (plain.__name__, plain.__doc__, plain.__module__) == ("plain", "Adds.", __name__)
    assert iscoroutinefunction(coroutine)
    assert isgeneratorfunction(generator)
    assert isasyncgenfunction(async_generator)


def test_methods_in_both_orders_of_decoration() -> None:
    """Methods, class methods and static methods work on instances and on the class."""
    thing = Thing()
    assert thing.method(1) == Thing.method(thing, 1) == ("Thing", 1)
    assert thing.of_class(2) == Thing.of_class(2) == ("Thing", 2)
    assert thing.of_class_below(2) == Thing.of_class_below(2) == ("Thing", 2)
    assert thing.static(3) == Thing.static(3) == ("", 3)
    assert thing.static_below(3) == Thing.static_below(3) == ("", 3)
    assert thing.as_flow(4).execute().return_value == ("Thing", 4)


def test_partials_and_callable_objects(captured: Capture) -> None:
    """Partials and objects with __call__ are named after what a person knows them by."""

    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

    class AsyncAdder:
        async def __call__(self, x: int) -> int:
            return x + 1

    assert task(functools.partial(plain.__wrapped__, y=2))(1) == 3
    assert task(Adder())(1) == 2
    assert asyncio.run(task(AsyncAdder())(1)) == 2
    assert flow(Adder())(1).execute().return_value == 2
    assert flow(AsyncAdder())(1).execute().return_value == 2
    assert [run.name for run in captured.spans] == ["plain", "Adder", "AsyncAdder", "Adder", "AsyncAdder"]


def test_decorated_functions_can_be_pickled_and_copied() -> None:
    """By name, as plain functions are; bound methods with their object."""
    thing = Thing()
    assert pickle.loads(pickle.dumps(plain)) is plain
    assert pickle.loads(pickle.dumps(thing.method))(1) == ("Thing", 1)
    assert copy(plain) is plain
    assert deepcopy([plain])[0] is plain


def test_a_generator_task_passes_everything_through(captured: Capture) -> None:
    """send, throw, return value; no context for the consumer; the span covers the iteration."""
    outside = trace.get_current_span()
    inside: list[Any] = []

    @task
    def talks() -> Any:
        try:
            got = yield 1
        finally:
            inside.append(current_task())
        try:
            yield got
        except KeyError:
            yield "caught"
        return "end"

    made = talks()
    assert captured.spans == []
    assert next(made) == 1
    assert trace.get_current_span() is outside
    assert made.send("hello") == "hello"
    assert made.throw(KeyError("k")) == "caught"
    assert current_task() is None
    with pytest.raises(StopIteration) as stop:
        next(made)
    assert stop.value.value == "end"
    assert captured.span("talks").status == "completed"
    assert inside[0].return_value == "end"


def test_a_generator_closed_early_is_no_error(captured: Capture) -> None:
    """break, close() and garbage collection end the span as completed, once."""

    @task
    def counts() -> Any:
        yield from range(10)

    for number in counts():
        if number == 3:
            break
    made = counts()
    next(made)
    made.close()
    made = counts()
    next(made)
    del made
    gc.collect()
    ends = [(run.status, run.span.status.status_code) for run in captured.spans]
    assert ends == [("completed", StatusCode.UNSET)] * 3


def test_a_span_around_a_yield_stays_with_the_generator() -> None:
    """What a generator makes current is current again when it goes on, and never for its consumer."""
    tracer = trace.get_tracer("mine")
    seen: list[bool] = []

    @task
    def wraps() -> Any:
        with tracer.start_as_current_span("mine") as mine:
            yield
            seen.append(trace.get_current_span() is mine)

    outside = trace.get_current_span()
    for _ in wraps():
        assert trace.get_current_span() is outside
    assert seen == [True]


def test_an_async_generator_task(captured: Capture) -> None:
    """asend, athrow, aclose and early break, with no context for the consumer."""

    @task
    async def talks() -> Any:
        got = yield 1
        try:
            yield got
        except KeyError:
            yield current_task().name  # type: ignore[union-attr]

    async def main() -> None:
        made = talks()
        assert await made.asend(None) == 1
        assert current_task() is None
        assert await made.asend("hi") == "hi"
        assert await made.athrow(KeyError("k")) == "talks"
        await made.aclose()
        async for _ in talks():
            break
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert [run.status for run in captured.spans] == ["completed"] * 2


def test_a_deferred_generator_flow() -> None:
    """execute() drains it and keeps the return value; iterating the Flow steps it."""

    @flow
    def yields() -> Any:
        yield 1
        yield 2
        return "end"

    @flow
    async def ayields() -> Any:
        yield 1
        yield 2

    async def steps() -> list[int]:
        return [item async for item in ayields()]

    assert yields().execute().return_value == "end"
    assert list(yields()) == [1, 2]
    assert ayields().execute().status == "completed"
    assert asyncio.run(steps()) == [1, 2]
    with pytest.raises(TypeError, match=r"'deferred' is a function, not a generator function\. Use execute\(\)"):
        list(deferred(1))


def test_a_transparent_flow_is_the_function(captured: Capture) -> None:
    """transparent=True: the call runs and returns the function's own value; errors go through."""

    @flow(transparent=True)
    def runs(x: int, this_flow: Any = None) -> tuple[int, str]:
        return plain(x), this_flow.name

    @flow(transparent=True)
    async def runs_async(x: int) -> int:
        return plain(x)

    @flow(transparent=True, flow_config=FlowRunConfig(raise_flow_error=False))
    def tolerant() -> int:
        raise ValueError

    assert runs(1) == (1, "runs")
    assert asyncio.run(runs_async(2)) == 2
    assert tolerant() is None
    captured.assert_tree("runs\n  plain\nruns_async\n  plain\ntolerant  !ValueError")


# --- execution ------------------------------------------------------------------------------------


def test_flows_and_tasks_made_directly(captured: Capture) -> None:
    """Flow(target, ...) and Task(target, ...), sync and async."""

    async def double(x: int) -> int:
        return 2 * x

    assert Flow(plain, 1, y=2).execute().return_value == 3
    assert Flow(double, 2).execute().return_value == 4
    assert Task(double, 2).execute().return_value == 4
    made = Task(int, "x")
    made.raise_on_error = False
    made.name = "convert"
    assert made.execute().status == "failed"
    assert isinstance(made.error, ValueError)
    assert captured.task("convert").attributes["otelflow.task.name"] == "convert"


def test_subclasses_with_hooks() -> None:
    """on_start, on_stop, main and dependencies of a subclass, by decorator and directly."""
    calls: list[str] = []

    class Logged(Flow[Any]):
        name = "logged"

        def on_start(self) -> None:
            calls.append("start")

        def on_stop(self) -> None:
            calls.append(f"stop {self.error}")

        def main(self, *args: Any, **kwargs: Any) -> Any:
            calls.append("main")
            return super().main(*args, **kwargs)

        def dependencies(self) -> dict[str, Any]:
            return {"db": "the database"}

    class Counted(Task):
        def on_start(self) -> None:
            calls.append(f"task {self.name}")

    @task(cls=Counted)
    def query(db: str = "none") -> str:
        return db

    @flow(cls=Logged)
    def work() -> str:
        return query()

    run = work().execute()
    assert isinstance(run, Logged)
    assert isinstance(run.tasks[0], Counted)
    assert (run.name, run.return_value) == ("logged", "the database")
    assert calls == ["start", "main", "task query", "stop None"]


def test_async_hooks() -> None:
    """Hooks of an async run may be async; on_stop runs when the function raised, too."""
    calls: list[str] = []

    class Resource(Task):
        async def on_start(self) -> None:
            calls.append("open")

        async def on_stop(self) -> None:
            calls.append("close")

    @task(cls=Resource)
    async def fails() -> None:
        raise ValueError("no")

    @task(cls=Resource)
    async def steps() -> Any:
        yield 1

    async def main() -> list[int]:
        with pytest.raises(ValueError, match="no"):
            await fails()
        return [item async for item in steps()]

    assert asyncio.run(main()) == [1]
    assert calls == ["open", "close", "open", "close"]


def test_a_second_execution_starts_clean() -> None:
    """A new run id, and nothing of the run before: no error, no messages, no data."""
    outcomes: list[Any] = [ValueError("first"), 2]

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    def again(flow_data: Any = None) -> Any:
        flow_data["seen"] = flow_data.get("seen", 0) + 1
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    run = again()
    assert run.status == "pending"
    first = run.execute().run_id
    assert (run.status, str(run.error)) == ("failed", "first")
    run.execute()
    assert (run.status, run.error, run.return_value, run.messages, run.data) == ("completed", None, 2, [], {"seen": 1})
    assert run.run_id != first


def test_an_async_flow_executed_inside_a_loop_warns_at_the_callers_line() -> None:
    """It works, blocks the loop, and one RuntimeWarning names await, at the line that called."""

    @flow
    async def inside() -> Any:
        await asyncio.sleep(0)
        return current_flow()

    async def main() -> Any:
        return inside().execute()

    with pytest.warns(RuntimeWarning, match="await inside") as caught:
        run = asyncio.run(main())
    assert [warning.filename for warning in caught] == [__file__]
    assert run.return_value is run


def test_execute_leaves_the_threads_event_loop_alone() -> None:
    """A loop that the user set stays set, unlike after asyncio.run."""
    loop = asyncio.new_event_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop(loop)
        try:

            @flow
            async def runs() -> None:
                await asyncio.sleep(0)

            runs().execute()
            assert asyncio.get_event_loop_policy().get_event_loop() is loop
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def test_context_variables_reach_an_async_flow() -> None:
    """execute() carries the caller's context over, with and without a running loop."""
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    @flow
    async def reads() -> str:
        return variable.get()

    async def main() -> Any:
        with pytest.warns(RuntimeWarning):
            return reads().execute().return_value

    token = variable.set("set")
    try:
        assert reads().execute().return_value == "set"
        assert asyncio.run(main()) == "set"
    finally:
        variable.reset(token)


def test_nothing_to_run_and_running_twice() -> None:
    """A Flow without a function says so; so does one that is running already."""
    with pytest.raises(NothingToRun, match=r"Flow has nothing to run: .* Use Flow\(function, \*args, \*\*kwargs\)"):
        Flow().execute()

    @flow
    def itself(this_flow: Any = None) -> None:
        this_flow.execute()

    with pytest.raises(OtelflowError, match="is running already"):
        itself().execute()


# --- ends -----------------------------------------------------------------------------------------


def test_the_original_exception_reaches_the_caller() -> None:
    """The same object, its cause and its traceback, through task and flow."""
    error = ValueError("original")

    @task
    def fails() -> None:
        raise error from KeyError("cause")

    @flow
    def failing() -> None:
        fails()

    with pytest.raises(ValueError, match="original") as caught:
        failing().execute()
    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SystemExit(0), "completed", StatusCode.UNSET),
        (SystemExit(None), "completed", StatusCode.UNSET),
        (SystemExit(1), "failed", StatusCode.ERROR),
        (KeyboardInterrupt(), "cancelled", StatusCode.UNSET),
        (asyncio.CancelledError(), "cancelled", StatusCode.UNSET),
        (MemoryError(), "failed", StatusCode.ERROR),
        (StopAsyncIteration(), "failed", StatusCode.ERROR),
    ],
    ids=repr,
)
def test_each_kind_of_end(error: BaseException, status: str, code: StatusCode, captured: Capture) -> None:
    """What only stops a run is no failure; START is always followed by STOP; the exception goes through."""

    @task
    def ends() -> None:
        raise error

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    def ending() -> None:
        ends()

    if isinstance(error, Exception):
        ending().execute()
    else:
        with pytest.raises(type(error)) as caught:
            ending().execute()
        assert caught.value is error
    for run in captured.spans:
        assert run.span.status.status_code is code
        assert run.attributes["otelflow.status"] == status
    lifecycle = [text for text in texts(captured.events) if text.isupper()]
    assert lifecycle == ["FLOW_START", "TASK_START", "TASK_STOP", "FLOW_STOP"]


def test_a_cancelled_task_is_cancelled_not_failed(captured: Capture) -> None:
    """Cancelling and timing out end the inner spans as cancelled; the TimeoutError is the outer one's error."""

    @task
    async def sleeps() -> None:
        await asyncio.sleep(10)

    @flow
    async def times_out() -> None:
        await asyncio.wait_for(sleeps(), 0.01)

    with pytest.raises(asyncio.TimeoutError):
        times_out().execute()
    assert captured.task("sleeps").status == "cancelled"
    assert captured.flow("times_out").status == "failed"


def test_concurrent_failures_are_each_recorded_once(captured: Capture) -> None:
    """Two tasks fail in a gather: each span has its exception, the flow none."""

    @task
    async def fails(number: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(number)

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    async def gathers() -> None:
        await asyncio.gather(fails(1), fails(2))

    gathers().execute()
    recorded = [(run.name, [event.name for event in run.events].count("exception")) for run in captured.spans]
    assert recorded == [("gathers", 0), ("fails", 1), ("fails", 1)]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup is new in Python 3.11")
def test_an_exception_group_is_the_flows_own_error(captured: Capture) -> None:
    """A TaskGroup makes a new exception of its tasks': that one begins in the flow."""

    @task
    async def fails() -> None:
        raise ValueError("in the group")

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    async def groups() -> None:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined]
            group.create_task(fails())

    run = groups().execute()
    assert type(run.error).__name__ == "ExceptionGroup"
    assert captured.flow("groups").attributes["error.type"] == "ExceptionGroup"
    assert captured.task("fails").attributes["error.type"] == "ValueError"


def test_an_exception_that_cannot_be_printed(captured: Capture) -> None:
    """An exception whose __str__ and __repr__ raise is still the one that the caller gets."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    @task
    def breaks() -> None:
        raise Broken

    with pytest.raises(Broken):
        breaks()
    assert "str() raised RuntimeError" in str(captured.task("breaks").span.status.description)


def test_deep_recursion(captured: Capture) -> None:
    """RecursionError through a traced function goes through, and its record is bounded."""

    def forever(depth: int) -> int:
        return forever(depth + 1)

    @task
    def recurses() -> int:
        return forever(0)

    with pytest.raises(RecursionError):
        recurses()
    (exception, _) = captured.task("recurses").events
    stack = str((exception.attributes or {})["exception.stacktrace"])
    assert len(stack.encode()) <= 2048
    assert "more frames above" in stack
    assert stack.rstrip().endswith("maximum recursion depth exceeded")


def test_a_processor_that_raises_does_not_reach_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    """A span processor of the user's that raises is logged, and the function's value comes through."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    from otelflow._spans.tracer import use_provider

    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("start")

        def on_end(self, span: Any) -> None:
            raise RuntimeError("end")

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken())
    with use_provider(provider):
        assert deferred(3).execute().return_value == 3
    assert any("OpenTelemetry raised RuntimeError" in record.message for record in caplog.records)


# --- what is left ---------------------------------------------------------------------------------


def test_arguments_are_not_kept() -> None:
    """An argument of a task dies when the caller lets it go, while the flow still runs."""

    class Payload:
        pass

    @task
    def uses(payload: Payload) -> None:
        pass

    @flow
    def using() -> bool:
        payload = Payload()
        alive = weakref.ref(payload)
        uses(payload)
        del payload
        return alive() is None

    assert using().execute().return_value is True


def test_finished_flows_are_freed_without_the_garbage_collector() -> None:
    """A Flow is not part of a reference cycle: its tasks do not keep it."""
    gc.collect()
    gc.disable()
    try:
        run: Any = deferred(1).execute()
        kept, gone = run.tasks[0], weakref.ref(run)
        assert kept.flow is run
        del run
        assert gone() is None
        assert kept.flow is None
    finally:
        gc.enable()


def test_a_task_that_outlives_its_flow_is_counted(captured: Capture) -> None:
    """Its span has the right parent; the finished Flow object is not touched."""
    before = stats().dropped.get("tasks_after_end", 0)
    left: list[Any] = []

    @task
    async def late(this_task: Any = None) -> None:
        this_task.log_info("late")
        left.append(this_task)

    @flow
    async def forgets() -> None:
        loop = asyncio.get_running_loop()
        left.append(loop.create_task(_after(forgotten, late)))

    async def _after(event: asyncio.Event, call: Any) -> None:
        await event.wait()
        await call()

    async def main() -> Any:
        global forgotten
        forgotten = asyncio.Event()
        run = await forgets()
        forgotten.set()
        await left[0]
        return run

    run = asyncio.run(main())
    assert run.tasks == []
    assert run.messages == []
    assert left[1].messages == ["late"]
    assert stats().dropped["tasks_after_end"] == before + 1
    captured.assert_tree("forgets\n  late")


forgotten: asyncio.Event


def test_threads_with_the_callers_context(captured: Capture) -> None:
    """to_thread and copy_context().run carry the flow; a plain thread's task is an orphan, not a crash."""
    import contextvars

    @flow
    async def threads() -> None:
        await asyncio.to_thread(plain, 1)
        context = contextvars.copy_context()
        for target in (lambda: context.run(plain, 2), lambda: plain(3)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()

    run = threads().execute()
    assert len(run.tasks) == 2
    captured.assert_tree("threads\n  plain  x2\nplain  {otelflow.task.orphan=true}")
    assert len(captured.find(attributes={"otelflow.task.orphan": True})) == 1
