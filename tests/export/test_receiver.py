"""Flows that are sent to real receivers over gRPC and HTTP arrive complete and unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import programs
import pytest
import receiver as receivers

PROGRAM = """
from opentelemetry import trace

@task(raise_on_error=False, attributes={"attempt": 1, "ratio": 0.5, "ok": True, "tags": ["a", "b"]})
def fails():
    raise LookupError("not \\u00fcber here")

@task
def makes(this_task=None, this_flow=None):
    this_task.log_warning("low on space", left=3)
    this_task.add_artifact("Rows", "rows", {"count": 2}, "json")
    this_flow.add_flow_result("total", "2 rows")

@flow(new_trace=True)
def apart():
    step(1)

@flow(name="nightly \\u2713")
def nightly():
    fails()
    makes()
    apart().execute()
    return [step(i) for i in range(500)]

configure("receiver-test", resource_attributes={"deployment.environment.name": "test"})
run = nightly().execute()
report = flush(20)
say(trace_id=run.trace_id, span_id=run.span_id, run_id=run.run_id, delivered=report.delivered, ok=bool(report),
    tasks=[[t.name, t.span_id, t.run_id, t.status] for t in run.tasks], protocol=type(
        trace.get_tracer_provider()._active_span_processor._span_processors[0].pipeline.exporter.sender).__module__)
"""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_flow_arrives_complete_and_unchanged(receiver: receivers.Receiver, protocol: str, compression: str) -> None:
    """Ids, parents, attributes, events, status, links, resource and scope are those of the run."""
    receiver.sink.spans.clear()
    process = programs.run(
        PROGRAM,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc if protocol == "grpc" else receiver.http,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_COMPRESSION=compression,
    )
    assert process.returncode == 0, process.stderr
    facts = process.facts
    assert ("grpc" in facts["protocol"]) == (protocol == "grpc")
    expected = 1 + len(facts["tasks"]) + 2
    assert (facts["ok"], facts["delivered"]) == (True, expected)
    arrived = receiver.sink.wait_for(expected)
    assert len(arrived) == expected
    spans = {span.span_id.hex(): span for span, _, _ in arrived}
    assert len(spans) == expected

    root = spans[facts["span_id"]]
    assert (root.name, root.parent_span_id, root.trace_id.hex()) == ("nightly ✓", b"", facts["trace_id"])
    for name, span_id, run_id, status in facts["tasks"]:
        span = spans[span_id]
        attributes = receivers.attributes_of(span)
        assert (span.name, span.parent_span_id, span.trace_id) == (name, root.span_id, root.trace_id)
        assert attributes["otelflow.task.run_id"] == run_id
        assert attributes["otelflow.flow.run_id"] == facts["run_id"]
        assert attributes["otelflow.status"] == status
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0

    assert_details(spans.values(), root)
    (resource, scope) = arrived[0][1:]
    assert receivers.attributes_of(resource)["service.name"] == "receiver-test"
    assert receivers.attributes_of(resource)["deployment.environment.name"] == "test"
    assert scope.name == "otelflow"


def assert_details(spans: Any, root: Any) -> None:
    """Check the failed task, the events, and the linked trace."""
    by_name = {span.name: span for span in spans}
    fails, makes, apart = by_name["fails"], by_name["makes"], by_name["apart"]
    attributes = receivers.attributes_of(fails)
    assert (fails.status.code, fails.status.message) == (2, "LookupError: not über here")
    assert [attributes[key] for key in ("attempt", "ratio", "ok", "tags")] == [1, 0.5, True, ["a", "b"]]
    assert attributes["error.type"] == "LookupError"
    assert [event.name for event in fails.events] == ["exception", "otelflow.message"]
    assert receivers.attributes_of(fails.events[0])["exception.message"] == "not über here"
    assert [event.name for event in makes.events] == ["otelflow.message", "otelflow.artifact"]
    assert receivers.attributes_of(makes.events[0]) == {
        "otelflow.message.text": "low on space",
        "otelflow.message.severity": "WARNING",
        "left": 3,
    }
    assert receivers.attributes_of(makes.events[1])["otelflow.artifact.data"] == '{"count": 2}'
    assert [event.name for event in root.events] == ["otelflow.result"]
    assert apart.trace_id != root.trace_id
    assert [link.span_id for link in apart.links] == [root.span_id]
    assert [link.span_id for link in root.links] == [apart.span_id]
    assert receivers.attributes_of(root)["otelflow.flow.tasks"] == 502


def test_port_4317_means_grpc(receiver: receivers.Receiver) -> None:
    """If no protocol is set: an endpoint with another port uses HTTP."""
    from otelflow._providers.exporters import make_exporter

    exporters = [make_exporter("otlp", endpoint) for endpoint in ("http://localhost:4317", receiver.http)]
    assert ["grpc" in exporter.component_type for exporter in exporters] == [True, False]
    for exporter in exporters:
        exporter.shutdown()


def test_the_demo_prints_and_sends_its_spans(receiver: receivers.Receiver, tmp_path: Path) -> None:
    """``otelflow demo FOLDER`` with an endpoint prints the tree and delivers the spans."""
    receiver.sink.spans.clear()
    (tmp_path / "good.py").write_text("import os\ndef f(): pass\n")
    (tmp_path / "bad.py").write_text("def f(:\n")
    process = programs.run(
        "from otelflow.cli import main; sys.exit(main(['demo', os.environ['FOLDER']]))",
        FOLDER=str(tmp_path),
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http,
    )
    assert process.returncode == 0, process.stderr
    assert "6 spans delivered to" in process.stdout
    names = sorted(span.name for span, _, _ in receiver.sink.wait_for(6))
    assert names == ["analyse", "parse", "parse", "read_coverage", "scan", "summarise"]
