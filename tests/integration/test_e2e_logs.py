"""Messages and artifacts in Loki: a dashboard's query finds them by flow, with their trace."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from backends import Backends, get_json, missing_backend, missing_loki, running_backends
from programs import run
from services import until

from dashboards import panel_queries

MISSING = missing_backend() or missing_loki()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

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
run = nightly()
run.execute()
print(json.dumps([bool(flush()), run.trace_id]))
"""


def lines(backends: Backends, query: str) -> list[tuple[str, dict[str, str]]]:
    """Return the lines that Loki finds, the oldest first, each with its labels and metadata."""
    now = time.time_ns()
    window = {"start": now - 600 * 10**9, "end": now + 60 * 10**9, "direction": "forward"}
    streams = get_json(f"{backends.loki}/loki/api/v1/query_range", query=query, **window)["data"]["result"]
    return [(line, {**stream["stream"], **dict(*extra)}) for stream in streams for _, line, *extra in stream["values"]]


def test_messages_and_artifacts_are_found_by_flow() -> None:
    """The dashboard's own query finds them. Each line has its trace, its severity and its data."""
    with running_backends(loki=True) as backends:
        until(lambda: ready(backends), "a Loki that is ready", 60)
        result = run(PROGRAM, head="", OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTELFLOW_EVENTS="both")
        whole, trace_id = json.loads(result.stdout)
        assert whole, result.stderr
        (query,) = {query.text for query in panel_queries(flow="nightly") if query.kind == "loki"}
        labels_by_line = until(lambda: by_line(lines(backends, query)), "lines", 30)
        assert {labels["trace_id"] for labels in labels_by_line.values()} == {trace_id}
        missing = labels_by_line["3 rows are missing"]
        assert (missing["severity_text"], missing["otelflow_task_name"]) == ("WARN", "load")
        assert "otelflow_task_name" not in labels_by_line["done"]
        assert until(lambda: backends.trace(trace_id), "the trace")
        other_query = next(q.text for q in panel_queries(flow="another") if q.kind == "loki")
        assert lines(backends, other_query) == []


def ready(backends: Backends) -> bool:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(f"{backends.loki}/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except HTTPError:
        return False


def by_line(pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
    """Return the labels by line, once all three lines are there; else None."""
    return dict(pairs) if len(pairs) >= 3 else None
