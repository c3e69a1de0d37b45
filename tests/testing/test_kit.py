"""The test kit: captures and what can be asked of them."""

from __future__ import annotations

import asyncio
import threading
import unittest
from typing import Any

import pytest
from opentelemetry import context, trace
from programs import run as run_program

from otelflow import flow, flow_events, task
from otelflow._runtime.clock import now
from otelflow.context import get_current
from otelflow.errors import ArgumentError, OtelflowError
from otelflow.propagate import bind
from otelflow.testing import Capture, Failure, capture

tracer = trace.get_tracer("fetched at import")


@pytest.fixture
def captured() -> None:
    """These tests make their own captures."""


@task
def extract(path: str, this_task: Any = None) -> list[int]:
    """Says and makes something."""
    this_task.log_info(f"reading {path}", path=path)
    this_task.add_artifact("Rows", key="rows", data={"count": 2})
    this_task.add_result("rows", "2 rows")
    return [1, 2]


@task(raise_on_error=False)
def load() -> None:
    """Fails, and the flow goes on."""
    with tracer.start_as_current_span("INSERT", attributes={"db.name": "shop"}):
        raise ValueError("disk full")


@flow
def nightly(this_flow: Any = None) -> None:
    """A flow with two tasks, someone else's span, and a flow below."""
    this_flow.log_warning("begins")
    extract("data/")
    load()
    inner().execute()


@flow
def inner() -> None:
    """A nested flow."""
    extract("more/")


@pytest.fixture
def kit() -> Capture:
    """One run of everything."""
    with capture() as made:
        nightly().execute()
    return made


# --- queries --------------------------------------------------------------------------------------------------------


def test_flows_and_tasks(kit: Capture) -> None:
    """By start; nested flows included, tasks at any depth."""
    assert [run.name for run in kit.flows] == ["nightly", "inner"]
    assert [run.name for run in kit.tasks] == ["extract", "load", "extract"]
    assert [run.name for run in kit.roots] == ["nightly"]
    run = kit.flow("nightly")
    assert [one.name for one in run.tasks] == ["extract", "load", "extract"]
    assert [one.name for one in run.children] == ["extract", "load", "inner"]
    assert [one.name for one in run.descendants] == ["extract", "load", "INSERT", "inner", "extract"]
    assert run.flow("inner").task("extract").parent is run.flow("inner")
    assert (run.parent, run.kind, kit.span("INSERT").kind) == (None, "flow", "span")


def test_what_a_run_says_of_itself(kit: Capture) -> None:
    """Status, error, duration, ids, messages, artifacts, results, events, links."""
    run = kit.flow("nightly")
    assert (run.status, run.error, run.is_open) == ("completed", None, False)
    assert 0 < (run.duration or 0) < 60
    assert run.messages == ["begins"]
    assert (run.messages[0].severity, run.messages[0].log_level) == ("WARNING", 30)
    first = run.tasks[0]
    assert first.messages == ["reading data/"]
    assert first.messages[0].attributes == {"path": "data/"}
    assert first.artifact("rows").data == {"count": 2}
    assert first.result("rows").description == "2 rows"
    assert [event.name for event in first.events] == ["otelflow.message", "otelflow.artifact", "otelflow.result"]
    assert first.attributes["otelflow.status"] == "completed"
    assert (first.trace_id, len(first.span_id), first.links) == (run.trace_id, 16, [])
    assert str(run.run_id).startswith("flow_")
    assert str(first.run_id).startswith("task_")


def test_a_failure_is_a_text_and_more(kit: Capture) -> None:
    """The error's type and message, and the exception where it is at hand; also of someone else's span."""
    failure = kit.task("load").error
    assert isinstance(failure, Failure)
    assert failure == "ValueError: disk full"
    assert (failure.type, failure.message) == ("ValueError", "disk full")
    assert isinstance(failure.exception, ValueError)
    other = kit.span("INSERT").error
    assert other is not None
    assert (other.type, other.message, kit.span("INSERT").status) == ("ValueError", "disk full", "failed")


def test_find(kit: Capture) -> None:
    """By name with wildcards, kind, status, attributes, and a function."""
    assert [run.name for run in kit.find("e*")] == ["extract", "extract"]
    assert [run.name for run in kit.find(kind="span")] == ["INSERT"]
    assert [run.name for run in kit.find(status="failed")] == ["load", "INSERT"]
    assert [run.name for run in kit.find(attributes={"db.name": "shop"})] == ["INSERT"]
    assert [run.name for run in kit.find(where=lambda run: run.artifacts)] == ["extract", "extract"]
    assert [run.name for run in kit.flow("inner").find("*")] == ["extract"]


