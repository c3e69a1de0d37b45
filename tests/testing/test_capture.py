"""Whose span it is: captures at once, nested ones, and programs that set up a provider."""

from __future__ import annotations

import asyncio
import threading
import unittest

import pytest
from kit_runs import extract, tracer
from opentelemetry import context, trace
from programs import run as run_program

from otelflow import flow, flow_events
from otelflow.context import get_current
from otelflow.propagate import bind
from otelflow.testing import Capture, capture


@pytest.fixture
def captured() -> None:
    """These tests make their own captures."""


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
