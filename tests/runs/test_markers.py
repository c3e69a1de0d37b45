"""A flow that runs for long is visible before it ends: by a marker below its span, and by heartbeats."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from backends import Backends, missing_backend, running_backends
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from programs import HEAD, clean_environment, run
from receiver import Sink, attributes_of
from services import until

from otelflow import Flow, FlowRunConfig, flow, task
from otelflow._runs import flow_and_task, markers
from otelflow._runs.markers import StartedMarkers, _in_words
from otelflow._spans import tracer
from otelflow.config import OTELFLOW_HEARTBEAT, OTELFLOW_STARTED_MARKER_AFTER, seconds_from_environment
from otelflow.testing import Capture


class Sent:
    """Where spans of a test go that is not captured: to a provider as a program has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self._patch = monkeypatch
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **options)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        monkeypatch.setattr(tracer, "override", provider)
        monkeypatch.setattr(tracer, "is_overridden", lambda: False)

    def watch(self, each: bool = False, after: float | None = None, heartbeat: float | None = None) -> StartedMarkers:
        """What the process's settings are in this test."""
        made = StartedMarkers(each, after, heartbeat)
        self._patch.setattr(flow_and_task, "markers", made)
        return made

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._memory.get_finished_spans() if span.name == name]

    def wait_for(self, name: str, number: int = 1) -> list[ReadableSpan]:
        """The spans of that name, as soon as there are so many."""
        return until(lambda: found if len(found := self.named(name)) >= number else None, name)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


@task
def step() -> None:
    pass


def test_at_once_where_it_is_asked_for(sent: Sent) -> None:
    """With OTELFLOW_STARTED_MARKER a flow is shown as it begins: of no length, below its span, under its own id."""
    sent.watch(each=True)
    seen = []

    @flow(attributes={"customer": "A-7"})
    def nightly() -> None:
        seen.extend(sent.named("nightly (started)"))

    nightly().execute()
    (root,), (marker,) = sent.named("nightly"), seen
    assert marker.parent is not None
    assert marker.context is not None
    assert root.context is not None
    assert (marker.parent.span_id, marker.context.trace_id) == (root.context.span_id, root.context.trace_id)
    assert marker.context.span_id != root.context.span_id
    assert root.start_time == marker.start_time == marker.end_time
    assert marker.attributes == {
        **{key: root.attributes[key] for key in marker.attributes or {}},  # type: ignore[index]
        "otelflow.kind": "started",
        "customer": "A-7",
    }
    assert {"otelflow.flow.name", "otelflow.flow.run_id"} <= set(marker.attributes or {})
    assert not sent.named("nightly (running)")


def test_only_the_outermost(sent: Sent) -> None:
    """A nested flow has no marker, unless it says so itself; one with a trace of its own has."""
    sent.watch(each=True)

    @flow
    def nested() -> None:
        pass

    @flow(flow_config=FlowRunConfig(started_marker=True))
    def asked() -> None:
        pass

    @flow(new_trace=True)
    def apart() -> None:
        pass

    @flow
    def outer() -> None:
        for part in (nested, asked, apart):
            part().execute()

    outer().execute()
    assert [len(sent.named(f"{name} (started)")) for name in ("outer", "nested", "asked", "apart")] == [1, 0, 1, 1]


def test_one_flow_says_for_itself(sent: Sent) -> None:
    """FlowRunConfig goes before the environment, both ways."""
    sent.watch(each=False, after=None)
    Flow(step).execute()
    assert not sent.named("step (started)")
    shown = Flow(step)
    shown.flow_config = FlowRunConfig(started_marker=True)
    shown.execute()
    assert len(sent.named("step (started)")) == 1
    sent.watch(each=True, after=0.01, heartbeat=0.01)
    hidden = Flow(step)
    hidden.flow_config = FlowRunConfig(started_marker=False)
    hidden.execute()
    assert len(sent.named("step (started)")) == 1


