"""End-to-end tests with real servers, started with the files that docker-compose.yml mounts."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import services
from backends import Backends, get_json, missing_backend, running_backends
from otelflow_exporters._trace.from_json import from_json
from otelflow_exporters._trace.span import Span
from programs import clean_environment, python, run
from services import until

pytestmark = pytest.mark.skipif(missing_backend() is not None, reason=str(missing_backend()))


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with running_backends() as servers:
        yield servers


HEAD = """
import asyncio, json, os, sys, time
from opentelemetry.trace import Link, SpanContext, TraceFlags, get_tracer
import otelflow
from otelflow import configure, current_flow, flow, flush, shutdown, stats, task
from otelflow.propagate import propagating

def say(**facts):
    print("FACTS " + json.dumps(facts))
"""

BOTH_EXPORTERS = {"OTEL_TRACES_EXPORTER": "otlp,otelflow_jsonfile", "OTEL_LOGS_EXPORTER": "none"}
"""Spans go to the servers, and to a file with which the servers' data is compared."""


def read_spans(path: Path) -> list[Span]:
    """Return the spans that a program wrote to a file."""
    return [span for line in path.read_text(encoding="utf-8").splitlines() for span in from_json(json.loads(line))]


def jaeger_form(span: Span) -> Any:
    """Return the comparable fields of a span. Jaeger stores microseconds, and no order of attributes."""
    return {
        "ids": (span.trace_id, span.span_id, span.parent_id),
        "name": span.name,
        "kind": span.kind,
        "start": span.start // 1000,
        "status": (span.status, span.status_message),
        "attributes": {key: plain(value) for key, value in span.attributes.items()},
        "events": [
            (event.name, event.time // 1000, {k: plain(v) for k, v in event.attributes.items()})
            for event in span.events
        ],
        "links": Counter((link.trace_id, link.span_id) for link in span.links),
        "service": span.service,
        "scope": span.scope,
    }


def plain(value: Any) -> Any:
    """Return a list as JSON text, as Jaeger stores it; another value unchanged."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, list) else value


def assert_jaeger_has(backends: Backends, path: Path, seconds: float = 60) -> list[Span]:
    """Assert that Jaeger has every trace of a file, with each span as it was sent. Return the sent spans."""
    sent = read_spans(path)
    for trace_id, number in Counter(span.trace_id for span in sent).items():

        def complete_trace(trace_id: str = trace_id, number: int = number) -> Any:
            trace = backends.trace(trace_id)
            return trace if trace is not None and len(trace["spans"]) >= number else None

        stored = list(from_json({"data": [until(complete_trace, f"trace {trace_id} of {number} spans", seconds)]}))
        expected = [jaeger_form(span) for span in sent if span.trace_id == trace_id]
        assert sorted(map(jaeger_form, stored), key=repr) == sorted(expected, key=repr)
    return sent


def test_the_demo_arrives_in_jaeger(backends: Backends, tmp_path: Path) -> None:
    """Every span arrives with its messages, artifacts and results."""
    path = tmp_path / "sent.jsonl"
    result = python(
        *("-m", "otelflow.cli", "demo", str(Path(__file__).parents[1])),
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp,
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(path),
        OTELFLOW_METRICS="true",
        OTELFLOW_EVENTS="both",
        OTEL_TRACES_EXPORTER="otlp,otelflow_jsonfile",
    )
    assert result.returncode == 0, result.stderr
    until(lambda: backends.query('otelflow_flow_duration_seconds_count{job="otelflow-demo"}'), "its metrics")
    assert f"spans delivered to {backends.otlp}" in result.stdout
    written = path if path.exists() else Path(result.stdout.split("page: ")[1].strip()).with_name("run.jsonl")
    sent = assert_jaeger_has(backends, written)
    assert len(sent) > 20
    assert {"otelflow.message", "otelflow.artifact", "otelflow.result"} <= {
        e.name for span in sent for e in span.events
    }


MANY_KINDS = """
@task
def loads(rows, this_task=None):
    this_task.log_info("loading 100 % of “rows” — naïve", rows=rows, parts=["a", "b"])
    this_task.add_artifact("table", key="table", data={"rows": list(range(rows))})

@task(name="größe ☕ <script>")
def unicode(): pass

@task
def fails(): raise ValueError("disk full\\nsecond line")

@flow(name="nightly ☾")
def nightly(this_flow=None):
    loads(3)
    loads(300_000)
    unicode()
    this_flow.add_flow_result("count", "300,003 rows")
    try: fails()
    except ValueError: pass
    with get_tracer("by.hand", "2").start_as_current_span("SELECT", links=[
        Link(SpanContext(1, 2, True, TraceFlags(1))), Link(SpanContext(3, 4, True, TraceFlags(1)))]): pass

@flow
def broken(): fails()

configure("kinds")
nightly().execute()
try: broken().execute()
except ValueError: pass
say(whole=bool(flush()))
"""


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_all_kinds_of_spans_arrive_in_jaeger(backends: Backends, tmp_path: Path, protocol: str) -> None:
    """Failures, links, large artifacts, non-ASCII names and OpenTelemetry's spans, over HTTP and gRPC."""
    result = run(
        MANY_KINDS,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp if protocol == "http/protobuf" else backends.otlp_grpc,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "sent.jsonl"),
        OTELFLOW_MAX_VALUE_BYTES="50000",
        OTELFLOW_MAX_SPAN_BYTES="250000",
        **BOTH_EXPORTERS,
    )
    assert result.facts == {"whole": True}, result.stderr
    sent = assert_jaeger_has(backends, tmp_path / "sent.jsonl")
    assert Counter(span.name for span in sent)["fails"] == 2
    assert max(len(str(dict(event.attributes))) for span in sent for event in span.events) > 30_000
    assert any(span.links for span in sent)


