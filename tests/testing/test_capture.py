"""Test which capture a span belongs to: with concurrent and nested captures, and with other providers."""

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
    """Override the fixture: these tests create their own captures."""


# --- the capture of a span ------------------------------------------------------------------------------------------


def test_code_that_fetched_its_tracer_at_import() -> None:
    """Each capture gets the spans that ran in it; between captures nothing is recorded."""
    for number in range(3):
        with capture() as captured, tracer.start_as_current_span(f"span {number}"):
            extract("x")
        captured.assert_tree(f"""
            span {number}
              extract
        """)
        with tracer.start_as_current_span("outside") as outside:
            assert not outside.is_recording()


def test_a_capture_restores_everything(kit: Capture) -> None:
    """Provider, listeners and context are restored, also if the block raises."""
    before = (trace.get_tracer_provider(), list(flow_events.event_listeners), get_current())
    with pytest.raises(KeyError), capture():
        raise KeyError("in the test")
    assert (trace.get_tracer_provider(), list(flow_events.event_listeners), get_current()) == before


def test_captures_at_once_in_threads() -> None:
    """Each capture has what its own thread ran."""
    barrier, captures = threading.Barrier(4), {}

    def run_thread(number: int) -> None:
        with capture() as captured:
            barrier.wait(20)
            for _ in range(20):
                run_flow(number)
            barrier.wait(20)
        captures[number] = captured

    def run_flow(number: int) -> None:
        @flow(name=f"flow {number}")
        def numbered() -> None:
            extract(str(number))

        numbered().execute()

    threads = [threading.Thread(target=run_thread, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, captured in captures.items():
        captured.assert_tree(f"flow {number}  x20\n  extract")
        captured.assert_events_agree()


def test_captures_at_once_on_a_loop() -> None:
    """Each capture has what its own coroutine ran."""

    async def run_flows(number: int) -> Capture:
        with capture() as captured:
            for _ in range(5):
                await asyncio.sleep(0)
                await flow(name=f"flow {number}")(asyncio.sleep)(0)
        return captured

    async def main() -> list[Capture]:
        return list(await asyncio.gather(*(run_flows(number) for number in range(5))))

    for number, captured in enumerate(asyncio.run(main())):
        captured.assert_tree(f"flow {number}  x5")


def test_a_plain_thread_belongs_to_the_capture() -> None:
    """The thread carries no context, but the capture still gets what runs in it."""
    with capture() as captured:
        thread = threading.Thread(target=extract, args=("x",))
        thread.start()
        thread.join()
    assert captured.task("extract").attributes["otelflow.task.orphan"] is True


def test_spans_after_the_end_of_their_capture_belong_to_none() -> None:
    """A thread of an earlier test that still runs in its flow is not in the capture of the next test."""
    resume, finished = threading.Event(), threading.Event()

    def late() -> None:
        resume.wait(20)
        extract("late")
        with tracer.start_as_current_span("late"):
            pass
        finished.set()

    @flow
    def starts_thread() -> None:
        threading.Thread(target=bind(late)).start()

    with capture() as first:
        starts_thread().execute()
    with capture() as second:
        resume.set()
        assert finished.wait(20)
        extract("second")
    assert [run.name for run in first.spans] == ["starts_thread"]
    assert [run.name for run in second.spans] == ["extract"]
    assert second.task("extract").messages == ["reading second"]
    assert [event.event_data.task_name for event in second.events] == ["extract"] * 5


def test_a_context_that_outlives_its_capture() -> None:
    """A loop created in one capture runs in a later one: what runs in it then belongs to the later one."""
    with capture():
        old_context = get_current()
    with capture() as captured:
        token = context.attach(old_context)
        extract("x")
        context.detach(token)
    captured.assert_tree("extract")


def test_nested_captures() -> None:
    """The inner capture has only what starts in it; everything else belongs to the outer one."""
    with capture() as outer:
        extract("outer")
        with capture() as inner:
            extract("inner")
        extract("outer again")
    outer.assert_tree("extract  x2")
    inner.assert_tree("extract")


def test_a_remote_parent() -> None:
    """A run below a remote parent is a root of the capture, also if the parent is not sampled."""
    for flags in (0, 1):
        parent = trace.SpanContext(7, 8, True, trace.TraceFlags(flags))
        with capture() as captured, trace.use_span(trace.NonRecordingSpan(parent)):
            extract("x")
        assert captured.roots[0].trace_id == f"{7:032x}"
        captured.assert_tree("extract")


class TestWithUnittest(unittest.TestCase):
    """unittest needs no fixture."""

    def test_in_a_test_case(self) -> None:
        """capture() is a context manager of the test."""
        captured = self.enterContext(capture()) if hasattr(self, "enterContext") else None
        if captured is None:
            manager = capture()
            captured = manager.__enter__()
            self.addCleanup(manager.__exit__, None, None, None)
        extract("x")
        captured.assert_tree("extract")


def test_clear(kit: Capture) -> None:
    """clear() forgets what ran so far."""
    kit.clear()
    assert (kit.spans, kit.events, kit.tree()) == ([], [], "(nothing)")


# --- other providers, each in a separate process ---------------------------------------------------------------------

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
    """Its spans are exported as before and copied to the capture; otelflow's spans go only to the capture."""
    result = run_program(
        PROGRAM
        + f"""
trace.set_tracer_provider(own)
for _ in range(2):
    with capture() as captured:
        mixed().execute()
    captured.assert_tree({TREE!r})
say(sent=sent(), same=trace.get_tracer_provider() is own, processors=len(own._active_span_processor._span_processors))
"""
    )
    assert result.facts == {"sent": ["late", "early"] * 2, "same": True, "processors": 2}, result.stderr


def test_a_provider_that_is_set_afterwards() -> None:
    """Code that fetched its tracer in a capture uses the program's own provider later."""
    result = run_program(
        PROGRAM
        + f"""
with capture() as captured:
    mixed().execute()
captured.assert_tree({TREE!r})
trace.set_tracer_provider(own)
mixed().execute()
say(sent=sent(), spans=len(captured.spans))
"""
    )
    assert result.facts == {"sent": ["step", "late", "early", "mixed"], "spans": 4}, result.stderr
    assert result.stderr == ""


def test_a_program_that_sets_a_provider_in_a_capture() -> None:
    """configure() and set_tracer_provider() have no effect while a capture is active, and work afterwards."""
    result = run_program(
        PROGRAM
        + f"""
with capture() as captured:
    configure()
    trace.set_tracer_provider(own)
    mixed().execute()
captured.assert_tree({TREE!r})
nothing = sent()
trace.set_tracer_provider(own)
mixed().execute()
say(under=nothing, after=sent())
""",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert result.facts == {"under": [], "after": ["step", "late", "early", "mixed"]}, result.stderr
    assert "Overriding of current TracerProvider is not allowed" in result.stderr


def test_the_environment_has_no_effect() -> None:
    """Captures are the same if the environment switches OpenTelemetry off, or sets limits."""
    result = run_program(
        PROGRAM + f"with capture() as captured:\n    mixed().execute()\ncaptured.assert_tree({TREE!r})\nsay(ok=True)",
        OTEL_SDK_DISABLED="true",
        OTEL_TRACES_SAMPLER="always_off",
        OTEL_SPAN_EVENT_COUNT_LIMIT="1",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="1",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="2",
    )
    assert result.facts == {"ok": True}, result.stderr


def test_the_plugin_loads_no_sdk() -> None:
    """pytest loads the plugin wherever otelflow is installed, so it must not import the SDK before it is used."""
    result = run_program(
        "import otelflow.pytest_plugin, sys\n"
        "say(loaded=[name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'otelflow.testing'))])"
    )
    assert result.facts == {"loaded": []}