def test_when_it_has_run_for_a_while(sent: Sent) -> None:
    """A flow older than the limit is shown, once, while it runs; one that ended before is not looked at."""
    watched = sent.watch(after=0.2)
    go_on = threading.Event()

    @flow
    def short() -> None:
        pass

    @flow
    def long() -> None:
        step()
        go_on.wait(20)

    short().execute()
    assert not watched.open
    running = threading.Thread(target=lambda: long().execute())
    running.start()
    (marker,) = sent.wait_for("long (started)")
    assert not sent.named("long")
    until(lambda: not watched.open, "end of watching what needs nothing more")
    go_on.set()
    running.join()
    (root,) = sent.named("long")
    assert marker.start_time == root.start_time


def test_the_thread_goes_when_nothing_runs(sent: Sent) -> None:
    """It starts with the first flow, ends when there is none, and starts again with the next."""
    watched = sent.watch(after=0.05)

    @flow
    def short() -> None:
        pass

    for _ in range(3):
        short().execute()
        until(lambda: watched._thread is None, "end of the thread")
    assert not watched.open


def test_no_thread_where_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sampled out has no marker and starts no thread; nor does a flow where all is switched off."""
    sampled_out = Sent(monkeypatch, sampler=ALWAYS_OFF)
    watched = sampled_out.watch(each=True, after=0.01, heartbeat=0.01)
    Flow(step).execute()
    assert (watched._thread, watched.open) == (None, {})
    off = Sent(monkeypatch).watch()
    Flow(step).execute()
    assert (off._thread, off.open) == (None, {})


def test_a_capture_has_none(captured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test captures does not change with the settings of the process."""
    watched = StartedMarkers(True, 0.01, 0.01)
    monkeypatch.setattr(flow_and_task, "markers", watched)
    Flow(step).execute()
    assert [run.name for run in captured.flows] == ["step"]
    assert len(captured.flows[0].children) == 1
    assert watched._thread is None


def test_a_heartbeat_says_what_it_does(sent: Sent) -> None:
    """How long it runs, how far it is, what it said last, which tasks it is in: before all else."""
    sent.watch(heartbeat=0.1)

    @task
    def load() -> None:
        sent.wait_for("nightly (running)")

    @flow
    def nightly(this_flow: Any = None) -> None:
        this_flow.progress(1, 3)
        this_flow.log_info("page 1 of 3")
        step()
        load()

    nightly().execute()
    attributes = dict(sent.named("nightly (running)")[0].attributes or {})
    assert list(attributes.items())[:5] == [
        ("otelflow.running.for", "0 s"),
        ("otelflow.progress.done", 1),
        ("otelflow.progress.total", 3),
        ("otelflow.running.message", "page 1 of 3"),
        ("otelflow.running.tasks", ("load",)),
    ]
    assert (attributes["otelflow.kind"], attributes["otelflow.flow.name"]) == ("running", "nightly")


def test_heartbeats_come_again(sent: Sent) -> None:
    """Each at its own time, while the flow runs; none is made up for time that was slept through."""
    watched = sent.watch(each=True, heartbeat=0.1)

    @flow
    async def nightly() -> None:
        await asyncio.to_thread(sent.wait_for, "nightly (running)", 3)

    nightly().execute()
    times = [span.start_time or 0 for span in sent.named("nightly (running)")]
    assert times == sorted(set(times))
    (whole,) = sent.named("nightly")
    intervals = [(time - (whole.start_time or 0)) // 100_000_000 for time in times]
    assert intervals == sorted(set(intervals)), "more than one in an interval"
    assert intervals[0] >= 1
    assert len(sent.named("nightly (started)")) == 1
    assert not watched.open


def test_it_holds_no_flow(sent: Sent) -> None:
    """A flow that is dropped before its end is not kept alive by being watched."""
    watched = sent.watch(after=0.05)

    @flow
    def numbers() -> Iterator[int]:
        yield 1

    stepped = iter(numbers())
    next(stepped)
    assert len(watched.open) == 1
    del stepped
    until(lambda: watched._thread is None, "end of the thread")
    assert not watched.open


def test_a_sampler_that_raises(monkeypatch: pytest.MonkeyPatch, sent: Sent) -> None:
    """What cannot be marked runs as it is."""
    sent.watch(each=True)
    monkeypatch.setattr(markers, "_in_words", None)

    @flow
    def work() -> str:
        provider: Any = tracer.override
        monkeypatch.setattr(provider, "sampler", None)
        return "done"

    assert work().execute().return_value == "done"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 60.0), ("0", None), ("never", None), ("NEVER ", None), ("2.5", 2.5), ("soon", 60.0), ("inf", 60.0)],
)
def test_the_limit_is_set(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float | None) -> None:
    """Seconds; 0 and never switch it off; what is neither is logged, and the default holds."""
    monkeypatch.setenv(OTELFLOW_STARTED_MARKER_AFTER, text)
    assert seconds_from_environment(OTELFLOW_STARTED_MARKER_AFTER, 60.0) == seconds
    monkeypatch.delenv(OTELFLOW_HEARTBEAT, raising=False)
    assert seconds_from_environment(OTELFLOW_HEARTBEAT, 0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7500, "2 h 05 min"), (3 * 86400 + 4 * 3600, "3 d 04 h")],
)
def test_words_for_a_person(seconds: float, words: str) -> None:
    """What one reads at three in the morning."""
    assert _in_words(seconds) == words