def test_a_value_that_jaeger_cannot_store_is_truncated(backends: Backends) -> None:
    """With a value above 65,000 bytes, its storage would drop the span."""
    result = run(
        """
        configure("large")
        with get_tracer("by.hand").start_as_current_span("large", attributes={"body": "ä" * 100_000}) as span:
            span.add_event("answer", {"body": "b" * 1_000_000})
        say(whole=bool(flush()))
        """,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp,
    )
    assert result.facts == {"whole": True}, result.stderr
    (trace,) = until(lambda: backends.traces("large"), "the trace")
    (span,) = from_json({"data": [trace]})
    assert span.attributes["body"] == "ä" * 30_000
    assert span.events[0].attributes["body"] == "b" * 60_000


SEARCHED = """
@task
def step(seconds=0, fails=False):
    time.sleep(seconds)
    if fails: raise RuntimeError("no")

@flow
def quick(): step()

@flow
def slow(): step(0.3)

@flow
def failing(): step(fails=True)

configure(sys.argv[1] if len(sys.argv) > 1 else "searched")
ids = {}
for start, times in ((quick, 5), (slow, 2), (failing, 3)):
    for _ in range(times):
        run = start()
        try: run.execute()
        except RuntimeError: pass
        ids.setdefault(run.name, []).append([run.trace_id, run.run_id])
say(whole=bool(flush()), **ids)
"""


def test_search_finds_exactly_the_matching_traces(backends: Backends) -> None:
    """By flow, run, status, error and duration, as in a search on Jaeger's page."""
    result = run(SEARCHED, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTEL_METRICS_EXPORTER="none")
    assert result.facts["whole"] is True, result.stderr
    ids = {name: {trace for trace, _ in result.facts[name]} for name in ("quick", "slow", "failing")}

    def search(**query: Any) -> set[str]:
        return {trace["traceID"] for trace in backends.traces("searched", **query)}

    until(lambda: len(search()) == 10, "ten traces")
    assert search() == ids["quick"] | ids["slow"] | ids["failing"]
    assert search(operation="slow") == ids["slow"]
    assert search(tags={"otelflow.flow.name": "quick"}) == ids["quick"]
    assert search(tags={"otelflow.status": "failed"}) == ids["failing"]
    assert search(tags={"error": "true"}) == ids["failing"]
    assert search(tags={"error.type": "RuntimeError"}) == ids["failing"]
    assert search(minDuration="250ms", operation="slow") == ids["slow"]
    assert search(minDuration="250ms") == ids["slow"]
    for name in ids:
        for trace, run_id in result.facts[name]:
            assert search(tags={"otelflow.flow.run_id": run_id}) == {trace}
    answer = get_json(f"{backends.jaeger}/api/v3/operations", service="searched")
    operations = {operation["name"] for operation in answer["operations"]}
    assert {"quick", "slow", "failing", "step"} == operations


CONCURRENT = """
@task
async def step(number): await asyncio.sleep(0.01)

@flow(transparent=True)
async def order(number, this_flow=None):
    await asyncio.gather(*(step(i) for i in range(5)))
    return this_flow.run_id

async def main(): return await asyncio.gather(*(order(n) for n in range(1000)))

configure("concurrent")
runs = asyncio.run(main())
say(whole=bool(flush()), runs=len(set(runs)))
"""


def test_a_thousand_flows_at_once(backends: Backends) -> None:
    """Each flow is a trace of its own, with its own five tasks."""
    result = run(CONCURRENT, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp)
    assert result.facts == {"whole": True, "runs": 1000}, result.stderr

    def all_traces() -> Any:
        traces = backends.traces("concurrent", limit=1500)
        return traces if sum(len(trace["spans"]) for trace in traces) >= 6000 else None

    traces = until(all_traces, "6,000 spans", 60)
    assert len(traces) == 1000
    for trace in traces:
        (root,) = (span for span in trace["spans"] if span["operationName"] == "order")
        run_id = tag(root, "otelflow.flow.run_id")
        assert [tag(span, "otelflow.flow.run_id") for span in trace["spans"]] == [run_id] * 6
        below = [span for span in trace["spans"] if span is not root]
        assert all(span["references"][0]["spanID"] == root["spanID"] for span in below)


