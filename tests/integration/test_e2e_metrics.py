"""Metrics with real servers: Prometheus has the runs, from otelflow's own metrics or derived from spans."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from backends import Backends, get_json, missing_backend, running_backends
from programs import run
from services import until

pytestmark = pytest.mark.skipif(missing_backend() is not None, reason=str(missing_backend()))

HEAD = """
import json, time
from otelflow import configure, flow, flush, shutdown, stats, task

@task
def load(fails=False):
    time.sleep(0.002)
    if fails: raise LookupError("no")

@task
def store(): pass

@flow
def nightly(loads=3, failing=0):
    for number in range(loads):
        load(number < failing)
    store()

def often(times, **more):
    for _ in range(times):
        try: nightly(**more).execute()
        except LookupError: pass
"""

RUN = """
configure("SERVICE")
often(4)
often(2, failing=1)
print(bool(flush()))
"""

EXPECTED = {
    ("otelflow_flow_duration_seconds_count", "nightly", "completed"): 4,
    ("otelflow_flow_duration_seconds_count", "nightly", "failed", "LookupError"): 2,
    ("otelflow_task_duration_seconds_count", "nightly", "completed", "load"): 12,
    ("otelflow_task_duration_seconds_count", "nightly", "completed", "store"): 4,
    ("otelflow_task_duration_seconds_count", "nightly", "failed", "load", "LookupError"): 2,
}


@pytest.fixture(scope="module", params=["sent", "derived"])
def source(request: pytest.FixtureRequest) -> str:
    """Return the source of the metrics of flows and tasks."""
    return str(request.param)


@pytest.fixture(scope="module")
def backends(source: str) -> Iterator[Backends]:
    with running_backends(derived=source == "derived") as servers:
        yield servers


def run_counts(backends: Backends, service: str) -> dict[tuple[str, ...], float]:
    """Return Prometheus' numbers of runs, by metric and labels."""
    series = backends.query(f'{{__name__=~"otelflow_(flow|task)_duration_seconds_count",job="{service}"}}')
    keys = ("__name__", "otelflow_flow_name", "otelflow_status", "otelflow_task_name", "error_type")
    return {tuple(labels[key] for key in keys if key in labels): value for labels, value in series}


def test_prometheus_counts_every_run(backends: Backends, source: str) -> None:
    """Each flow and task counts once, with the same names and labels from either source. Sums are seconds."""
    sends = str(source == "sent").lower()
    start = time.time()
    result = run(
        RUN.replace("SERVICE", "counted"), head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTELFLOW_METRICS=sends
    )
    assert result.stdout == "True\n", result.stderr
    until(lambda: run_counts(backends, "counted") == EXPECTED, "numbers of what was run")
    ((_, seconds),) = backends.query('sum(otelflow_task_duration_seconds_sum{job="counted",otelflow_task_name="load"})')
    assert 14 * 0.002 <= seconds <= time.time() - start
    ((_, above),) = backends.query('sum(otelflow_task_duration_seconds_bucket{otelflow_task_name="load",le="0.001"})')
    assert above == 0
    active = backends.query('otelflow_flow_active{job="counted"}')
    assert [value for _, value in active] == ([0.0] if source == "sent" else [])


def test_an_exemplar_leads_from_prometheus_to_jaeger(backends: Backends, source: str) -> None:
    """It has the trace id of a failed run."""
    sends = str(source == "sent").lower()
    run(RUN.replace("SERVICE", "linked"), head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTELFLOW_METRICS=sends)
    failed = 'otelflow_flow_duration_seconds_bucket{job="linked",otelflow_status="failed"}'

    def exemplars() -> Any:
        now = time.time()
        return get_json(f"{backends.prometheus}/api/v1/query_exemplars", query=failed, start=now - 600, end=now + 60)[
            "data"
        ]

    series, *_ = until(exemplars, "an exemplar")  # one for each bucket, and the runs may be in two
    trace_id = series["exemplars"][0]["labels"]["trace_id"]
    trace = until(lambda: backends.trace(trace_id), "its trace")
    (root,) = (span for span in trace["spans"] if not span["references"])
    assert {"key": "otelflow.status", "type": "string", "value": "failed"} in root["tags"]


def test_jaegers_monitor_page_has_numbers(backends: Backends) -> None:
    """It shows calls, errors and latencies by operation, from the Collector's metrics in Prometheus."""
    program = """
    configure("monitored")
    for _ in range(6):
        often(3, failing=1)
        flush()
        time.sleep(0.7)
    """
    run(program, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp)

    def values_by_operation(metric: str, **parameters: Any) -> dict[str, float]:
        query = {
            "service": "monitored",
            "groupByOperation": "true",
            "lookback": 60_000,
            "step": 5_000,
            "ratePer": 60_000,
        }
        answer = get_json(f"{backends.jaeger}/api/metrics/{metric}", spanKind="internal", **query, **parameters)
        return {
            next(label["value"] for label in series["labels"] if label["name"] == "operation"): point["gaugeValue"][
                "doubleValue"
            ]
            for series in answer["metrics"]
            for point in series["metricPoints"]
            if point["gaugeValue"]["doubleValue"] not in ("NaN", 0)
        }

    until(lambda: values_by_operation("calls").keys() >= {"nightly", "load"}, "calls")
    until(lambda: values_by_operation("errors").keys() >= {"nightly", "load"}, "errors")
    latencies = until(lambda: values_by_operation("latencies", quantile=0.95), "latencies")
    assert latencies["load"] > 1  # milliseconds
