"""Messages and artifacts in Loki, as a dashboard asks for them: found by flow, with the trace that they belong to."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from backends import Backends, ask, missing_backend, missing_loki, running_backends
from programs import run
from services import until

from dashboards import panel_queries

WHY = missing_backend() or missing_loki()
pytestmark = pytest.mark.skipif(WHY is not None, reason=str(WHY))

PROGRAM = """
import json
from otelflow import configure, flow, flush, task

@task
def load(this_task=None):
    this_task.log_warning("3 rows are missing", rows=3)
    this_task.add_artifact("table", key="table", data={"rows": [1, 2]})

@flow
def nightly(this_flow=None):
    load()
    this_flow.log_info("done")

configure("shop")
made = nightly()
made.execute()
print(json.dumps([bool(flush()), made.trace_id]))
"""


def lines(backends: Backends, query: str) -> list[tuple[str, dict[str, str]]]:
    """What Loki finds, with all that it knows of each line, the oldest first."""
    now = time.time_ns()
    window = {"start": now - 600 * 10**9, "end": now + 60 * 10**9, "direction": "forward"}
    found = ask(f"{backends.loki}/loki/api/v1/query_range", query=query, **window)["data"]["result"]
    return [(line, {**stream["stream"], **dict(*more)}) for stream in found for _, line, *more in stream["values"]]


def test_messages_and_artifacts_are_found_by_flow() -> None:
    """By the dashboard's own query; each line leads to the trace, its severity is there, its data as well."""
    with running_backends(loki=True) as backends:
        until(lambda: ready(backends), "a Loki that is ready", 60)
        done = run(PROGRAM, head="", OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTELFLOW_EVENTS="both")
        whole, trace_id = json.loads(done.stdout)
        assert whole, done.stderr
        (query,) = {query.text for query in panel_queries(flow="nightly") if query.kind == "loki"}
        found = until(lambda: of_all(lines(backends, query)), "lines", 30)
        assert {said["trace_id"] for said in found.values()} == {trace_id}
        missing = found["3 rows are missing"]
        assert (missing["severity_text"], missing["otelflow_task_name"]) == ("WARN", "load")
        assert "otelflow_task_name" not in found["done"]
        assert until(lambda: backends.trace(trace_id), "the trace")
        nothing = next(one.text for one in panel_queries(flow="another") if one.kind == "loki")
        assert lines(backends, nothing) == []


def ready(backends: Backends) -> bool:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(f"{backends.loki}/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except HTTPError:
        return False


def of_all(found: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """By line, once all three are there."""
    return dict(found) if len(found) >= 3 else None
