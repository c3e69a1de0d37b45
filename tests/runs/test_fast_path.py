"""A task's usual way through the lifecycle, in one breath, and the long way of every other run: one account."""

from __future__ import annotations

import asyncio
import gc
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import programs
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, ParentBased, StaticSampler
from opentelemetry.trace import NoOpTracerProvider, StatusCode, get_current_span

from otelflow import FlowRunConfig, Task, current_task, flow, flow_events, task
from otelflow._spans.tracer import use_provider
from otelflow.context import attach, get_current

Make = Callable[..., Any]
"""``task``, or ``task`` for a subclass: these take the long way."""


class LongWay(Task):
    """A task as any other."""


class Broken(SpanProcessor):
    """A processor that raises at the start of a task's span, or at its end."""

    def __init__(self, at: str) -> None:
        self.at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.at == "start" and span.name != "root":
            raise ValueError("start")

    def on_end(self, span: Any) -> None:
        if self.at == "end" and span.name != "root":
            raise ValueError("end")


def values(make: Make) -> None:
    """Tasks in tasks, and what they may ask for."""

    @make(name="inner", attributes={"a": 1})
    def inner(x: int, this_task: Any = None, this_flow: Any = None, task_data: Any = None) -> int:
        assert this_task is current_task()
        assert this_flow.tasks[-1] is this_task
        task_data["x"] = x
        return x + 1

    @make(name="outer")
    def outer(x: int) -> int:
        return int(inner(x)) + int(inner(x))

    assert outer(2) == 6


def says(make: Make) -> None:
    """What tasks say, and what they print."""

    @make(name="says")
    def say(this_task: Any = None) -> None:
        this_task.log_info("hello", rows=3)
        this_task.log_error("long " * 2000)
        print("a line")
        print("no end", end="")
        this_task.add_artifact(key="rows", data=[1, 2])
        this_task.add_result("ok", "done")

    say()


