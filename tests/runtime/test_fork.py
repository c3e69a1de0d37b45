"""Test os.fork inside a flow: each span is exported once, by the process that began it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from programs import run
from receiver import Sink
from scripted_grpc_receiver import ScriptedGrpc
from scripted_receiver import Answer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def forking_program(child: str, exporters: str = '"otlp"') -> str:
    """Return a program whose flow forks in a task.

    The child runs ``child``, then leaves the flow as the parent does.
    """
    return f"""
configure(exporters={exporters})

@task
def forks(this_flow=None, this_task=None):
    pid = os.fork()
    if pid == 0:
        {child}
        return "child"
    os.waitpid(pid, 0)
    step(99)
    return "parent"

@flow
def whole(this_flow=None):
    this_flow.log_info("before")
    return forks()

run = whole().execute()
say(**{{run.return_value: dict(status=run.status, tasks=[task.name for task in run.tasks])}})
"""


def test_each_span_is_exported_once(sink: Sink) -> None:
    """The parent exports its spans. The child exports only its own task, below the span in which it was forked."""
    # Python 3.12 and later warn about a fork in a process with threads.
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    result = run(forking_program("step(1)"), OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, **quiet)
    assert result.stderr == ""
    assert result.facts["parent"]["status"] == "completed"
    spans = {span.span_id: span for span, _, _ in sink.spans}
    assert len(spans) == len(sink.spans)
    assert Counter(span.name for span in spans.values()) == {"whole": 1, "forks": 1, "step": 2}
    parents = {span.name: spans[span.parent_span_id].name for span in spans.values() if span.parent_span_id}
    assert parents == {"forks": "whole", "step": "forks"}
    assert len({span.trace_id for span in spans.values()}) == 1
    run_ids = [a.value.string_value for s in spans.values() for a in s.attributes if a.key == "otelflow.task.run_id"]
    assert len(set(run_ids)) == 3


def test_an_inherited_run_records_nothing_in_the_child(sink: Sink) -> None:
    """In the child, a run of the parent emits no STOP and no message. Its lost records are counted."""
    listen = (
        "events = []; "
        "otelflow.flow_events.listen(lambda e: events.append((e.event_type.value, e.event_data.task_name)))"
    )
    records = 'this_flow.log_info("lost"); this_task.add_result("lost"); step(1)'
    child = f"{listen}; {records}; globals().update(events=events)"
    result = run(
        forking_program(child)
        + """
if run.return_value == "child":
    say(events=events, dropped=stats().dropped, stdout=type(sys.stdout).__name__, current=str(otelflow.current_flow()))
""",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert result.facts["events"] == [["task_start", "step"], ["flow_message", "step"], ["task_stop", "step"]]
    assert result.facts["dropped"] == {"after_fork": 2}
    assert (result.facts["stdout"], result.facts["current"]) == ("TextIOWrapper", "None")
    texts = [event for span, _, _ in sink.spans for event in span.events if event.name == "otelflow.message"]
    assert len(texts) == 3  # "before", and one of each step


def test_an_exception_in_the_child_is_unchanged() -> None:
    """An exception in the child passes through the inherited runs unchanged."""
    result = run(forking_program("raise LookupError('in the child')", exporters="[]"))
    assert "LookupError: in the child" in result.stderr
    assert result.facts["parent"]["status"] == "completed"


@pytest.mark.parametrize("exporter", ["otlp", "otelflow_spool"])
def test_a_child_forked_during_a_grpc_request_does_not_use_grpc(exporter: str, tmp_path: Path) -> None:
    """gRPC aborts some children that use it then. So the child's spans count as lost, and nothing waits for them.

    The spool keeps the spans for other processes. The fork does not wait for the request.
    """
    receiver = ScriptedGrpc([Answer(hangs=True)])
    try:
        result = run(
            """
            configure(); work(1).execute(); time.sleep(1.5)
            start = time.monotonic(); child = os.fork(); seconds = time.monotonic() - start
            if not child:
                work(1).execute(); report = shutdown(1)
                say(lost=report.lost, pending=report.pending); sys.stdout.flush()
                os._exit(0)
            say(code=os.waitpid(child, 0)[1], seconds=seconds)
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_TRACES_EXPORTER=exporter,
            OTELFLOW_EXPORTER_SPOOL_DIR=str(tmp_path / "spool"),
        )
    finally:
        receiver.close()
    assert result.facts["code"] == 0, result.stderr
    assert result.facts["seconds"] < 1
    is_spool = exporter == "otelflow_spool"
    assert (result.facts["lost"], result.facts["pending"]) == (({}, 4) if is_spool else ({"refused": 2}, 0)), (
        result.stderr
    )