def test_a_query_for_one_says_what_there_was(kit: Capture) -> None:
    """None or several: the failure prints every tree."""
    with pytest.raises(AssertionError) as none:
        kit.flow("daily")
    assert str(none.value).startswith("There is no flow 'daily'. What ran:\n\nnightly  (")
    assert "  load  !ValueError: disk full" in str(none.value)
    with pytest.raises(AssertionError, match="There are 2 tasks 'extract': use tasks, or find"):
        kit.task("extract")
    with pytest.raises(AssertionError, match="There is no task 'x' below 'inner'"):
        kit.flow("inner").task("x")
    with pytest.raises(AssertionError, match=r"<task 'load' failed> has no artifact 'rows'. It has: none"):
        kit.task("load").artifact("rows")


def test_counts_and_durations(kit: Capture) -> None:
    """Bounds on how often and how long."""
    kit.assert_count("extract", 2)
    kit.assert_count("e*", at_least=1, at_most=2)
    with pytest.raises(AssertionError, match="'extract' ran 2 times; expected were at most 1"):
        kit.assert_count("extract", at_most=1)
    with pytest.raises(AssertionError, match="'nothing' ran 0 times; expected were exactly 1"):
        kit.assert_count("nothing", 1)
    kit.assert_duration("nightly", at_most=60)
    with pytest.raises(AssertionError, match=r"<flow 'nightly' completed> took .* expected was at least 60 s"):
        kit.assert_duration("nightly", at_least=60)
    with pytest.raises(AssertionError, match="There is no 'nothing'"):
        kit.assert_duration("nothing", at_most=1)


def test_a_bound_has_to_be_said(kit: Capture) -> None:
    """Else the assertion would hold whatever ran."""
    with pytest.raises(ArgumentError, match="has no bound"):
        kit.assert_count("extract")
    with pytest.raises(ArgumentError, match="has no bound"):
        kit.assert_duration("extract")


def test_what_ran_at_the_same_time() -> None:
    """Concurrent tasks overlap; those that ran one after the other do not."""

    @task
    async def waits(name: str) -> None:
        await asyncio.sleep(0)

    @flow
    async def both() -> None:
        await asyncio.gather(waits("a"), waits("b"))
        await waits("c")

    with capture(deterministic=True) as made:
        both().execute()
    first, second, third = made.tasks
    assert first.overlaps(second)
    assert second.overlaps(first)
    assert not third.overlaps(first)


def test_an_open_run_is_seen() -> None:
    """While it runs, and when it never ends."""

    @task
    def steps() -> Any:
        yield 1

    with capture() as made:
        left = steps()
        next(left)
        run = made.task("steps")
        assert (run.status, run.duration, run.is_open) == ("running", None, True)
        assert "steps  (open)" in made.tree()
        left.close()
        assert made.task("steps").status == "completed"


def test_to_dict_is_the_same_each_time() -> None:
    """No ids, no times, no folders."""

    @flow
    def fails() -> None:
        raise OSError(f"no file in {__file__}")

    made = []
    for _ in range(2):
        with capture() as one:
            nightly().execute()
            with pytest.raises(OSError, match="no file"):
                fails().execute()
        made.append(one.to_dict())
    assert made[0] == made[1]
    assert made[0][0]["children"][0] == {
        "name": "extract",
        "kind": "task",
        "status": "completed",
        "error": None,
        "attributes": {
            "code.function.name": f"{__name__}.extract",
            "otelflow.flow.name": "nightly",
            "otelflow.kind": "task",
            "otelflow.status": "completed",
            "otelflow.task.name": "extract",
        },
        "messages": ["INFO reading data/"],
        "artifacts": [{"key": "rows", "type": "dict", "description": "Rows", "data": '{"count": 2}'}],
        "results": [{"key": "rows", "description": "2 rows"}],
        "events": [],
        "children": [],
    }
    (exception,) = made[0][1]["events"]
    assert 'File "test_kit.py", line N, in fails' in exception["attributes"]["exception.stacktrace"]


# --- determinism ----------------------------------------------------------------------------------------------------


