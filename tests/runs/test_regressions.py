"""Test defects that an adversarial review once found, so that they do not come back."""

from __future__ import annotations

import asyncio
import functools
import sys
import warnings
from typing import Any, Protocol, TypedDict

import programs
import pytest
from opentelemetry.sdk.trace import TracerProvider

from otelflow import Flow, compat, flow, flow_events, task
from otelflow._runtime import stdout_capture
from otelflow._spans.tracer import use_provider
from otelflow.errors import OtelflowError
from otelflow.testing import Capture


class Askable(Protocol):
    """A protocol: isinstance raises TypeError for it."""

    def ask(self) -> None: ...


class Point(TypedDict):
    """A typed dict: isinstance raises TypeError for it, too."""

    x: int


class Unbound:
    """A proxy without an object: reading it raises."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("unbound")


def test_annotations_and_dependencies_for_which_isinstance_raises() -> None:
    """Injection by type skips them; the default stays."""

    @task
    def asks(protocol: Askable | None = None, point: Point | None = None, capture: Capture | None = None) -> Any:
        return protocol, point, capture

    @flow(dependencies={"proxy": Unbound()})
    def depends() -> Any:
        return asks()

    assert depends().execute().return_value == (None, None, None)


def test_a_full_stack_while_a_run_starts() -> None:
    """At any depth of the stack, standard output and context are restored."""

    @flow
    def deeper(number: int) -> Any:
        return deeper(number + 1).execute()

    def from_depth(depth: int) -> Any:
        return from_depth(depth - 1) if depth else deeper(0).execute()

    before = sys.stdout
    # a provider of its own: a span event may fit on the stack and its listener not, and the test kit compares both
    with use_provider(TracerProvider(shutdown_on_exit=False)):
        for depth in range(12):
            with pytest.raises(RecursionError):
                from_depth(depth)
    assert sys.stdout is before
    assert stdout_capture._capture_count == 0


def test_a_flow_that_could_not_start_can_be_executed_again() -> None:
    """Wrong data raises an error, and the attempt leaves no state behind."""
    run = flow(lambda: 1)()
    run.data = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        run.execute()
    run.data = {}
    assert run.execute().return_value == 1


def test_compat_blocks_can_be_nested_and_executed_in() -> None:
    """``with Flow() as f`` twice, and around an execution: standard output is restored."""
    before = sys.stdout
    for _ in range(3):
        with compat.Flow() as run, run:
            run.setup(lambda: 1).execute()
    assert sys.stdout is before
    assert stdout_capture._capture_count == 0


def test_keywords_of_a_partial_win() -> None:
    """They count as arguments of the caller."""

    def function(a: int, this_flow: Any = None, db: Any = None) -> Any:
        return a, this_flow, db

    partial = functools.partial(function, this_flow="mine", db="mydb")
    assert flow(dependencies={"db": "injected"})(partial)(1).execute().return_value == (1, "mine", "mydb")


def test_data_that_a_subclass_sets_in_init_stays() -> None:
    """With @flow(cls=...), as with a Flow that is created directly."""

    class Prepared(Flow[Any]):
        def __init__(self, target: Any = None, *args: Any, **kwargs: Any) -> None:
            super().__init__(target, *args, **kwargs)
            self.data["ready"] = True

    @flow(cls=Prepared)
    def uses(flow_data: Any = None) -> Any:
        return flow_data["ready"]

    assert uses().execute().return_value is True


def test_values_that_cannot_be_read(captured: Capture) -> None:
    """They may be attributes, artifacts, messages and return values."""

    @flow
    def says(this_flow: Any = None) -> Any:
        this_flow.log_info("proxy", value=Unbound(), number=10**5000)
        this_flow.log_info(Unbound())
        this_flow.add_artifact(data=Unbound())
        this_flow.add_artifact(key="password", data=[Unbound(), {"token": Unbound()}])
        return Unbound()

    run = says().execute()
    assert run.status == "completed"
    assert "RuntimeError" in run.to_dict()["return_value"]
    attributes = dict(captured.flow("says").events[0].attributes or {})
    assert attributes["value"] == "<Unbound: reading it raised RuntimeError>"
    assert attributes["number"] == "<int of 16610 bits>"


def test_an_exception_whose_str_raises_system_exit(captured: Capture) -> None:
    """The task's exception reaches the caller, and STOP is sent."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    @task
    def fails() -> None:
        raise Odd

    with pytest.raises(Odd):
        fails()
    assert captured.events[-1].event_type.name == "TASK_STOP"


