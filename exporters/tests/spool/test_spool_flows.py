"""Flows that are open when their process dies: the spool closes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from programs import run
from receiver import attributes_of
from spool_backend import Backend
from spool_programs import HEAD


@pytest.fixture
def backend(stopped_backend: Backend) -> Backend:
    """A backend that is not up yet."""
    return stopped_backend


def test_a_flow_whose_process_died_is_closed(backend: Backend, settings: dict[str, str]) -> None:
    """The next process closes it once, as an error with its own ids and attributes. Flows that had ended are not
    changed."""
    process = run(
        """
        with tracer.start_as_current_span("request") as outer:
            start_flow("ended").end()
            flow = start_flow("died", customer="A-1")
            tracer.start_span("not a flow")
            print('FACTS {"span": "%016x", "trace": "%032x", "parent": "%016x", "start": %d}' % (
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
    ((span, resource, scope),) = [entry for entry in backend.spans if entry[0].name == "died"]
    facts = process.facts
    assert (span.span_id.hex(), span.trace_id.hex(), span.parent_span_id.hex(), span.start_time_unix_nano) == (
        facts["span"],
        facts["trace"],
        facts["parent"],
        facts["start"],
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


def test_a_flow_without_exported_spans_is_closed(backend: Backend, settings: dict[str, str]) -> None:
    """The process died before its first export. The next process's flush closes the flow and waits for it."""
    run("flow = start_flow('alone'); die()", head=HEAD, **settings)
    backend.up()
    process = run("sys.exit(not exporter.force_flush(20_000))", head=HEAD, **settings)
    assert (process.returncode, backend.names) == (0, ["alone"])


def test_a_flow_of_otelflow_whose_process_died_is_closed(backend: Backend, settings: dict[str, str]) -> None:
    """Its finished task arrives as well, as its child."""
    process = run(
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
    assert process.returncode == -9
    backend.up()
    assert run("configure(); flush(20)", **settings).returncode == 0
    spans = {span.name: span for span, _, _ in backend.spans}
    assert sorted(spans) == ["order", "step"]
    assert spans["step"].parent_span_id == spans["order"].span_id
    assert spans["order"].status.message == "process died"


def test_a_child_does_not_close_its_parents_flow(backend: Backend, settings: dict[str, str]) -> None:
    """The child may end the span object that it has inherited. The flow belongs to the parent, and is closed when the
    parent dies."""
    run(
        """
        flow = start_flow("parent's")
        if os.fork() == 0:
            flow.end()
            start_flow("child's").end()
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
    """One of thousands of flows is open all the time. The file is rewritten, and the open flow is still in it."""
    process = run(
        """
        long = start_flow("long")
        for number in range(3000):
            start_flow("short").end()
        print("FACTS {\\"size\\": %d}" % os.path.getsize(exporter._spool._journal_path()), flush=True)
        die()
        """,
        head=HEAD,
        **settings,
    )
    assert 0 < process.facts["size"] < 600_000
    from otelflow_exporters._spool.open_flows import encode_closed_flows

    (journal,) = (path for path in (tmp_path / "spool").iterdir() if path.suffix == ".flows")
    assert encode_closed_flows(str(journal), 0)[1] == 1
    for content in (b"", journal.read_bytes()[:10], journal.read_bytes()[:-3], os.urandom(500)):
        journal.write_bytes(content)
        assert encode_closed_flows(str(journal), 0)[1] <= 2


def test_a_flow_that_is_open_at_exit_is_closed_by_the_next_process(backend: Backend, settings: dict[str, str]) -> None:
    """The process ended normally, but not its flow: an unfinished generator, or a thread that was not joined."""
    run("flow = start_flow('left'); provider.shutdown()", head=HEAD, **settings)
    backend.up()
    run("exporter.force_flush(20_000); provider.shutdown()", head=HEAD, **settings)
    assert backend.names == ["left"]


def test_exit_is_quick_when_the_backend_is_down(backend: Backend, settings: dict[str, str]) -> None:
    """A program with the bare SDK ends in time, and its spans are on disk."""
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