def test_deterministic_ids_and_times() -> None:
    """Ids and run ids count from one, each reading of the clock is a millisecond later; foreign spans step as well."""
    told = []
    for _ in range(2):
        with capture(deterministic=True) as made:
            nightly().execute()
        told.append([(run.name, run.trace_id, run.span_id, run.run_id, run.duration) for run in made.spans])
    assert told[0] == told[1]
    assert told[0][0][:4] == ("nightly", f"{1:032x}", f"{1:016x}", f"flow_{1:028x}")
    assert [int(span_id, 16) for _, _, span_id, _, _ in told[0]] == [1, 2, 3, 4, 5, 6]
    assert {run.name: run.duration for run in made.spans}["INSERT"] == 0.001
    made.assert_duration("load", at_least=0.005, at_most=0.005)
    assert now() > 1_700_000_000_000_000_000


def test_one_deterministic_capture_at_a_time() -> None:
    """Two would count on the same ids; nothing is left behind by the one that is refused."""
    listeners = list(flow_events.event_listeners)
    with capture(deterministic=True) as made:
        with pytest.raises(OtelflowError, match="deterministic capture is active already"), capture(deterministic=True):
            pass
        with pytest.raises(OtelflowError, match="active already"), made:
            pass
    assert flow_events.event_listeners == listeners


# --- whose span is it -----------------------------------------------------------------------------------------------


def test_code_that_fetched_its_tracer_at_import() -> None:
    """Its spans are in each capture that they ran in, and nowhere in between."""
    for number in range(3):
        with capture() as made, tracer.start_as_current_span(f"span {number}"):
            extract("x")
        made.assert_tree(f"""
            span {number}
              extract
        """)
        with tracer.start_as_current_span("outside") as outside:
            assert not outside.is_recording()


def test_everything_is_as_before(kit: Capture) -> None:
    """Provider, listeners, context: also when the block raises."""
    before = (trace.get_tracer_provider(), list(flow_events.event_listeners), get_current())
    with pytest.raises(KeyError), capture():
        raise KeyError("in the test")
    assert (trace.get_tracer_provider(), list(flow_events.event_listeners), get_current()) == before


def test_captures_at_once_in_threads() -> None:
    """Each has what its own thread ran."""
    begin, made = threading.Barrier(4), {}

    def one(number: int) -> None:
        with capture() as mine:
            begin.wait(20)
            for _ in range(20):
                named(number)
            begin.wait(20)
        made[number] = mine

    def named(number: int) -> None:
        @flow(name=f"flow {number}")
        def one_of() -> None:
            extract(str(number))

        one_of().execute()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, mine in made.items():
        mine.assert_tree(f"flow {number}  x20\n  extract")
        mine.assert_events_agree()


def test_captures_at_once_on_a_loop() -> None:
    """Each has what its own coroutine ran."""

    async def one(number: int) -> Capture:
        with capture() as mine:
            for _ in range(5):
                await asyncio.sleep(0)
                await flow(name=f"flow {number}")(asyncio.sleep)(0)
        return mine

    async def main() -> list[Capture]:
        return list(await asyncio.gather(*(one(number) for number in range(5))))

    for number, mine in enumerate(asyncio.run(main())):
        mine.assert_tree(f"flow {number}  x5")


def test_a_plain_thread_belongs_to_the_capture() -> None:
    """It carries no context; what runs in it is seen all the same."""
    with capture() as made:
        thread = threading.Thread(target=extract, args=("x",))
        thread.start()
        thread.join()
    assert made.task("extract").attributes["otelflow.task.orphan"] is True


def test_what_is_left_over_belongs_nowhere() -> None:
    """A thread of an earlier test that goes on in its flow is not in the capture of the next."""
    go_on, ended = threading.Event(), threading.Event()

    def late() -> None:
        go_on.wait(20)
        extract("late")
        with tracer.start_as_current_span("late"):
            pass
        ended.set()

    @flow
    def leaves() -> None:
        threading.Thread(target=bind(late)).start()

    with capture() as first:
        leaves().execute()
    with capture() as second:
        go_on.set()
        assert ended.wait(20)
        extract("mine")
    assert [run.name for run in first.spans] == ["leaves"]
    assert [run.name for run in second.spans] == ["extract"]
    assert second.task("extract").messages == ["reading mine"]
    assert [event.event_data.task_name for event in second.events] == ["extract"] * 5


def test_a_context_that_outlives_its_capture() -> None:
    """A loop that was made under one capture runs under another: what runs in it now belongs to that."""
    with capture():
        kept = get_current()
    with capture() as made:
        token = context.attach(kept)
        extract("x")
        context.detach(token)
    made.assert_tree("extract")


