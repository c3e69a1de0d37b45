"""Test marker spans: a long flow is visible before its end, by a marker below its span and by heartbeats."""

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
from otelflow._runs.markers import StartedMarkers, _duration_text
from otelflow._spans import tracer
from otelflow.config import OTELFLOW_HEARTBEAT, OTELFLOW_STARTED_MARKER_AFTER, seconds_from_environment
from otelflow.testing import Capture


class Sent:
    """The spans that a test sends without a capture: through a provider, as a program does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self._patch = monkeypatch
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, **options)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        monkeypatch.setattr(tracer, "override", provider)
        monkeypatch.setattr(tracer, "is_overridden", lambda: False)

    def watch(
        self, mark_all: bool = False, after: float | None = None, heartbeat: float | None = None
    ) -> StartedMarkers:
        """Use these settings in this test."""
        watched = StartedMarkers(mark_all, after, heartbeat)
        self._patch.setattr(flow_and_task, "markers", watched)
        return watched

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._memory.get_finished_spans() if span.name == name]

    def wait_for(self, name: str, number: int = 1) -> list[ReadableSpan]:
        """Wait until there are ``number`` spans of that name, and return them."""
        return until(lambda: spans if len(spans := self.named(name)) >= number else None, name)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


@task
def step() -> None:
    pass


def test_a_flow_is_marked_at_its_start_if_configured(sent: Sent) -> None:
    """With OTELFLOW_STARTED_MARKER a flow has a marker at its start: of zero length, below its span, with an id of its
    own."""
    sent.watch(mark_all=True)
    markers_during_run = []

    @flow(attributes={"customer": "A-7"})
    def nightly() -> None:
        markers_during_run.extend(sent.named("nightly (started)"))

    nightly().execute()
    (root,), (marker,) = sent.named("nightly"), markers_during_run
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


def test_only_outermost_flows_are_marked(sent: Sent) -> None:
    """A nested flow has no marker, unless it is configured; a flow with a trace of its own has one."""
    sent.watch(mark_all=True)

    @flow
    def nested() -> None:
        pass

    @flow(flow_config=FlowRunConfig(started_marker=True))
    def configured() -> None:
        pass

    @flow(new_trace=True)
    def with_new_trace() -> None:
        pass

    @flow
    def outer() -> None:
        for part in (nested, configured, with_new_trace):
            part().execute()

    outer().execute()
    names = ("outer", "nested", "configured", "with_new_trace")
    assert [len(sent.named(f"{name} (started)")) for name in names] == [1, 0, 1, 1]


def test_the_configuration_of_a_flow_overrides_the_environment(sent: Sent) -> None:
    """FlowRunConfig(started_marker=...) wins, both True and False."""
    sent.watch(mark_all=False, after=None)
    Flow(step).execute()
    assert not sent.named("step (started)")
    shown = Flow(step)
    shown.flow_config = FlowRunConfig(started_marker=True)
    shown.execute()
    assert len(sent.named("step (started)")) == 1
    sent.watch(mark_all=True, after=0.01, heartbeat=0.01)
    hidden = Flow(step)
    hidden.flow_config = FlowRunConfig(started_marker=False)
    hidden.execute()
    assert len(sent.named("step (started)")) == 1


def test_a_flow_is_marked_when_it_has_run_for_a_while(sent: Sent) -> None:
    """A flow older than the limit is marked once, while it runs; one that ended before is not watched."""
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
    until(lambda: not watched.open, "end of watching a flow that needs no more markers")
    go_on.set()
    running.join()
    (root,) = sent.named("long")
    assert marker.start_time == root.start_time


def test_the_thread_ends_when_no_flow_runs(sent: Sent) -> None:
    """It starts with the first flow, ends when there is none, and starts again with the next."""
    watched = sent.watch(after=0.05)

    @flow
    def short() -> None:
        pass

    for _ in range(3):
        short().execute()
        until(lambda: watched._thread is None, "end of the thread")
    assert not watched.open


def test_no_thread_starts_if_no_marker_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that is not sampled has no marker and starts no thread; nor does a flow if all markers are off."""
    not_sampled = Sent(monkeypatch, sampler=ALWAYS_OFF)
    watched = not_sampled.watch(mark_all=True, after=0.01, heartbeat=0.01)
    Flow(step).execute()
    assert (watched._thread, watched.open) == (None, {})
    off = Sent(monkeypatch).watch()
    Flow(step).execute()
    assert (off._thread, off.open) == (None, {})


