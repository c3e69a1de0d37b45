"""Test how flows are executed: created directly, as subclasses, twice, and in event loops."""

from __future__ import annotations

import asyncio
import io
import sys
import warnings
from typing import Any

import pytest
from plain_runs import plain

from otelflow import Flow, FlowRunConfig, Task, current_flow, flow, task
from otelflow.errors import NothingToRun, OtelflowError
from otelflow.testing import Capture

# --- execution ------------------------------------------------------------------------------------


def test_flows_and_tasks_can_be_created_directly(captured: Capture) -> None:
    """Flow(target, ...) and Task(target, ...), sync and async."""

    async def double(x: int) -> int:
        return 2 * x

    assert Flow(plain, 1, y=2).execute().return_value == 3
    assert Flow(double, 2).execute().return_value == 4
    assert Task(double, 2).execute().return_value == 4
    convert = Task(int, "x")
    convert.raise_on_error = False
    convert.name = "convert"
    assert convert.execute().status == "failed"
    assert isinstance(convert.error, ValueError)
    assert captured.task("convert").attributes["otelflow.task.name"] == "convert"


def test_subclasses_with_hooks() -> None:
    """A subclass may override on_start, on_stop, main and dependencies."""
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
    """Hooks of an async run may be async; on_stop is also called if the function raises."""
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
    """It has a new run id, and no error, messages or data of the previous run."""
    outcomes: list[Any] = [ValueError("first"), 2]

    @flow(flow_config=FlowRunConfig(raise_flow_error=False))
    def again(flow_data: Any = None) -> Any:
        flow_data["count"] = flow_data.get("count", 0) + 1
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    run = again()
    assert run.status == "pending"
    first = run.execute().run_id
    assert (run.status, str(run.error)) == ("failed", "first")
    run.execute()
    assert (run.status, run.error, run.return_value, run.messages, run.data) == ("completed", None, 2, [], {"count": 1})
    assert run.run_id != first


def test_an_async_flow_executed_inside_a_loop_warns_at_the_callers_line() -> None:
    """It works and blocks the loop; one RuntimeWarning at the line of the call suggests await."""

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
    """A loop that the user set stays set; asyncio.run would remove it."""
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
    """execute() uses the caller's context, with and without a running loop."""
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


def test_a_flow_without_a_function_and_a_running_one_cannot_be_executed() -> None:
    """The errors say so."""
    with pytest.raises(NothingToRun, match=r"Flow has nothing to run: .* Use Flow\(function, \*args, \*\*kwargs\)"):
        Flow().execute()

    @flow
    def itself(this_flow: Any = None) -> None:
        this_flow.execute()

    with pytest.raises(OtelflowError, match="is running already"):
        itself().execute()


def test_an_async_generator_that_is_closed_early_awaits_its_hook() -> None:
    """``aclose()`` returns when ``on_stop`` has ended, not before."""
    calls: list[str] = []

    class Resource(Task):
        async def on_stop(self) -> None:
            await asyncio.sleep(0)
            calls.append("closed")

    @task(cls=Resource)
    async def numbers() -> Any:
        yield 1
        yield 2

    async def main() -> None:
        generator = numbers()
        assert await generator.__anext__() == 1
        await generator.aclose()
        assert calls == ["closed"]

    asyncio.run(main())


def test_a_message_in_memory_has_its_attributes(captured: Capture) -> None:
    """Those that were given with it, and none for one without."""

    @flow(flow_config=FlowRunConfig(capture_output=False))
    def speaks(this_flow: Any = None) -> None:
        this_flow.log_info("with", rows=2, source="a")
        this_flow.log_info("without")

    run = speaks().execute()
    assert [message.attributes for message in run.messages] == [{"rows": 2, "source": "a"}, {}]


def test_a_console_that_cannot_be_written_to_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on; the reason is in the log."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("the pipe is gone")

    @flow(flow_config=FlowRunConfig(capture_output=False, log_to_console=True))
    def speaks(this_flow: Any = None) -> int:
        this_flow.log_info("one")
        this_flow.log_info("two")
        return 1

    monkeypatch.setattr(sys, "stdout", Closed())
    assert speaks().execute().return_value == 1
    assert [record.getMessage() for record in caplog.records if record.name == "otelflow"] == [
        "Could not print to the standard output: the pipe is gone"
    ]
