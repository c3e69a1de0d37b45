"""What a hostile reading found once, so that it stays mended."""

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


class Asks(Protocol):
    """A protocol that isinstance refuses."""

    def ask(self) -> None: ...


class Shape(TypedDict):
    """A typed dict, which isinstance refuses as well."""

    x: int


class Unbound:
    """A proxy that is bound to nothing: every look at it raises."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("unbound")


def test_annotations_and_dependencies_that_refuse_to_be_asked() -> None:
    """Injection by type leaves them alone; the default stays."""

    @task
    def asks(one: Asks | None = None, two: Shape | None = None, three: Capture | None = None) -> Any:
        return one, two, three

    @flow(dependencies={"proxy": Unbound()})
    def depends() -> Any:
        return asks()

    assert depends().execute().return_value == (None, None, None)


def test_a_full_stack_while_a_run_begins() -> None:
    """Whatever the depth at which the stack is full, standard output and context are put back."""

    @flow
    def deeper(number: int) -> Any:
        return deeper(number + 1).execute()

    def from_depth(depth: int) -> Any:
        return from_depth(depth - 1) if depth else deeper(0).execute()

    before = sys.stdout
    # a provider of its own: where an event of a span has stack enough, a listener may not, and the kit compares both
    with use_provider(TracerProvider(shutdown_on_exit=False)):
        for depth in range(12):
            with pytest.raises(RecursionError):
                from_depth(depth)
    assert sys.stdout is before
    assert stdout_capture._captures == 0


def test_a_flow_that_could_not_begin_can_be_executed_again() -> None:
    """What is wrong with its data is said, and nothing of the attempt stays."""
    run = flow(lambda: 1)()
    run.data = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        run.execute()
    run.data = {}
    assert run.execute().return_value == 1


def test_compat_blocks_can_be_nested_and_executed_in() -> None:
    """``with Flow() as f`` twice, and around an execution: everything is put back."""
    before = sys.stdout
    for _ in range(3):
        with compat.Flow() as made, made:
            made.setup(lambda: 1).execute()
    assert sys.stdout is before
    assert stdout_capture._captures == 0


def test_a_partials_own_keywords_win() -> None:
    """They are what the caller passes."""

    def asked(a: int, this_flow: Any = None, db: Any = None) -> Any:
        return a, this_flow, db

    given = functools.partial(asked, this_flow="mine", db="mydb")
    assert flow(dependencies={"db": "injected"})(given)(1).execute().return_value == (1, "mine", "mydb")


def test_data_of_a_subclasss_init_stays() -> None:
    """Under @flow(cls=...) as when it is made directly."""

    class Prepared(Flow[Any]):
        def __init__(self, target: Any = None, *args: Any, **kwargs: Any) -> None:
            super().__init__(target, *args, **kwargs)
            self.data["ready"] = True

    @flow(cls=Prepared)
    def uses(flow_data: Any = None) -> Any:
        return flow_data["ready"]

    assert uses().execute().return_value is True


def test_values_that_refuse_every_look(captured: Capture) -> None:
    """As attributes, artifacts, messages and return values."""

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


def test_an_exception_whose_text_stops_the_program(captured: Capture) -> None:
    """A BaseException of its __str__ replaces neither the exception nor STOP."""

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
    """Two iterators of one Flow: the second cannot begin while the first runs, and begins clean after it."""

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


def test_compat_setup_keeps_what_was_there() -> None:
    """The id, the name, messages, and what a subclass sets on its class or declares."""

    class Mine(compat.Flow):
        flow_config = compat.Flow_Run__Config(raise_flow_error=False)  # type: ignore[assignment]
        extra: str = "default"

        def main(self) -> None:
            raise ValueError(self.extra)

    made = compat.Flow()
    given = made.flow_id
    made.log_info("before")
    made.set_flow_name("mine")
    made.setup(len, "a").set_flow_target(max, [1, 2]).execute()
    assert (made.flow_id, made.flow_name, made.flow_return_value) == (given, "mine", 2)
    assert "before" in made.log_messages()
    assert str(Mine(extra="given").setup().execute().flow_error) == "given"


def test_close_returns_what_the_generator_returns() -> None:
    """As of a bare generator of this Python version."""

    def returns() -> Any:
        try:
            yield 1
        except GeneratorExit:
            return 5

    closed = []
    for function in (returns, task(returns)):
        steps: Any = function()
        next(steps)
        closed.append(steps.close())
    assert closed[0] == closed[1]


def test_coroutines_and_generators_have_their_functions_name() -> None:
    """In the warning about one that was never awaited, and in what asyncio says."""

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


def test_an_event_of_an_artifact_that_cannot_be_shown(captured: Capture) -> None:
    """repr() of the event does not ask the artifact."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_artifact("d", "k", Broken())

    makes().execute()
    assert repr(captured.events[1]) == "<FlowRunEvent NEW_ARTIFACT 'makes' 'k'>"
    assert flow_events.history()


def test_an_exporter_that_takes_its_time_or_exits() -> None:
    """shutdown returns in its time, and an exporter's SystemExit ends neither the thread nor the account."""
    done = programs.run(
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
    assert done.said == {"first": {"export_failed": 1}, "second": 1, "pending": 0, "in_time": True}, done.stderr


def test_an_async_flow_main_in_a_transparent_flow() -> None:
    """The shape that counts is that of main, where a subclass has its own."""

    class Later(Flow[Any]):
        async def main(self, *args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return super().main(*args, **kwargs)

    made: Any = flow(cls=Later, transparent=True)(lambda: 3)
    assert asyncio.run(made()) == 3
