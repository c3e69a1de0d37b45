"""Metrics: durations, what runs, what was left out; with the SDK's reader here, and in programs of their own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pool_work
import pytest
import shopping
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from programs import run

from otelflow import Flow, flow, instrument, task
from otelflow._metrics import instruments, measurements
from otelflow._metrics.measurements import measures
from otelflow._spans.tracer import use_provider
from otelflow.propagate import propagating
from otelflow.testing import Capture

Read = Callable[[str], dict[tuple[Any, ...], Any]]


@pytest.fixture
def read() -> Iterator[Read]:
    """Measures, and reads a metric: its points by the values of their attributes."""
    before = measures.on, measures.sink, instruments._in_use
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    measures.work_off()
    instruments.use(instruments.Meters(provider))

    def points(name: str) -> dict[tuple[Any, ...], Any]:
        data = reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        return {
            tuple((point.attributes or {}).values()): point
            for metric in found
            if metric.name == name
            for point in metric.data.data_points
        }

    yield points
    measures.work_off()
    measures.on, measures.sink, instruments._in_use = before
    provider.shutdown()


@task
def step(fails: bool = False) -> None:
    if fails:
        raise KeyError("no")


@flow
def nightly(steps: int = 2, failing: int = 0) -> None:
    for number in range(steps):
        try:
            step(number < failing)
        except KeyError:
            pass


def test_how_long_flows_and_tasks_took(read: Read, captured: Capture) -> None:
    """As many as there are spans, and as long; failures by the class of the error."""
    nightly(3, failing=1).execute()
    flows, tasks = read("otelflow.flow.duration"), read("otelflow.task.duration")
    assert {key: point.count for key, point in flows.items()} == {("nightly", "completed"): 1}
    assert {key: point.count for key, point in tasks.items()} == {
        ("nightly", "step", "completed"): 2,
        ("nightly", "step", "failed", "KeyError"): 1,
    }
    (only,) = flows.values()
    assert only.sum == pytest.approx(captured.flow("nightly").duration)
    assert sum(point.sum for point in tasks.values()) == pytest.approx(sum(one.duration for one in captured.tasks))
    assert only.explicit_bounds == instruments.BOUNDS


def test_an_exemplar_leads_to_the_trace(read: Read, captured: Capture) -> None:
    """Of the run itself, whatever is current where metrics are collected."""

    @flow
    def outer() -> None:
        nightly(1).execute()
        (point,) = read("otelflow.task.duration").values()
        (exemplar,) = point.exemplars
        inner = captured.task("step")
        found = (format(exemplar.trace_id, "032x"), format(exemplar.span_id, "016x"))
        assert found == (inner.trace_id, inner.span_id)

    outer().execute()


def test_what_is_sampled_out_is_measured(read: Read) -> None:
    """And has no exemplar: there is no trace to lead to."""
    with use_provider(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)):
        nightly(1).execute()
    (point,) = read("otelflow.task.duration").values()
    assert (point.count, list(point.exemplars)) == (1, [])


def test_what_runs(read: Read) -> None:
    """While flows run they are counted, in all threads; afterwards there are none."""
    here, go_on = threading.Barrier(4), threading.Event()

    @flow
    def waits() -> None:
        here.wait(10)
        go_on.wait(10)

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(waits().execute) for _ in range(3)]
        here.wait(10)
        assert read("otelflow.flow.active")[("waits",)].value == 3
        go_on.set()
    assert all(one.result().status == "completed" for one in running)
    assert read("otelflow.flow.active")[("waits",)].value == 0


def test_a_cancelled_run_is_no_failure(read: Read) -> None:
    """It has its own status, and no error."""

    @flow(transparent=True)
    async def waits() -> None:
        await asyncio.sleep(10)

    async def main() -> None:
        running = asyncio.create_task(waits())
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert list(read("otelflow.flow.duration")) == [("waits", "cancelled")]


def test_a_task_that_leaves_no_span_is_measured(tmp_path: Path, read: Read, captured: Capture) -> None:
    """That is what `min_duration` and metrics are for together."""
    shopping.write(tmp_path, short="def leaf(): pass\n")
    with (
        shopping.importable(tmp_path),
        instrument(tasks=[{"target": "shop.short:leaf", "min_duration": "1s"}]),
    ):
        leaf = shopping.load("short").leaf
        Flow(lambda: [leaf() for _ in range(5)]).execute()
    assert not captured.tasks
    assert read("otelflow.task.duration")[("<lambda>", "leaf", "completed")].count == 5


def test_a_job_in_another_process_is_measured_here(read: Read) -> None:
    """Once, by the flow that it belongs to."""
    from concurrent.futures import ProcessPoolExecutor

    @flow
    def pooled() -> list[int]:
        with propagating(ProcessPoolExecutor(1)) as pool:
            return list(pool.map(pool_work.step, range(3)))

    assert len(pooled().execute().return_value) == 3
    assert read("otelflow.task.duration")[("pooled", "step", "completed")].count == 3


def test_names_without_end_are_one_series(read: Read) -> None:
    """2,000 sets of attributes; what comes beyond is counted, and marked as OpenTelemetry has it."""
    for number in range(2_100):
        made = Flow(int)
        made.name = f"order {number}"
        made.execute()
    points = read("otelflow.flow.duration")
    assert len(points) == 2_001
    assert points[(True,)].count == 100
    assert len(read("otelflow.flow.active")) <= 2_000


def test_notes_do_not_pile_up(read: Read) -> None:
    """Without any collection they are worked off beside, all of them."""
    nightly(20_000).execute()
    until = time.monotonic() + 20
    while len(measures._taken) > measurements._MANY and time.monotonic() < until:
        time.sleep(0.01)
    assert len(measures._taken) <= measurements._MANY
    assert read("otelflow.task.duration")[("nightly", "step", "completed")].count == 20_000


def test_what_is_too_much_is_counted(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    """Where nobody works the notes off in time, the oldest go; the number says so."""
    monkeypatch.setattr(measurements, "_MANY", 10)
    monkeypatch.setattr(measurements, "_MOST", 100)
    before = read("otelflow.dropped").get(("metrics_queue_full",))
    with measures._working:
        nightly(500).execute()
    after = read("otelflow.dropped")[("metrics_queue_full",)].value - (before.value if before else 0)
    assert read("otelflow.task.duration")[("nightly", "step", "completed")].count + after in (500, 501, 502)
    assert after >= 390


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

def say(**facts): print("SAID " + json.dumps(facts))

def numbers(data):
    return {
        metric["name"] + " " + " ".join(map(str, point["attributes"].values())): point.get("value", point.get("count"))
        for resource in data["resource_metrics"] for scope in resource["scope_metrics"] for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
    }

def said_by(reader): return numbers(json.loads(reader.get_metrics_data().to_json()))
"""


