"""os.fork in the middle of a flow: each span is exported once, by the process that began it."""

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


def forking(child: str, exporters: str = '"otlp"') -> str:
    """A program whose flow forks within a task; the child does ``child`` and leaves the flow as the parent does."""
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

made = whole().execute()
say(**{{made.return_value: dict(status=made.status, tasks=[task.name for task in made.tasks])}})
"""


def test_each_span_is_exported_once(sink: Sink) -> None:
    """The parent exports what it began; the child only its own task, below the span where it was forked."""
    # From Python 3.12 on, a fork beside any thread is warned of.
    quiet = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}
    done = run(forking("step(1)"), OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint, **quiet)
    assert done.stderr == ""
    assert done.said["parent"]["status"] == "completed"
    spans = {span.span_id: span for span, _, _ in sink.spans}
    assert len(spans) == len(sink.spans)
    assert Counter(span.name for span in spans.values()) == {"whole": 1, "forks": 1, "step": 2}
    parents = {span.name: spans[span.parent_span_id].name for span in spans.values() if span.parent_span_id}
    assert parents == {"forks": "whole", "step": "forks"}
    assert len({span.trace_id for span in spans.values()}) == 1
    run_ids = [a.value.string_value for s in spans.values() for a in s.attributes if a.key == "otelflow.task.run_id"]
    assert len(set(run_ids)) == 3


def test_an_inherited_run_ends_in_silence(sink: Sink) -> None:
    """In the child a run of the parent's says nothing: no STOP, no message on a span; what it is told is counted."""
    heard = (
        "heard = []; otelflow.flow_events.listen(lambda e: heard.append((e.event_type.value, e.event_data.task_name)))"
    )
    child = f'{heard}; this_flow.log_info("lost"); this_task.add_result("lost"); step(1); globals().update(heard=heard)'
    done = run(
        forking(child)
        + """
if made.return_value == "child":
    say(heard=heard, dropped=stats().dropped, stdout=type(sys.stdout).__name__, current=str(otelflow.current_flow()))
""",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.endpoint,
    )
    assert done.said["heard"] == [["task_start", "step"], ["flow_message", "step"], ["task_stop", "step"]]
    assert done.said["dropped"] == {"after_fork": 2}
    assert (done.said["stdout"], done.said["current"]) == ("TextIOWrapper", "None")
    texts = [event for span, _, _ in sink.spans for event in span.events if event.name == "otelflow.message"]
    assert len(texts) == 3  # "before", and one of each step


def test_an_exception_leaves_the_child_as_it_is() -> None:
    """An exception in the child goes through the inherited runs unchanged."""
    done = run(forking("raise LookupError('in the child')", exporters="[]"))
    assert "LookupError: in the child" in done.stderr
    assert done.said["parent"]["status"] == "completed"


@pytest.mark.parametrize("exporter", ["otlp", "otelflow_spool"])
def test_a_fork_in_the_middle_of_a_grpc_request(exporter: str, tmp_path: Path) -> None:
    """gRPC aborts some of the children that use it then, so none does: what it made is counted as lost, and not waited
    for; the spool keeps it for other processes. The fork does not wait for the request."""
    receiver = ScriptedGrpc([Answer(hangs=True)])
    try:
        done = run(
            """
            configure(); work(1).execute(); time.sleep(1.5)
            began = time.monotonic(); child = os.fork(); took = time.monotonic() - began
            if not child:
                work(1).execute(); report = shutdown(1)
                say(lost=report.lost, pending=report.pending); sys.stdout.flush()
                os._exit(0)
            say(code=os.waitpid(child, 0)[1], took=took)
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
            OTEL_BSP_SCHEDULE_DELAY="50",
            OTEL_TRACES_EXPORTER=exporter,
            OTELFLOW_EXPORTER_SPOOL_DIR=str(tmp_path / "spool"),
        )
    finally:
        receiver.close()
    assert done.said["code"] == 0, done.stderr
    assert done.said["took"] < 1
    is_spool = exporter == "otelflow_spool"
    assert (done.said["lost"], done.said["pending"]) == (({}, 4) if is_spool else ({"refused": 2}, 0)), done.stderr
