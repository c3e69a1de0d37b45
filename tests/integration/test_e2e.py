"""With the real servers, started with the files that docker-compose.yml mounts: what was run is what is found there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import services
from backends import Backends, ask, missing_backend, running_backends
from otelflow_exporters._trace.from_json import from_json
from otelflow_exporters._trace.span import Span
from programs import clean_environment, python, run
from services import until

pytestmark = pytest.mark.skipif(missing_backend() is not None, reason=str(missing_backend()))


@pytest.fixture(scope="module")
def backends() -> Iterator[Backends]:
    with running_backends() as started:
        yield started


HEAD = """
import asyncio, json, os, sys, time
from opentelemetry.trace import Link, SpanContext, TraceFlags, get_tracer
import otelflow
from otelflow import configure, current_flow, flow, flush, shutdown, stats, task
from otelflow.propagate import propagating

def say(**facts):
    print("SAID " + json.dumps(facts))
"""

SENT_TWICE = {"OTEL_TRACES_EXPORTER": "otlp,otelflow_jsonfile", "OTEL_LOGS_EXPORTER": "none"}
"""To the servers, and to a file, which says what they must know."""


def spans_in(path: Path) -> list[Span]:
    """What a program sent."""
    return [span for line in path.read_text(encoding="utf-8").splitlines() for span in from_json(json.loads(line))]


def as_jaeger_keeps(span: Span) -> Any:
    """What can be compared: Jaeger knows microseconds, and no order among attributes."""
    return {
        "ids": (span.trace_id, span.span_id, span.parent_id),
        "name": span.name,
        "kind": span.kind,
        "start": span.start // 1000,
        "status": (span.status, span.status_message),
        "attributes": {key: plain(value) for key, value in span.attributes.items()},
        "events": [
            (one.name, one.time // 1000, {k: plain(v) for k, v in one.attributes.items()}) for one in span.events
        ],
        "links": Counter((link.trace_id, link.span_id) for link in span.links),
        "service": span.service,
        "scope": span.scope,
    }


def plain(value: Any) -> Any:
    """Jaeger keeps lists as JSON text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, list) else value


def found_as_sent(backends: Backends, path: Path, seconds: float = 60) -> list[Span]:
    """Every trace of a file is in Jaeger, whole, each span as it was sent. The spans as they were sent."""
    sent = spans_in(path)
    for trace_id, number in Counter(span.trace_id for span in sent).items():

        def whole(trace_id: str = trace_id, number: int = number) -> Any:
            trace = backends.trace(trace_id)
            return trace if trace is not None and len(trace["spans"]) >= number else None

        kept = list(from_json({"data": [until(whole, f"trace {trace_id} of {number} spans", seconds)]}))
        expected = [as_jaeger_keeps(span) for span in sent if span.trace_id == trace_id]
        assert sorted(map(as_jaeger_keeps, kept), key=repr) == sorted(expected, key=repr)
    return sent


def test_the_demo(backends: Backends, tmp_path: Path) -> None:
    """Scanned, parsed, summed up: every span with its messages, artifacts and results."""
    path = tmp_path / "sent.jsonl"
    done = python(
        *("-m", "otelflow.cli", "demo", str(Path(__file__).parents[1])),
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp,
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(path),
        OTELFLOW_METRICS="true",
        OTELFLOW_EVENTS="both",
        OTEL_TRACES_EXPORTER="otlp,otelflow_jsonfile",
    )
    assert done.returncode == 0, done.stderr
    until(lambda: backends.query('otelflow_flow_duration_seconds_count{job="otelflow-demo"}'), "its metrics")
    assert f"spans delivered to {backends.otlp}" in done.stdout
    written = path if path.exists() else Path(done.stdout.split("page: ")[1].strip()).with_name("run.jsonl")
    sent = found_as_sent(backends, written)
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
def test_all_kinds_of_spans(backends: Backends, tmp_path: Path, protocol: str) -> None:
    """Failures, links, large artifacts, names beyond ASCII, spans by hand: over HTTP and gRPC."""
    done = run(
        MANY_KINDS,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp if protocol == "http/protobuf" else backends.otlp_grpc,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTELFLOW_EXPORTER_JSONFILE_PATH=str(tmp_path / "sent.jsonl"),
        OTELFLOW_MAX_VALUE_BYTES="50000",
        OTELFLOW_MAX_SPAN_BYTES="250000",
        **SENT_TWICE,
    )
    assert done.said == {"whole": True}, done.stderr
    sent = found_as_sent(backends, tmp_path / "sent.jsonl")
    assert Counter(span.name for span in sent)["fails"] == 2
    assert max(len(str(dict(event.attributes))) for span in sent for event in span.events) > 30_000
    assert any(span.links for span in sent)