def console(output: str) -> list[Any]:
    """What the SDK's console exporter printed, one collection after the other."""
    found, text, decoder = [], output.lstrip(), json.JSONDecoder()
    while text.startswith("{"):
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:].lstrip()
    return found


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
def test_metrics_are_asked_for(call: str, variables: dict[str, str], is_measured: bool) -> None:
    """In code or by a variable; code goes first. They are sent at the end of the program, without a flush."""
    done = run(f"{call}\nwork(3).execute()", head=HEAD, **QUIET, **variables)
    assert done.returncode == 0
    collections = console(done.stdout)
    assert len(collections) == is_measured
    if is_measured:
        (resource,) = collections[0]["resource_metrics"]
        assert resource["resource"]["attributes"]["service.name"] == "shop"
        assert len(resource["resource"]["attributes"]["service.instance.id"]) == 36
    assert ("OTELFLOW_METRICS is 'perhaps'" in done.stderr) == ("perhaps" in variables.values())


def test_a_meter_provider_of_the_users_is_used() -> None:
    """Before or without configure()."""
    program = """
    from opentelemetry import metrics
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    {configure}
    work(3).execute()
    say(**said_by(reader))
    """
    for configure, exporters in (("configure('shop', metrics=True)", "console"), ("", "none")):
        done = run(
            program.replace("{configure}", configure),
            head=HEAD,
            OTELFLOW_METRICS="true",
            OTEL_TRACES_EXPORTER="none",
            OTEL_METRICS_EXPORTER=exporters,
        )
        assert done.said["otelflow.task.duration work step completed"] == 3, done.stderr
        assert done.said["otelflow.flow.active work"] == 0
        assert console(done.stdout) == []


def test_what_ran_before_configure_is_measured() -> None:
    """Where the variable asks for it; once, as what runs afterwards."""
    done = run(
        "work(3).execute()\nconfigure('shop')\nconfigure('shop', metrics=True)\nwork(2).execute()",
        head=HEAD,
        OTELFLOW_METRICS="true",
        **QUIET,
    )
    (collection,) = console(done.stdout)
    (resource,) = collection["resource_metrics"]
    counted = {
        metric["name"]: [point.get("value", point.get("count")) for point in metric["data"]["data_points"]]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
    assert counted["otelflow.task.duration"] == [5]
    assert counted["otelflow.flow.active"] == [0]
    assert done.stderr == ""


def test_a_forked_child_counts_its_own() -> None:
    """As another instance of the service; what the parent counted does not come again."""
    done = run(
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
    of_child, of_parent = (one["resource_metrics"][0] for one in console(done.stdout))
    instances = {one["resource"]["attributes"]["service.instance.id"] for one in (of_child, of_parent)}
    assert len(instances) == 2
    for resource, tasks in ((of_child, 2), (of_parent, 5)):
        (scope,) = resource["scope_metrics"]
        (durations,) = (one for one in scope["metrics"] if one["name"] == "otelflow.task.duration")
        assert [point["count"] for point in durations["data"]["data_points"]] == [tasks]


def test_what_became_of_spans() -> None:
    """Handed over, delivered, failed, and how long an export took: the numbers of stats()."""
    done = run(
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
    assert done.said["stats"] == {"export_failed": 5}
    assert done.said["otelflow.dropped export_failed"] == 5
    assert done.said[f"otel.sdk.processor.span.processed {kind}"] == 10
    assert done.said[f"otel.sdk.processor.span.queue.size {kind}"] == 0
    assert done.said[f"otel.sdk.exporter.span.exported {kind}"] == 5
    assert done.said[f"otel.sdk.exporter.span.exported {kind} export_failed"] == 5
    assert done.said[f"otel.sdk.exporter.operation.duration {kind}"] == 1
    assert done.said[f"otel.sdk.exporter.operation.duration {kind} export_failed"] == 1


def test_a_dead_collector_holds_nobody() -> None:
    """The flush says that metrics were not sent, in its time; the end of the program is not held up, and says so."""
    began = time.monotonic()
    done = run(
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
    assert done.said["whole"] is False
    assert done.said["lost"]["metrics_not_sent"] >= 1
    assert done.said["seconds"] < 5
    assert "metrics were not sent" in done.stderr
    assert time.monotonic() - began < 30


def test_the_sdks_own_switch_shows_what_became_of_the_spans() -> None:
    """Without metrics of flows: the numbers that the SDK has of its own processor, under its names."""
    done = run(
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
    assert done.said["processed"] == [[None, 3]], done.stderr
    assert done.said["exported"] == [[None, 0], ["export_failed", 3]]
    assert "otelflow.flow.duration" not in done.said["names"]