def fails(make: Make) -> None:
    """Errors that reach the caller, that do not, and that are none."""

    @make(name="fails")
    def fail(error: BaseException) -> None:
        raise error

    @make(name="tolerant", raise_on_error=False)
    def tolerant() -> None:
        fail(KeyError("inside"))

    texts = ("no", "", "key=1: 'a'", "x" * 5000, "password=hunter2", "\x1b[31mred\x1b[0m", "\ud800")
    for error in (*map(ValueError, texts), LookupError("no"), SystemExit(0), SystemExit(1), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught:
            fail(error)
        assert caught.value is error
        assert current_task() is None
    assert tolerant() is None
    assert current_task() is None


def fails_oddly(make: Make) -> None:
    """Errors of tasks that have done something to their span before, and of what they printed."""

    @make(name="odd")
    def odd(what: str) -> None:
        span = get_current_span()
        if what == "attribute":
            span.set_attribute("own", 1)
        elif what == "status":
            span.set_status(StatusCode.OK)
        elif what == "ended":
            with suppress(ValueError):  # of the processor that raises
                span.end()
        elif what == "printed":
            print("no end", end="")
        elif what == "many":
            for number in range(200):
                current_task().log_info(f"message {number}")  # type: ignore[union-attr]
        elif what == "cut":
            current_task().log_info("x" * 5000)  # type: ignore[union-attr]
        elif what == "context":
            attach(get_current())
        raise ValueError(what)

    for what in ("attribute", "status", "ended", "printed", "many", "cut", "context"):
        with pytest.raises(ValueError, match=what):
            odd(what)


def awaits(make: Make) -> None:
    """The same for coroutines, one of them cancelled, and one that fails."""

    @make(name="sleeps")
    async def sleeps(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @make(name="waits")
    async def waits() -> float:
        late = asyncio.create_task(sleeps(30))
        await asyncio.sleep(0)
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        return float(await sleeps(0))

    assert asyncio.run(waits()) == 0

    @make(name="breaks", raise_on_error=False)
    async def breaks() -> None:
        await asyncio.sleep(0)
        raise LookupError("broken")

    assert asyncio.run(breaks()) is None


PROVIDERS: dict[str, Callable[[], Any]] = {
    "recording": TracerProvider,
    "sampled out": lambda: TracerProvider(sampler=ParentBased(ALWAYS_OFF)),
    "a sampler that has to be asked": lambda: TracerProvider(
        sampler=ParentBased(
            StaticSampler(Decision.RECORD_AND_SAMPLE), local_parent_sampled=StaticSampler(Decision.DROP)
        )
    ),
    "a sampler of its own": lambda: TracerProvider(sampler=StaticSampler(Decision.RECORD_AND_SAMPLE)),
    "a start that raises": lambda: _with(Broken("start")),
    "an end that raises": lambda: _with(Broken("end")),
    "no SDK": NoOpTracerProvider,
}


def _with(processor: SpanProcessor) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(processor)
    return provider


def account(
    make: Make, program: Callable[[Make], None], provider: Any, config: dict[str, Any], listens: bool
) -> dict[str, Any]:
    """All that the world sees of ``program``, but for ids and times."""
    heard: list[Any] = []
    memory = InMemorySpanExporter()
    if isinstance(provider, TracerProvider):
        provider.add_span_processor(SimpleSpanProcessor(memory))

    @flow(name="root", flow_config=FlowRunConfig(**config))
    def root() -> None:
        program(make)

    flow_events.clear_history()
    before = get_current()
    listening = flow_events.listen(lambda event: heard.append(_of_event(event))) if listens else nobody_listening()
    with use_provider(provider), listening:
        made = root().execute()
    assert get_current() is before
    return {
        "heard": heard,
        "history": [_of_event(event) for event in flow_events.history()],
        "spans": [_of_span(span) for span in memory.get_finished_spans()],
        "tasks": [(one.name, one.status, one.return_value, repr(one.error), one.data) for one in made.tasks],
        "said": (
            [_of_value(text) for text in made.messages],
            [artifact.key for artifact in made.artifacts],
            [one.key for one in made.results],
        ),
    }


@contextmanager
def nobody_listening() -> Iterator[None]:
    """Without the listener of the test kit, which hears all tests: who listens takes the long way at some places."""
    listeners = flow_events.event_listeners
    before, listeners[:] = list(listeners), []
    try:
        yield
    finally:
        listeners[:] = before


def _of_event(event: Any) -> Any:
    data = event.event_data
    payload = {key: value for key, value in next(iter(data.data.values()), {}).items() if key != "duration"}
    shown = {
        key: repr(value) if isinstance(value, BaseException) else _of_value(str(value))
        for key, value in payload.items()
    }
    return event.event_type.name, data.flow_name, data.task_name, data.log_level, data.trace_id is None, shown


def _of_span(span: Any) -> Any:
    attributes = {key: value for key, value in span.attributes.items() if not key.endswith("run_id")}
    events = [(event.name, {key: _of_value(value) for key, value in event.attributes.items()}) for event in span.events]
    return span.name, attributes, events, span.status.status_code.name, span.status.description


def _of_value(value: Any) -> Any:
    """Without the ids of objects and of runs, which are in the text of some."""
    return re.sub(r"0x[0-9a-f]+|flow_[0-9a-f]{28}", "", value) if isinstance(value, str) else value


TALKS = {"print_none_return_value": True, "print_finished_message": True, "capture_output": False}


@pytest.mark.parametrize("listens", [True, False], ids=["listens", ""])
@pytest.mark.parametrize("program", [values, says, fails, fails_oddly, awaits])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("config", [{}, TALKS], ids=["", "talks"])
def test_both_ways_give_one_account(program: Any, provider: str, config: dict[str, Any], listens: bool) -> None:
    """Listeners, history, spans and Flow object say the same of a plain task and of a subclass that adds nothing."""
    usual = account(task, program, PROVIDERS[provider](), config, listens)
    long = account(lambda **given: task(cls=LongWay, **given), program, PROVIDERS[provider](), config, listens)
    assert usual == long
    assert usual["history"]


def test_a_span_that_was_sampled_out_has_one_id_of_its_own() -> None:
    """Tasks in a trace that was sampled out: each has an id once it is asked for, the same for whoever asks, in two
    threads at once too; it is in the trace, is not recorded, and does not hold the spans above it."""
    seen: list[Any] = []

    @task
    def look(depth: int) -> None:
        seen.append(trace.get_current_span())
        if depth:
            look(depth - 1)

    @flow
    def root() -> None:
        seen.append(trace.get_current_span())
        look(2)

    with use_provider(TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)):
        made = root().execute()
    begin = threading.Barrier(2)
    found: list[Any] = []

    def ask() -> None:
        begin.wait()
        found.append([span.get_span_context() for span in seen])

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]
    assert len({context.span_id for context in found[0]}) == 4
    assert {context.trace_id for context in found[0]} == {int(made.trace_id or "", 16)}
    assert not any(context.trace_flags.sampled or not context.is_valid for context in found[0])
    assert [int(one.span_id or "", 16) for one in made.tasks] == [context.span_id for context in found[0][1:]]
    assert not any(span.is_recording() for span in seen)
    assert seen[-2] not in gc.get_referents(vars(seen[-1]))
    copied = pickle.loads(pickle.dumps(seen[-1]))
    assert copied.get_span_context() == seen[-1].get_span_context()


def test_what_a_wrapper_wraps_may_be_replaced() -> None:
    """As with any wrapt proxy: a call is of what is there now."""

    @task
    def add(x: int) -> int:
        return x + 1

    wrapper: Any = add
    assert wrapper(1) == 2
    wrapper.__wrapped__ = lambda x: x * 10
    assert wrapper(1) == 10


def test_the_stack_trace_is_printed_where_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is where somebody does; once, where the exception began."""

    @task
    def inner() -> None:
        raise ValueError("no")

    @task
    def outer() -> None:
        inner()

    @flow(flow_config=FlowRunConfig(raise_flow_error=False, print_error_stack_trace=True))
    def root() -> None:
        outer()

    with use_provider(TracerProvider()), nobody_listening():
        root().execute()
    assert capsys.readouterr().err.count("ValueError: no") == 1


FREED = """
import gc, weakref
from otelflow import FlowRunConfig

class Value:
    pass

@task
def fails(value):
    raise ValueError("no")

@task
def passes_on(value):
    fails(value)

@task
async def waits(value):
    passes_on(value)

@flow(flow_config=FlowRunConfig(add_task_to_self=False))
def sync(value):
    try:
        passes_on(value)
    except ValueError:
        pass

@flow(flow_config=FlowRunConfig(add_task_to_self=False))
async def coroutine(value):
    try:
        await waits(value)
    except ValueError:
        pass

gc.disable()
for made in (sync, coroutine):
    value = Value()
    gone = weakref.ref(value)
    made(value).execute()
    del value
    say(**{made.__name__: gone() is None})
"""


def test_what_failed_is_freed_without_the_garbage_collector() -> None:
    """The traceback of an exception has the frames of the runs that it came through: they do not hold these runs. In a
    process of its own, as a capture keeps what it heard."""
    assert programs.run(FREED).said == {"sync": True, "coroutine": True}