def test_a_capture_has_no_markers(captured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the process do not change what a test captures."""
    watched = StartedMarkers(True, 0.01, 0.01)
    monkeypatch.setattr(flow_and_task, "markers", watched)
    Flow(step).execute()
    assert [run.name for run in captured.flows] == ["step"]
    assert len(captured.flows[0].children) == 1
    assert watched._thread is None


def test_a_heartbeat_shows_what_the_flow_does(sent: Sent) -> None:
    """Its first attributes are: time, progress, last message and running tasks."""
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


def test_heartbeats_are_repeated(sent: Sent) -> None:
    """Each has its own time, while the flow runs; missed ones are not sent later."""
    watched = sent.watch(mark_all=True, heartbeat=0.1)

    @flow
    async def nightly() -> None:
        await asyncio.to_thread(sent.wait_for, "nightly (running)", 3)

    nightly().execute()
    (start,) = (span.start_time or 0 for span in sent.named("nightly"))
    intervals = [((span.start_time or 0) - start) // 100_000_000 for span in sent.named("nightly (running)")]
    assert intervals == sorted({max(1, interval) for interval in intervals})
    assert (len(sent.named("nightly (started)")), watched.open) == (1, {})


def test_watching_does_not_keep_a_flow_alive(sent: Sent) -> None:
    """A flow that is freed before its end is not watched any more."""
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
    """A flow that cannot be marked runs normally."""
    sent.watch(mark_all=True)
    monkeypatch.setattr(markers, "_duration_text", None)

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
def test_the_limit_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float | None
) -> None:
    """It is in seconds; 0 and never switch it off; another value is logged, and the default is used."""
    monkeypatch.setenv(OTELFLOW_STARTED_MARKER_AFTER, text)
    assert seconds_from_environment(OTELFLOW_STARTED_MARKER_AFTER, 60.0) == seconds
    monkeypatch.delenv(OTELFLOW_HEARTBEAT, raising=False)
    assert seconds_from_environment(OTELFLOW_HEARTBEAT, 0) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (7500, "2 h 05 min"), (3 * 86400 + 4 * 3600, "3 d 04 h")],
)
def test_durations_are_formatted_for_people(seconds: float, words: str) -> None:
    """The text has at most two units."""
    assert _duration_text(seconds) == words


NIGHTLY = """
import sys
@flow
def nightly():
    step(1)
    print("FACTS " + json.dumps({"trace_id": current_flow().trace_id}), file=sys.__stdout__, flush=True)
    sys.stdin.readline()
    step(2)
configure()
nightly().execute()
"""

# --- in programs ------------------------------------------------------------------------------------------------------


def test_a_marker_is_sent_at_once(sink: Sink) -> None:
    """A marker does not wait for the batch; the spans of ended tasks are sent with it."""
    result = run(
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
    assert result.returncode == 0, result.stderr
    assert sorted(span.name for span, _, _ in sink.spans) == ["nightly (started)", "step"]
    assert {attributes_of(span)["otelflow.flow.name"] for span, _, _ in sink.spans} == {"nightly"}


def test_a_forked_child_marks_its_own_flows(sink: Sink) -> None:
    """The parent marks its flow once; the child marks its own flow."""
    result = run(
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
    assert result.returncode == 0, result.stderr
    names = sorted(span.name for span, _, _ in sink.spans)
    assert names == ["inner", "inner (started)", "outer", "outer (started)"]


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with running_backends("jaeger") as started:
        yield started


@pytest.mark.skipif(missing_backend("jaeger") is not None, reason=str(missing_backend("jaeger")))
def test_jaeger_shows_a_flow_before_its_end(backends: Backends) -> None:
    """Before the end, the trace has the marker and the ended tasks, below a span that is missing. After the end it is a
    complete tree: the flow is one row, and the marker is one row."""
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
        trace_id = json.loads(program.stdout.readline().removeprefix("FACTS "))["trace_id"]
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