def test_one_flow_object_is_one_run_at_a_time(captured: Capture) -> None:
    """A second iterator of one Flow cannot start while the first runs. Later it starts with cleared state."""

    @flow
    def steps() -> Any:
        yield 1
        yield 2

    run = steps()
    first, second = iter(run), iter(run)
    assert next(first) == 1
    with pytest.raises(OtelflowError, match="is running already"):
        next(second)
    assert list(first) == [2]
    before = run.run_id
    assert list(run) == [1, 2]
    assert run.run_id != before
    captured.assert_tree("steps  x2")


def test_compat_setup_keeps_the_state_of_the_flow() -> None:
    """Its id, its name, its messages, and attributes that a subclass sets on its class or declares."""

    class Mine(compat.Flow):
        flow_config = compat.Flow_Run__Config(raise_flow_error=False)  # type: ignore[assignment]
        extra: str = "default"

        def main(self) -> None:
            raise ValueError(self.extra)

    run = compat.Flow()
    flow_id = run.flow_id
    run.log_info("before")
    run.set_flow_name("mine")
    run.setup(len, "a").set_flow_target(max, [1, 2]).execute()
    assert (run.flow_id, run.flow_name, run.flow_return_value) == (flow_id, "mine", 2)
    assert "before" in run.log_messages()
    assert str(Mine(extra="declared").setup().execute().flow_error) == "declared"


def test_close_returns_the_return_value_of_the_generator() -> None:
    """If it does so for a plain generator in this Python version."""

    def returns() -> Any:
        try:
            yield 1
        except GeneratorExit:
            return 5

    values = []
    for function in (returns, task(returns)):
        steps: Any = function()
        next(steps)
        values.append(steps.close())
    assert values[0] == values[1]


def test_coroutines_and_generators_have_the_name_of_their_function() -> None:
    """Warnings about coroutines that were never awaited show it, and so does asyncio."""

    @task
    async def fetch() -> None: ...

    @task
    def rows() -> Any:
        yield

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coroutine: Any = fetch()
        assert (coroutine.__name__, coroutine.__qualname__) == (fetch.__name__, fetch.__qualname__)
        coroutine.close()
    assert rows().__qualname__ == rows.__qualname__


def test_an_event_of_an_artifact_whose_repr_raises(captured: Capture) -> None:
    """repr() of the event does not call repr() of the artifact."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_artifact("d", "k", Broken())

    makes().execute()
    assert repr(captured.events[1]) == "<FlowRunEvent NEW_ARTIFACT 'makes' 'k'>"
    assert flow_events.history()


def test_an_exporter_that_is_slow_or_exits() -> None:
    """shutdown returns within its timeout. SystemExit of an exporter does not end the thread, and is counted."""
    program = programs.run(
        """
        from opentelemetry.sdk.trace.export import SpanExportResult
        class Odd:
            calls = 0
            def export(self, batch):
                self.calls += 1
                if self.calls == 1: raise SystemExit(1)
                return SpanExportResult.SUCCESS
            def shutdown(self):
                time.sleep(30)
        configure(exporters=[Odd()])
        step(); first = flush(5); step(); second = flush(5)
        begin = time.monotonic(); shutdown(0.3); took = time.monotonic() - begin
        say(first=first.lost, second=second.delivered, pending=second.pending, in_time=took < 10)
        """,
        timeout=25,
    )
    expected = {"first": {"export_failed": 1}, "second": 1, "pending": 0, "in_time": True}
    assert program.facts == expected, program.stderr


def test_an_async_main_in_a_transparent_flow() -> None:
    """If a subclass overrides main, the kind of main decides how the flow runs."""

    class Later(Flow[Any]):
        async def main(self, *args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return super().main(*args, **kwargs)

    transparent: Any = flow(cls=Later, transparent=True)(lambda: 3)
    assert asyncio.run(transparent()) == 3
