"""Compare the fast path of tasks with the slow path of all other runs: both have the same results."""

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
"""``task``, or ``task`` for a subclass, which takes the slow path."""


class SlowPathTask(Task):
    """A subclass that adds nothing."""


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
    """Call tasks in tasks, with injected values."""

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
    """Send messages, print lines, and add an artifact and a result."""

    @make(name="says")
    def sends(this_task: Any = None) -> None:
        this_task.log_info("hello", rows=3)
        this_task.log_error("long " * 2000)
        print("a line")
        print("no end", end="")
        this_task.add_artifact(key="rows", data=[1, 2])
        this_task.add_result("ok", "done")

    sends()


def fails(make: Make) -> None:
    """Raise errors that reach the caller, errors that do not, and exceptions that are not failures."""

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
    """Raise errors in tasks that changed their span, printed, or attached a context before."""

    @make(name="odd")
    def odd(what: str) -> None:
        span = get_current_span()
        if what == "attribute":
            span.set_attribute("own", 1)
        elif what == "status":
            span.set_status(StatusCode.OK)
        elif what == "ended":
            with suppress(ValueError):  # raised by the broken processor
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
    """Await coroutines: one completes, one is cancelled, and one fails."""

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
    "not sampled": lambda: TracerProvider(sampler=ParentBased(ALWAYS_OFF)),
    "a sampler that must decide for tasks": lambda: TracerProvider(
        sampler=ParentBased(
            StaticSampler(Decision.RECORD_AND_SAMPLE), local_parent_sampled=StaticSampler(Decision.DROP)
        )
    ),
    "a sampler of its own": lambda: TracerProvider(sampler=StaticSampler(Decision.RECORD_AND_SAMPLE)),
    "a start that raises": lambda: _provider_with(Broken("start")),
    "an end that raises": lambda: _provider_with(Broken("end")),
    "no SDK": NoOpTracerProvider,
}


def _provider_with(processor: SpanProcessor) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(processor)
    return provider


def results_of(
    make: Make, program: Callable[[Make], None], provider: Any, config: dict[str, Any], listens: bool
) -> dict[str, Any]:
    """Run ``program``, and return all that it shows to listeners, history, exporter and user, without ids and times."""
    events: list[Any] = []
    memory = InMemorySpanExporter()
    if isinstance(provider, TracerProvider):
        provider.add_span_processor(SimpleSpanProcessor(memory))

    @flow(name="root", flow_config=FlowRunConfig(**config))
    def root() -> None:
        program(make)

    flow_events.clear_history()
    before = get_current()
    listening = flow_events.listen(lambda event: events.append(_event_facts(event))) if listens else no_listeners()
    with use_provider(provider), listening:
        run = root().execute()
    assert get_current() is before
    return {
        "events": events,
        "history": [_event_facts(event) for event in flow_events.history()],
        "spans": [_span_facts(span) for span in memory.get_finished_spans()],
        "tasks": [
            (task_run.name, task_run.status, task_run.return_value, repr(task_run.error), task_run.data)
            for task_run in run.tasks
        ],
        "memory": (
            [_without_ids(text) for text in run.messages],
            [artifact.key for artifact in run.artifacts],
            [result.key for result in run.results],
        ),
    }


@contextmanager
def no_listeners() -> Iterator[None]:
    """Remove all listeners during the block, also that of the test kit: with listeners, some code is not reached."""
    listeners = flow_events.event_listeners
    before, listeners[:] = list(listeners), []
    try:
        yield
    finally:
        listeners[:] = before


def _event_facts(event: Any) -> Any:
    data = event.event_data
    payload = {key: value for key, value in next(iter(data.data.values()), {}).items() if key != "duration"}
    texts = {
        key: repr(value) if isinstance(value, BaseException) else _without_ids(str(value))
        for key, value in payload.items()
    }
    return event.event_type.name, data.flow_name, data.task_name, data.log_level, data.trace_id is None, texts