NIGHTLY = """
import sys
@flow
def nightly():
    step(1)
    print("SAID " + json.dumps({"trace_id": current_flow().trace_id}), file=sys.__stdout__, flush=True)
    sys.stdin.readline()
    step(2)
configure()
nightly().execute()
"""

# --- in programs ------------------------------------------------------------------------------------------------------


def test_sent_at_once(sink: Sink) -> None:
    """A marker does not wait for the batch, and takes along the tasks that have ended."""
    done = run(
        """
        @flow
        def nightly():
            step()
            for _ in range(1000):
                if stats().delivered < 2:
                    time.sleep(0.02)
            step()
            os._exit(0)
        configure()
        nightly().execute()
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        OTELFLOW_STARTED_MARKER_AFTER="0.2",
        OTEL_BSP_SCHEDULE_DELAY="600000",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(span.name for span, _, _ in sink.spans) == ["nightly (started)", "step"]
    assert {attributes_of(span)["otelflow.flow.name"] for span, _, _ in sink.spans} == {"nightly"}


def test_a_forked_child_marks_its_own(sink: Sink) -> None:
    """The parent's flow is marked by the parent, once; a flow of the child's by the child."""
    done = run(
        """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        configure()
        @flow
        def inner():
            time.sleep(0.6)
        @flow
        def outer():
            time.sleep(0.3)
            child = os.fork()
            if not child:
                from opentelemetry.context import attach, Context
                attach(Context())
                inner().execute()
                flush()
                os._exit(0)
            os.waitpid(child, 0)
        outer().execute()
        """,
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
        OTELFLOW_STARTED_MARKER_AFTER="0.2",
    )
    assert done.returncode == 0, done.stderr
    names = sorted(span.name for span, _, _ in sink.spans)
    assert names == ["inner", "inner (started)", "outer", "outer (started)"]


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with running_backends("jaeger") as started:
        yield started


@pytest.mark.skipif(missing_backend("jaeger") is not None, reason=str(missing_backend("jaeger")))
def test_jaeger_shows_it_before_the_end(backends: Backends) -> None:
    """Before the end one trace has the marker and the tasks that ended, below a span that is not there yet; after it
    a whole tree, in which the flow stands once and the marker is one row."""
    program = subprocess.Popen(
        [sys.executable, "-c", HEAD + NIGHTLY],
        env=clean_environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=backends.jaeger_otlp_grpc,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTELFLOW_STARTED_MARKER_AFTER="0.2",
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdin is not None
        trace_id = json.loads(program.stdout.readline().removeprefix("SAID "))["trace_id"]
        before = until(lambda: backends.rows(trace_id, 2), "trace before the end", 60)
        program.stdin.write("go on\n")
        program.stdin.close()
        assert program.wait(60) == 0
    after = until(lambda: backends.rows(trace_id, 4), "trace after the end", 60)
    (missing,) = {parent for _, _, parent in before}
    assert sorted(name for name, _, _ in before) == ["nightly (started)", "step"]
    assert missing not in {identity for _, identity, _ in before}
    assert sorted(name for name, _, _ in after) == ["nightly", "nightly (started)", "step", "step"]
    assert [(identity, parent) for name, identity, parent in after if name == "nightly"] == [(missing, None)]
    assert {parent for name, _, parent in after if name != "nightly"} == {missing}
    assert len({identity for _, identity, _ in after}) == 4