def tag(span: dict[str, Any], key: str) -> Any:
    return next((item["value"] for item in span["tags"] if item["key"] == key), None)


def test_a_flow_of_100_000_tasks(backends: Backends) -> None:
    """No span is lost, and Jaeger has them all."""
    result = run(
        """
        @task
        def step(): pass

        @flow
        def long():
            for _ in range(100_000): step()

        configure("long")
        run = long()
        run.execute()
        report = flush(100)
        say(whole=bool(report), lost=report.lost, delivered=report.delivered, trace=run.trace_id)
        """,
        head=HEAD,
        timeout=200,
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp,
        OTELFLOW_QUEUE_SIZE="150000",
    )
    trace_id = result.facts.pop("trace", None)
    assert result.facts == {"whole": True, "lost": {}, "delivered": 100_001}, result.stderr

    def complete_trace() -> Any:
        time.sleep(2)  # each answer is a large one: asking all the time would keep Jaeger from storing the rest
        trace = backends.trace(trace_id)
        return trace if trace is not None and len(trace["spans"]) >= 100_001 else None

    spans = until(complete_trace, "100,001 spans", 240)["spans"]
    (root,) = (span["spanID"] for span in spans if not span["references"])
    assert len({span["spanID"] for span in spans}) == len(spans) == 100_001
    assert {span["references"][0]["spanID"] for span in spans if span["references"]} == {root}


RESTARTS = """
@task
def step(number): pass

@flow
def order(number):
    step(number)

configure("restarted")
print("started", flush=True)
number = 0
while not os.path.exists(sys.argv[1]):
    order(number).execute()
    number += 1
    time.sleep(0.005)
report = flush(60)
say(whole=bool(report), lost=report.lost, number=number)
"""


def test_restarts_lose_nothing(tmp_path: Path) -> None:
    """Jaeger and the Collector restart while flows run. Afterwards every trace is there, also the old ones."""
    import subprocess
    import sys

    with running_backends() as servers:
        environment = clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=servers.otlp, OTEL_BSP_SCHEDULE_DELAY="100")
        command = [sys.executable, "-c", HEAD + RESTARTS, str(tmp_path / "enough")]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "started\n"
            until(lambda: servers.traces("restarted", limit=10), "a first trace")
            servers.stop("jaeger")
            servers.start("jaeger")
            servers.stop("collector")
            servers.start("collector")
            (tmp_path / "enough").touch()
            facts = json.loads(program.communicate(timeout=90)[0].removeprefix("FACTS "))
        assert (facts["whole"], facts["lost"]) == (True, {})

        def has_all_traces() -> Any:
            traces = servers.traces("restarted", limit=20_000)
            return len([trace for trace in traces if len(trace["spans"]) == 2]) == facts["number"]

        until(has_all_traces, f"{facts['number']} traces of two spans", 60)
        assert len(servers.traces("restarted", limit=20_000)) == facts["number"]


def test_an_order_of_the_example_shop(backends: Backends, tmp_path: Path) -> None:
    """Two services without tracing code give one trace, and it has the parent of every span."""
    receiver: Any = SimpleNamespace(endpoint=backends.otlp)
    starter = "opentelemetry-instrument"
    prices_log, shop_log = tmp_path / "prices.log", tmp_path / "shop.log"
    with services.uvicorn("prices.app:app", starter, receiver, prices_log, OTEL_SERVICE_NAME="prices") as prices:
        settings = {"SHOP_DATABASE": str(tmp_path / "shop.db"), "SHOP_PRICES_URL": prices.url}
        settings["OTEL_SERVICE_NAME"] = "shop"
        with services.uvicorn("shop.app:app", starter, receiver, shop_log, **settings) as shop:
            customer = {"name": "Ada", "tier": "gold", "card": "4111"}
            order = {"id": "A-1", "customer": customer, "items": [{"sku": "lamp", "quantity": 1}], "card": "4111"}
            assert shop.ask("/orders", order).status in (200, 201, 202)

            def has_receipt() -> bool:
                return bool(shop.ask("/orders/A-1", sampled=False).body["status"] == "receipt sent")

            until(has_receipt, "a receipt")
    last = {"send receipt", "GET /prices/{sku}"}

    def complete_trace() -> Any:
        traces = backends.traces("shop", tags={"order.id": "A-1"}, operation="place order")
        return traces if traces and last <= {span["operationName"] for span in traces[0]["spans"]} else None

    (trace,) = until(complete_trace, "the trace")
    spans = trace["spans"]
    assert {"POST /orders", "place order", "quote", "reserve", *last} <= {span["operationName"] for span in spans}
    ids = {span["spanID"] for span in spans}
    (first,) = (span for span in spans if not any(reference["spanID"] in ids for reference in span["references"]))
    assert first["operationName"] == "POST /orders"
    assert {process["serviceName"] for process in trace["processes"].values()} == {"shop", "prices"}