def test_nested_captures() -> None:
    """The inner one has what begins in it; what began outside stays outside."""
    with capture() as outer:
        extract("outer")
        with capture() as within:
            extract("within")
        extract("outer again")
    outer.assert_tree("extract  x2")
    within.assert_tree("extract")


def test_a_request_from_elsewhere() -> None:
    """A remote parent is above nothing that was captured; also one that is not sampled."""
    for flags in (0, 1):
        parent = trace.SpanContext(7, 8, True, trace.TraceFlags(flags))
        with capture() as made, trace.use_span(trace.NonRecordingSpan(parent)):
            extract("x")
        assert made.roots[0].trace_id == f"{7:032x}"
        made.assert_tree("extract")


class TestWithUnittest(unittest.TestCase):
    """unittest needs no fixture."""

    def test_in_a_test_case(self) -> None:
        """capture() as a context manager of the test."""
        made = self.enterContext(capture()) if hasattr(self, "enterContext") else None
        if made is None:
            manager = capture()
            made = manager.__enter__()
            self.addCleanup(manager.__exit__, None, None, None)
        extract("x")
        made.assert_tree("extract")


def test_clear(kit: Capture) -> None:
    """Forgets what ran so far."""
    kit.clear()
    assert (kit.spans, kit.events, kit.tree()) == ([], [], "(nothing)")


# --- other set-ups, each in a process of its own ---------------------------------------------------------------------

PROGRAM = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otelflow.testing import capture
early = trace.get_tracer("early")
exporter = InMemorySpanExporter()
own = TracerProvider()
own.add_span_processor(SimpleSpanProcessor(exporter))

@flow
def mixed():
    with early.start_as_current_span("early"), trace.get_tracer("late").start_as_current_span("late"):
        step(1)

def sent():
    return [span.name for span in exporter.get_finished_spans()]
"""

TREE = "mixed\n  early\n    late\n      step"


def test_a_provider_that_is_set_already() -> None:
    """Its spans are copied to the capture and go where they went; ours go to the capture alone."""
    done = run_program(
        PROGRAM
        + f"""
trace.set_tracer_provider(own)
for _ in range(2):
    with capture() as made:
        mixed().execute()
    made.assert_tree({TREE!r})
say(sent=sent(), same=trace.get_tracer_provider() is own, processors=len(own._active_span_processor._span_processors))
"""
    )
    assert done.said == {"sent": ["late", "early"] * 2, "same": True, "processors": 2}, done.stderr


def test_a_provider_that_is_set_afterwards() -> None:
    """Code whose tracer was fetched under a capture finds the program's own provider later."""
    done = run_program(
        PROGRAM
        + f"""
with capture() as made:
    mixed().execute()
made.assert_tree({TREE!r})
trace.set_tracer_provider(own)
mixed().execute()
say(sent=sent(), spans=len(made.spans))
"""
    )
    assert done.said == {"sent": ["step", "late", "early", "mixed"], "spans": 4}, done.stderr
    assert done.stderr == ""


def test_a_program_that_sets_up_under_a_capture() -> None:
    """configure() and set_tracer_provider() change nothing while it is active, and work afterwards."""
    done = run_program(
        PROGRAM
        + f"""
with capture() as made:
    configure()
    trace.set_tracer_provider(own)
    mixed().execute()
made.assert_tree({TREE!r})
nothing = sent()
trace.set_tracer_provider(own)
mixed().execute()
say(under=nothing, after=sent())
""",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert done.said == {"under": [], "after": ["step", "late", "early", "mixed"]}, done.stderr
    assert "Overriding of current TracerProvider is not allowed" in done.stderr


def test_the_environment_does_not_count() -> None:
    """A build that switches OpenTelemetry off, or sets limits, has the same tests."""
    done = run_program(
        PROGRAM + f"with capture() as made:\n    mixed().execute()\nmade.assert_tree({TREE!r})\nsay(ok=True)",
        OTEL_SDK_DISABLED="true",
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_SPAN_EVENT_COUNT_LIMIT="1",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="1",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="2",
    )
    assert done.said == {"ok": True}, done.stderr


def test_it_loads_no_sdk_before_it_is_used() -> None:
    """The plugin is in every pytest of whoever has otelflow installed: it imports next to nothing."""
    done = run_program(
        "import otelflow.pytest_plugin, sys\n"
        "say(loaded=[name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'otelflow.testing'))])"
    )
    assert done.said == {"loaded": []}
