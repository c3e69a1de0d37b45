"""Metrics that programs export; each program runs in its own process."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from programs import run

HEAD = """
import json, os, sys, time
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otelflow import configure, flow, flush, shutdown, stats, task

@task
def step(): pass

@flow
def work(n=3):
    for _ in range(n): step()

def say(**facts): print("FACTS " + json.dumps(facts))

def numbers(data):
    return {
        metric["name"] + " " + " ".join(map(str, point["attributes"].values())): point.get("value", point.get("count"))
        for resource in data["resource_metrics"] for scope in resource["scope_metrics"] for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
    }

def said_by(reader): return numbers(json.loads(reader.get_metrics_data().to_json()))
"""


def console(output: str) -> list[Any]:
    """Parse what the SDK's console exporter printed: one item for each collection."""
    collections, text, decoder = [], output.lstrip(), json.JSONDecoder()
    while text.startswith("{"):
        collection, end = decoder.raw_decode(text)
        collections.append(collection)
        text = text[end:].lstrip()
    return collections


QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "console"}


@pytest.mark.parametrize(
    ("call", "variables", "is_measured"),
    [
        ("configure('shop', metrics=True)", {}, True),
        ("configure('shop')", {"OTELFLOW_METRICS": "true"}, True),
        ("configure('shop')", {}, False),
        ("configure('shop', metrics=False)", {"OTELFLOW_METRICS": "true"}, False),
        ("configure('shop')", {"OTELFLOW_METRICS": "perhaps"}, False),
    ],
)
def test_metrics_are_enabled_in_code_or_by_a_variable(call: str, variables: dict[str, str], is_measured: bool) -> None:
    """Code overrides the variable. Metrics are sent at the end of the program, without a flush."""
    result = run(f"{call}\nwork(3).execute()", head=HEAD, **QUIET, **variables)
    assert result.returncode == 0
    collections = console(result.stdout)
    assert len(collections) == is_measured
    if is_measured:
        (resource,) = collections[0]["resource_metrics"]
        assert resource["resource"]["attributes"]["service.name"] == "shop"
        assert len(resource["resource"]["attributes"]["service.instance.id"]) == 36
    warning = "OTELFLOW_METRICS must be one of false, true, 0, 1; got 'perhaps'"
    assert (warning in result.stderr) == ("perhaps" in variables.values())


def test_a_meter_provider_of_the_users_is_used() -> None:
    """It is used with and without ``configure()``."""
    program = """
    from opentelemetry import metrics
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    {configure}
    work(3).execute()
    say(**said_by(reader))
    """
    for configure, exporters in (("configure('shop', metrics=True)", "console"), ("", "none")):
        result = run(
            program.replace("{configure}", configure),
            head=HEAD,
            OTELFLOW_METRICS="true",
            OTEL_TRACES_EXPORTER="none",
            OTEL_METRICS_EXPORTER=exporters,
        )
        assert result.facts["otelflow.task.duration work step completed"] == 3, result.stderr
        assert result.facts["otelflow.flow.active work"] == 0
        assert console(result.stdout) == []


def test_runs_before_configure_are_measured() -> None:
    """If the variable enables metrics, they are counted once, as are later runs."""
    result = run(
        "work(3).execute()\nconfigure('shop')\nconfigure('shop', metrics=True)\nwork(2).execute()",
        head=HEAD,
        OTELFLOW_METRICS="true",
        **QUIET,
    )
    (collection,) = console(result.stdout)
    (resource,) = collection["resource_metrics"]
    counted = {
        metric["name"]: [point.get("value", point.get("count")) for point in metric["data"]["data_points"]]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert counted["otelflow.task.duration"] == [5]
    assert counted["otelflow.flow.active"] == [0]
    assert result.stderr == ""


def test_a_forked_child_counts_its_own() -> None:
    """It is another instance of the service, and does not repeat the parent's numbers."""
    result = run(
        """
        configure("shop", metrics=True)
        work(5).execute()
        sys.stdout.flush()
        child = os.fork()
        if not child:
            work(2).execute()
            flush()
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
        """,
        head=HEAD,
        **QUIET,
    )
    of_child, of_parent = (collection["resource_metrics"][0] for collection in console(result.stdout))
    instances = {resource["resource"]["attributes"]["service.instance.id"] for resource in (of_child, of_parent)}
    assert len(instances) == 2
    for resource, tasks in ((of_child, 2), (of_parent, 5)):
        (scope,) = resource["scope_metrics"]
        (durations,) = (metric for metric in scope["metrics"] if metric["name"] == "otelflow.task.duration")
        assert [point["count"] for point in durations["data"]["data_points"]] == [tasks]


def test_numbers_of_exports_are_metrics() -> None:
    """Produced, delivered and failed spans and the duration of exports: the numbers of ``stats()``."""
    result = run(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

        class Half(SpanExporter):
            calls = 0
            def export(self, spans):
                Half.calls += 1
                return SpanExportResult.SUCCESS if Half.calls % 2 else SpanExportResult.FAILURE

        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        configure("shop", [Half()], metrics=True)
        for _ in range(2):
            work(4).execute()
            flush()
        say(stats=stats().dropped, **said_by(reader))
        """,
        head=HEAD,
    )
    kind = "Half __main__.Half"
    assert result.facts["stats"] == {"export_failed": 5}
    assert result.facts["otelflow.dropped export_failed"] == 5
    assert result.facts[f"otel.sdk.processor.span.processed {kind}"] == 10
    assert result.facts[f"otel.sdk.processor.span.queue.size {kind}"] == 0
    assert result.facts[f"otel.sdk.exporter.span.exported {kind}"] == 5
    assert result.facts[f"otel.sdk.exporter.span.exported {kind} export_failed"] == 5
    assert result.facts[f"otel.sdk.exporter.operation.duration {kind}"] == 1
    assert result.facts[f"otel.sdk.exporter.operation.duration {kind} export_failed"] == 1


def test_a_dead_collector_does_not_block_the_program() -> None:
    """The flush reports within its time that metrics were not sent. The end of the program logs it, without delay."""
    began = time.monotonic()
    result = run(
        """
        configure("shop", exporters=[], metrics=True)
        work(3).execute()
        before = time.monotonic()
        report = flush(1)
        say(whole=bool(report), lost=report.lost, seconds=time.monotonic() - before)
        """,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
    )
    assert result.facts["whole"] is False
    assert result.facts["lost"]["metrics_not_sent"] >= 1
    assert result.facts["seconds"] < 5
    assert "metrics were not sent" in result.stderr
    assert time.monotonic() - began < 30


def test_the_sdks_own_switch_enables_metrics_of_exports() -> None:
    """The numbers have the names of the SDK's metrics for its own processor; there are no metrics of flows."""
    result = run(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        configure()
        metrics.set_meter_provider(MeterProvider([reader]))
        work(2).execute(); flush(5)
        points = {metric.name: [[point.attributes.get("error.type"), point.value] for point in metric.data.data_points]
                  for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics for metric in scope.metrics
                  if scope.scope.name == "otelflow"}
        say(processed=points["otel.sdk.processor.span.processed"], exported=points["otel.sdk.exporter.span.exported"],
            names=sorted(points))
        """,
        OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED="true",
        OTEL_EXPORTER_OTLP_ENDPOINT="nowhere",
    )
    assert result.facts["processed"] == [[None, 3]], result.stderr
    assert result.facts["exported"] == [[None, 0], ["export_failed", 3]]
    assert "otelflow.flow.duration" not in result.facts["names"]