def test_a_value_that_jaeger_cannot_keep_is_cut(backends: Backends) -> None:
    """Above 65,000 bytes its storage would leave the span out."""
    done = run(
        """
        configure("large")
        with get_tracer("by.hand").start_as_current_span("large", attributes={"body": "ä" * 100_000}) as span:
            span.add_event("answer", {"body": "b" * 1_000_000})
        say(whole=bool(flush()))
        """,
        head=HEAD,
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp,
    )
    assert done.said == {"whole": True}, done.stderr
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
found = {}
for one, times in ((quick, 5), (slow, 2), (failing, 3)):
    for _ in range(times):
        run = one()
        try: run.execute()
        except RuntimeError: pass
        found.setdefault(run.name, []).append([run.trace_id, run.run_id])
say(whole=bool(flush()), **found)
"""


def test_search_finds_exactly_the_right_ones(backends: Backends) -> None:
    """By flow, run, status, error and duration, as one asks Jaeger's page."""
    done = run(SEARCHED, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp, OTEL_METRICS_EXPORTER="none")
    assert done.said["whole"] is True, done.stderr
    ids = {name: {trace for trace, _ in done.said[name]} for name in ("quick", "slow", "failing")}

    def found(**query: Any) -> set[str]:
        return {trace["traceID"] for trace in backends.traces("searched", **query)}

    until(lambda: len(found()) == 10, "ten traces")
    assert found() == ids["quick"] | ids["slow"] | ids["failing"]
    assert found(operation="slow") == ids["slow"]
    assert found(tags={"otelflow.flow.name": "quick"}) == ids["quick"]
    assert found(tags={"otelflow.status": "failed"}) == ids["failing"]
    assert found(tags={"error": "true"}) == ids["failing"]
    assert found(tags={"error.type": "RuntimeError"}) == ids["failing"]
    assert found(minDuration="250ms", operation="slow") == ids["slow"]
    assert found(minDuration="250ms") == ids["slow"]
    for name in ids:
        for trace, run_id in done.said[name]:
            assert found(tags={"otelflow.flow.run_id": run_id}) == {trace}
    operations = {one["name"] for one in ask(f"{backends.jaeger}/api/v3/operations", service="searched")["operations"]}
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
    """Each is a trace of its own, with its own five tasks."""
    done = run(CONCURRENT, head=HEAD, OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp)
    assert done.said == {"whole": True, "runs": 1000}, done.stderr

    def all_of_them() -> Any:
        traces = backends.traces("concurrent", limit=1500)
        return traces if sum(len(trace["spans"]) for trace in traces) >= 6000 else None

    traces = until(all_of_them, "6,000 spans", 60)
    assert len(traces) == 1000
    for trace in traces:
        (root,) = (span for span in trace["spans"] if span["operationName"] == "order")
        run_id = tag(root, "otelflow.flow.run_id")
        assert [tag(span, "otelflow.flow.run_id") for span in trace["spans"]] == [run_id] * 6
        below = [span for span in trace["spans"] if span is not root]
        assert all(span["references"][0]["spanID"] == root["spanID"] for span in below)


def tag(span: dict[str, Any], key: str) -> Any:
    return next((one["value"] for one in span["tags"] if one["key"] == key), None)