def _span_facts(span: Any) -> Any:
    attributes = {key: value for key, value in span.attributes.items() if not key.endswith("run_id")}
    events = [
        (event.name, {key: _without_ids(value) for key, value in event.attributes.items()}) for event in span.events
    ]
    return span.name, attributes, events, span.status.status_code.name, span.status.description


def _without_ids(value: Any) -> Any:
    """Remove the ids of objects and of runs from a text."""
    return re.sub(r"0x[0-9a-f]+|flow_[0-9a-f]{28}", "", value) if isinstance(value, str) else value


END_MESSAGES = {"print_none_return_value": True, "print_finished_message": True, "capture_output": False}


@pytest.mark.parametrize("listens", [True, False], ids=["listens", ""])
@pytest.mark.parametrize("program", [values, says, fails, fails_oddly, awaits])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("config", [{}, END_MESSAGES], ids=["", "end messages"])
def test_both_paths_have_the_same_results(program: Any, provider: str, config: dict[str, Any], listens: bool) -> None:
    """Listeners, history, spans and Flow object are the same for a plain task and for a subclass that adds nothing."""
    fast = results_of(task, program, PROVIDERS[provider](), config, listens)
    slow = results_of(
        lambda **arguments: task(cls=SlowPathTask, **arguments), program, PROVIDERS[provider](), config, listens
    )
    assert fast == slow
    assert fast["history"]


def test_a_span_that_is_not_sampled_has_one_id_of_its_own() -> None:
    """The span of a task in a trace that is not sampled gets its id on first reading. All readers get the same id, also
    two threads at once. The span is in the trace, is not recorded, and has no reference to the spans above it."""
    spans: list[Any] = []

    @task
    def nested(depth: int) -> None:
        spans.append(trace.get_current_span())
        if depth:
            nested(depth - 1)

    @flow
    def root() -> None:
        spans.append(trace.get_current_span())
        nested(2)

    with use_provider(TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)):
        run = root().execute()
    start = threading.Barrier(2)
    contexts: list[Any] = []

    def read_ids() -> None:
        start.wait()
        contexts.append([span.get_span_context() for span in spans])

    threads = [threading.Thread(target=read_ids) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contexts[0] == contexts[1]
    assert len({context.span_id for context in contexts[0]}) == 4
    assert {context.trace_id for context in contexts[0]} == {int(run.trace_id or "", 16)}
    assert not any(context.trace_flags.sampled or not context.is_valid for context in contexts[0])
    assert [int(task_run.span_id or "", 16) for task_run in run.tasks] == [
        context.span_id for context in contexts[0][1:]
    ]
    assert not any(span.is_recording() for span in spans)
    assert spans[-2] not in gc.get_referents(vars(spans[-1]))
    copied = pickle.loads(pickle.dumps(spans[-1]))
    assert copied.get_span_context() == spans[-1].get_span_context()


def test_the_wrapped_function_may_be_replaced() -> None:
    """As with any wrapt proxy, a call uses the current ``__wrapped__``."""

    @task
    def add(x: int) -> int:
        return x + 1

    wrapper: Any = add
    assert wrapper(1) == 2
    wrapper.__wrapped__ = lambda x: x * 10
    assert wrapper(1) == 10


def test_the_stack_trace_is_printed_without_listeners(capsys: pytest.CaptureFixture[str]) -> None:
    """As with listeners: once, by the run where the exception began."""

    @task
    def inner() -> None:
        raise ValueError("no")

    @task
    def outer() -> None:
        inner()

    @flow(flow_config=FlowRunConfig(raise_flow_error=False, print_error_stack_trace=True))
    def root() -> None:
        outer()

    with use_provider(TracerProvider()), no_listeners():
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
for function in (sync, coroutine):
    value = Value()
    reference = weakref.ref(value)
    function(value).execute()
    del value
    say(**{function.__name__: reference() is None})
"""


def test_failed_runs_are_freed_without_the_garbage_collector() -> None:
    """The traceback of an exception has the frames of the runs that it passed through: they do not hold these runs.
    The test needs a process of its own, because a capture keeps events."""
    assert programs.run(FREED).facts == {"sync": True, "coroutine": True}
