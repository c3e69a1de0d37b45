"""Flows whose process died: the spool closes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from programs import run
from receiver import attributes_of
from spool_backend import Backend
from spool_programs import HEAD


@pytest.fixture
def backend(down: Backend) -> Backend:
    """A backend that is not up yet."""
    return down


# --- flows whose process died ---------------------------------------------------------------------------------------


def test_a_flow_whose_process_died_is_closed(backend: Backend, settings: dict[str, str]) -> None:
    """At the next start, under its own ids: an error that says so, with what was known; those that had ended are left
    alone. Once, however many processes look."""
    died = run(
        """
        with tracer.start_as_current_span("request") as outer:
            a_flow("ended").end()
            flow = a_flow("died", customer="A-1")
            tracer.start_span("not a flow")
            print('SAID {"span": "%016x", "trace": "%032x", "parent": "%016x", "start": %d}' % (
                flow.context.span_id, flow.context.trace_id, outer.context.span_id, flow.start_time), flush=True)
            die()
        """,
        head=HEAD,
        **settings,
    )
    backend.up()
    for _ in range(2):
        assert run("sys.exit(not exporter.force_flush(20_000))", head=HEAD, **settings).returncode == 0
    assert sorted(backend.names) == ["died", "ended"]
    ((span, resource, scope),) = [each for each in backend.spans if each[0].name == "died"]
    said = died.said
    assert (span.span_id.hex(), span.trace_id.hex(), span.parent_span_id.hex(), span.start_time_unix_nano) == (
        said["span"],
        said["trace"],
        said["parent"],
        said["start"],
    )
    assert attributes_of(span) == {
        "otelflow.kind": "flow",
        "customer": "A-1",
        "otelflow.status": "failed",
        "error.type": "process_died",
    }
    assert (span.status.code, span.status.message) == (2, "process died")
    assert span.end_time_unix_nano >= span.start_time_unix_nano
    assert scope.name == "any"
    assert attributes_of(resource)["service.name"] == "shop"


def test_a_flow_is_closed_though_nothing_else_was_left(backend: Backend, settings: dict[str, str]) -> None:
    """The process died before its first export: the next one's flush closes the flow, and waits for that."""
    run("flow = a_flow('alone'); die()", head=HEAD, **settings)
    backend.up()
    done = run("sys.exit(not exporter.force_flush(20_000))", head=HEAD, **settings)
    assert (done.returncode, backend.names) == (0, ["alone"])


def test_a_real_flow_whose_process_died(backend: Backend, settings: dict[str, str]) -> None:
    """The same with otelflow: its finished task is there as well, below it."""
    died = run(
        """
        @flow
        def order():
            step(1)
            flush(0.1)
            os.kill(os.getpid(), 9)
        configure()
        order().execute()
        """,
        **settings,
    )
    assert died.returncode == -9
    backend.up()
    assert run("configure(); flush(20)", **settings).returncode == 0
    spans = {span.name: span for span, _, _ in backend.spans}
    assert sorted(spans) == ["order", "step"]
    assert spans["step"].parent_span_id == spans["order"].span_id
    assert spans["order"].status.message == "process died"


def test_a_child_does_not_close_its_parents_flow(backend: Backend, settings: dict[str, str]) -> None:
    """It may end the span object that it has inherited; the flow is the parent's, and is closed when that dies."""
    run(
        """
        flow = a_flow("parent's")
        if os.fork() == 0:
            flow.end()
            own = a_flow("child's")
            own.end()
            os._exit(0)
        os.wait()
        die()
        """,
        head=HEAD,
        **settings,
    )
    backend.up()
    run("exporter.force_flush(20_000)", head=HEAD, **settings)
    by_name = [(span.name, span.status.message) for span, _, _ in backend.spans]
    assert ("parent's", "process died") in by_name
    assert [status for name, status in by_name if name == "child's"] == [""]


def test_the_journal_does_not_grow_with_the_number_of_flows(settings: dict[str, str], tmp_path: Path) -> None:
    """Thousands of flows, one of them open all the time: the file is written anew, and the open one is still in it."""
    died = run(
        """
        long = a_flow("long")
        for number in range(3000):
            a_flow("short").end()
        print("SAID {\\"size\\": %d}" % os.path.getsize(exporter._spool._journal_path()), flush=True)
        die()
        """,
        head=HEAD,
        **settings,
    )
    assert 0 < died.said["size"] < 600_000
    from otelflow_exporters._spool.open_flows import closed_flows

    (journal,) = (path for path in (tmp_path / "spool").iterdir() if path.suffix == ".flows")
    assert closed_flows(str(journal), 0)[1] == 1
    for harm in (b"", journal.read_bytes()[:10], journal.read_bytes()[:-3], os.urandom(500)):
        journal.write_bytes(harm)
        assert closed_flows(str(journal), 0)[1] <= 2


def test_a_flow_that_is_open_at_the_end_is_closed_by_the_next(backend: Backend, settings: dict[str, str]) -> None:
    """A generator that nobody finished, a thread that was left: the process ended in order, its flow did not."""
    run("flow = a_flow('left'); provider.shutdown()", head=HEAD, **settings)
    backend.up()
    run("exporter.force_flush(20_000); provider.shutdown()", head=HEAD, **settings)
    assert backend.names == ["left"]


def test_exit_is_quick_when_the_backend_is_down(backend: Backend, settings: dict[str, str]) -> None:
    """A program of the bare SDK, set up by its variables alone, ends, and its spans are on disk."""
    source = """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from importlib.metadata import entry_points
    (entry,) = entry_points(group="opentelemetry_traces_exporter", name="otelflow_spool")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(entry.load()()))
    for number in range(100):
        provider.get_tracer("any").start_span("s").end()
    """
    assert run(source, head="", timeout=30, **settings).returncode == 0
    backend.up()
    run("exporter.force_flush(20_000)", head=HEAD, **settings)
    assert len(backend.count()) == 100