def test_a_flow_of_100_000_tasks(backends: Backends) -> None:
    """Nothing is lost on its way, and Jaeger has them all."""
    done = run(
        """
        @task
        def step(): pass

        @flow
        def long():
            for _ in range(100_000): step()

        configure("long")
        made = long()
        made.execute()
        report = flush(100)
        say(whole=bool(report), lost=report.lost, delivered=report.delivered, trace=made.trace_id)
        """,
        head=HEAD,
        timeout=200,
        OTEL_EXPORTER_OTLP_ENDPOINT=backends.otlp,
        OTELFLOW_QUEUE_SIZE="150000",
    )
    trace_id = done.said.pop("trace", None)
    assert done.said == {"whole": True, "lost": {}, "delivered": 100_001}, done.stderr

    def all_of_them() -> Any:
        trace = backends.trace(trace_id)
        return trace if trace is not None and len(trace["spans"]) >= 100_001 else None

    spans = until(all_of_them, "100,001 spans", 120)["spans"]
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
    """Jaeger and the Collector go and come back while flows run; then every trace is there, old ones too."""
    import subprocess
    import sys

    with running_backends() as own:
        environment = clean_environment(OTEL_EXPORTER_OTLP_ENDPOINT=own.otlp, OTEL_BSP_SCHEDULE_DELAY="100")
        words = [sys.executable, "-c", HEAD + RESTARTS, str(tmp_path / "enough")]
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "started\n"
            until(lambda: own.traces("restarted", limit=10), "a first trace")
            own.stop("jaeger")
            own.start("jaeger")
            own.stop("collector")
            own.start("collector")
            (tmp_path / "enough").touch()
            said = json.loads(program.communicate(timeout=90)[0].removeprefix("SAID "))
        assert (said["whole"], said["lost"]) == (True, {})

        def all_of_them() -> Any:
            traces = own.traces("restarted", limit=20_000)
            return len([one for one in traces if len(one["spans"]) == 2]) == said["number"]

        until(all_of_them, f"{said['number']} traces of two spans", 60)
        assert len(own.traces("restarted", limit=20_000)) == said["number"]


def test_an_order_of_the_example_shop(backends: Backends, tmp_path: Path) -> None:
    """Two services that know nothing of tracing: one trace, and every span's parent is in it."""
    sent_to: Any = SimpleNamespace(endpoint=backends.otlp)
    starter = "opentelemetry-instrument"
    prices_log, shop_log = tmp_path / "prices.log", tmp_path / "shop.log"
    with services.uvicorn("prices.app:app", starter, sent_to, prices_log, OTEL_SERVICE_NAME="prices") as prices:
        more = {"SHOP_DATABASE": str(tmp_path / "shop.db"), "SHOP_PRICES_URL": prices.url, "OTEL_SERVICE_NAME": "shop"}
        with services.uvicorn("shop.app:app", starter, sent_to, shop_log, **more) as shop:
            customer = {"name": "Ada", "tier": "gold", "card": "4111"}
            order = {"id": "A-1", "customer": customer, "items": [{"sku": "lamp", "quantity": 1}], "card": "4111"}
            assert shop.ask("/orders", order).status in (200, 201, 202)

            def receipt() -> bool:
                return bool(shop.ask("/orders/A-1", sampled=False).body["status"] == "receipt sent")

            until(receipt, "a receipt")
    last = {"send receipt", "GET /prices/{sku}"}

    def whole() -> Any:
        traces = backends.traces("shop", tags={"order.id": "A-1"}, operation="place order")
        return traces if traces and last <= {span["operationName"] for span in traces[0]["spans"]} else None

    (trace,) = until(whole, "the trace")
    spans = trace["spans"]
    assert {"POST /orders", "place order", "quote", "reserve", *last} <= {span["operationName"] for span in spans}
    ids = {span["spanID"] for span in spans}
    (first,) = (span for span in spans if not any(one["spanID"] in ids for one in span["references"]))
    assert first["operationName"] == "POST /orders"
    assert {process["serviceName"] for process in trace["processes"].values()} == {"shop", "prices"}
