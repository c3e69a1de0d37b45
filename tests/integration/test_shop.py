"""The shop of ``examples/shop``, as it is: two services, a database, threads, streams, and what their traces say."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import programs
import pytest
import services
from services import CLIENT, ERROR, EXAMPLES, SERVER, STARTERS, UNSET, Answer, Service, Span, Spans, Trace

NAME, CARD = "Ada Nobodyelse", "4111 1111 1111 1111"


@dataclass
class Shop:
    """A running shop, and all that it and its price service sent."""

    service: Service
    prices: Service
    spans: Spans

    def order(self, order_id: str, *, sampled: bool = True, **items: int) -> Answer:
        """Order so many of each; the request says more about the customer than traces may."""
        customer = {"name": NAME, "tier": "gold", "card": CARD}
        wanted = [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]
        body = {"id": order_id, "customer": customer, "items": wanted, "card": CARD}
        return self.service.ask("/orders", body, sampled=sampled)

    def trace(self, order_id: str, *last: str) -> Trace:
        """The trace of an order, once it has the spans of these names."""
        return self.spans.trace(self.spans.one("place order", order_id=order_id).trace_id, *last)

    def wait_for_receipt(self, order_id: str, *, sampled: bool = True) -> None:
        """Ask for the order until its receipt is written."""

        def written() -> bool:
            answer = self.service.ask(f"/orders/{order_id}", sampled=sampled)
            return bool(answer.body["status"] == "receipt sent")

        services.until(written, f"receipt for {order_id}")


@contextlib.contextmanager
def a_shop(starter: str, folder: Path) -> Iterator[Shop]:
    """A shop and its price service, both started in the same way."""
    spans = Spans()
    named = {"OTEL_SERVICE_NAME": "prices"}
    try:
        with services.uvicorn("prices.app:app", starter, spans, folder / "prices.log", **named) as prices:
            more = {"SHOP_DATABASE": str(folder / "shop.db"), "SHOP_PRICES_URL": prices.url}
            if starter == "opentelemetry-instrument":
                more["OTEL_SERVICE_NAME"] = "shop"  # `otelflow run` finds that out
            with services.uvicorn("shop.app:app", starter, spans, folder / "shop.log", **more) as shop:
                yield Shop(shop, prices, spans)
        spans.assert_each_once()
    finally:
        spans.close()


@pytest.fixture(scope="module", params=STARTERS)
def running_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop under each starter: with OpenTelemetry's own instrumentations, and with otelflow alone."""
    with a_shop(request.param, tmp_path_factory.mktemp("shop")) as made:
        yield made


@pytest.fixture
def shop(running_shop: Shop) -> Iterator[Shop]:
    """The same for one test: what both services logged is shown if it fails."""
    yield running_shop
    for log in (running_shop.service.log, running_shop.prices.log):
        print(f"--- {log.name}", log.read_text(), sep="\n")


with_others = pytest.mark.parametrize("running_shop", ["opentelemetry-instrument"], indirect=True)
alone = pytest.mark.parametrize("running_shop", ["otelflow run"], indirect=True)


@pytest.fixture
def order_id() -> str:
    """An order that no other test knows."""
    return f"A-{uuid.uuid4().hex[:12]}"


# The spans of an accepted order of two articles that end last, in both services.
WHOLE = ("POST /orders", "send receipt", "GET /prices/{sku}", "GET /prices/{sku}")


@with_others
def test_an_order_is_one_trace_over_both_services(shop: Shop, order_id: str) -> None:
    """The flow is below the request, tasks below the flow, SQL and HTTP below their tasks, the price service below."""
    answer = shop.order(order_id, mug=2, lamp=1)
    assert (answer.status, answer.body) == (201, {"id": order_id, "total": 6600, "status": "placed"})
    trace = shop.trace(order_id, *WHOLE)
    request, flow = trace.one("POST /orders"), trace.one("place order")
    assert (request.kind, request.service, flow.parent_id) == (SERVER, "shop", request.span_id)
    tasks = Counter(span.name for span in trace.children(flow, "otelflow"))
    assert tasks == {"quote": 2, "reserve": 2, "send receipt": 1}
    for quote in trace.named("quote"):
        (client,) = trace.children(quote)
        (asked,) = trace.children(client)
        assert (client.scope.rpartition(".")[2], client.kind, client.service) == ("httpx", CLIENT, "shop")
        assert (asked.name, asked.kind, asked.service) == ("GET /prices/{sku}", SERVER, "prices")
    for reserve in trace.named("reserve"):
        (available,) = trace.children(reserve, "otelflow")
        assert statements(trace, reserve) == {"UPDATE"}
        assert statements(trace, available) == {"SELECT"}
    assert statements(trace, flow) >= {"BEGIN", "SELECT", "INSERT"}
    assert {span.status for span in trace.spans} == {UNSET}


def statements(trace: Trace, parent: Span) -> set[str]:
    """The kinds of SQL statements directly below a span."""
    return {span.name.split()[0] for span in trace.children(parent, "sqlalchemy")}


def test_what_the_file_asks_for_is_captured_with_its_type_and_nothing_else(shop: Shop, order_id: str) -> None:
    """Of an order there are its id and its customer's tier; no name, no card, anywhere in what is sent."""
    shop.order(order_id, mug=2, lamp=1)
    assert shop.order(order_id, mug=1).status == 409
    assert shop.order(f"{order_id}-2", atlas=4).status == 409
    shop.wait_for_receipt(order_id)
    shop.spans.one("send receipt", order_id=order_id)
    trace = shop.trace(f"{order_id}-2")
    assert trace.one("place order").captured == {
        "order.id": f"{order_id}-2",
        "customer.tier": "gold",
        "error.type": "shop.stock.OutOfStock",
    }
    (accepted, _) = shop.spans.named("place order", order_id=order_id)
    assert accepted.captured == {"order.id": order_id, "customer.tier": "gold"}
    of_items = [span.captured for span in shop.spans.of_trace(accepted.trace_id) if span.name == "reserve"]
    assert of_items == [{"item.sku": "mug", "item.quantity": 2}, {"item.sku": "lamp", "item.quantity": 1}]
    assert {type(captured["item.quantity"]) for captured in of_items} == {int}
    everything = b"".join(shop.spans.raw)
    assert order_id.encode() in everything
    assert [text for text in (NAME, CARD, "Nobodyelse") if text.encode() in everything] == []


@with_others
def test_an_incoming_trace_is_continued(shop: Shop, order_id: str) -> None:
    """A request that comes with a traceparent is in that trace, in both services."""
    answer = shop.order(order_id, mug=1)
    trace = shop.spans.trace(answer.trace_id, *WHOLE[:3])
    assert trace.one("place order").attributes["order.id"] == order_id
    assert {span.service for span in trace.spans} == {"shop", "prices"}


@with_others
def test_a_trace_that_is_not_sampled_stays_out(shop: Shop, order_id: str) -> None:
    """A request whose traceparent says so has no span of any kind, in no service and in no thread."""
    before = shop.order(f"{order_id}-1", mug=1)
    shop.spans.trace(before.trace_id, *WHOLE[:3])
    known = len(shop.spans.arrived)
    answer = shop.order(order_id, sampled=False, mug=1)
    refused = shop.order(f"{order_id}-2", sampled=False, atlas=4)
    assert (answer.status, refused.status) == (201, 409)
    shop.wait_for_receipt(order_id, sampled=False)
    fence = shop.order(f"{order_id}-3", mug=1)
    shop.spans.trace(fence.trace_id, *WHOLE[:3])
    assert shop.spans.of_trace(answer.trace_id) + shop.spans.of_trace(refused.trace_id) == []
    ids = {order_id, f"{order_id}-2"}
    assert [span for span in shop.spans.arrived if span.attributes.get("order.id") in ids] == []
    lost = [span for span in shop.spans.arrived[known:] if not span.parent_id]  # all requests came with a trace
    assert lost == []


@dataclass(frozen=True)
class Refused:
    """An order that fails: what is wanted, what is answered, and the exception with the span where it begins."""

    wanted: dict[str, int]
    status: int
    error: str
    begins: str
    says: str


REFUSED = {
    "out of stock": Refused(
        {"mug": 1, "atlas": 4}, 409, "shop.stock.OutOfStock", "reserve", "4 of atlas wanted, 3 left"
    ),
    "no such article": Refused({"unicorn": 1}, 422, "shop.prices.UnknownSku", "quote", "no price for unicorn"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_order_that_fails(shop: Shop, order_id: str, case: str) -> None:
    """The exception is recorded once, where it began; what is above has failed for the same reason."""
    refused = REFUSED[case]
    answer = shop.order(order_id, **refused.wanted)
    assert (answer.status, answer.body) == (refused.status, {"detail": refused.says})
    trace = shop.trace(order_id)
    failed = [span for span in trace.ours if span.status == ERROR]
    assert [span.name for span in failed] == [refused.begins, "place order"]
    assert trace.above(failed[0]) == failed[1:]
    for span in failed:
        assert (span.attributes["otelflow.status"], span.attributes["error.type"]) == ("failed", refused.error)
    assert [len(span.exceptions) for span in failed] == [1, 0]
    (recorded,) = failed[0].exceptions
    assert (recorded["exception.type"], recorded["exception.message"]) == (refused.error, refused.says)
    assert {span.attributes["otelflow.status"] for span in trace.ours if span not in failed} <= {"completed"}


@with_others
def test_nobody_records_the_exception_again(shop: Shop, order_id: str) -> None:
    """In a whole trace with everybody's spans there is one exception; the request was answered, so it is no error."""
    shop.order(order_id, mug=1, atlas=4)
    trace = shop.trace(order_id, "POST /orders", "GET /prices/{sku}", "GET /prices/{sku}")
    assert [span.name for span in trace.spans if span.exceptions] == ["reserve"]
    assert trace.one("POST /orders").status == UNSET


def test_an_order_that_was_placed_before(shop: Shop, order_id: str) -> None:
    """What the flow itself raises is recorded on the flow."""
    shop.order(order_id, mug=1)
    again = shop.order(order_id, mug=1)
    assert (again.status, again.body) == (409, {"detail": f"there is an order {order_id} already"})
    (flow,) = services.until(
        lambda: shop.spans.named("place order", order_id=order_id, error_type="shop.orders.AlreadyPlaced"), "flow"
    )
    assert [error["exception.type"] for error in flow.exceptions] == ["shop.orders.AlreadyPlaced"]
    assert flow.attributes["otelflow.flow.tasks_failed"] == 0


def test_requests_that_begin_no_flow(shop: Shop, order_id: str) -> None:
    """An order that nobody placed is not found, bad input is refused: neither is a flow."""
    assert shop.service.ask(f"/orders/{order_id}").status == 404
    assert shop.service.ask(f"/orders/{order_id}/events").status == 404
    assert shop.order(order_id, mug=0).status == 422
    shop.order(f"{order_id}-2", mug=1)
    shop.trace(f"{order_id}-2")
    assert [span for span in shop.spans.arrived if span.attributes.get("order.id") == order_id] == []


def test_a_client_that_leaves_a_stream(shop: Shop, order_id: str) -> None:
    """The flow behind it ends as cancelled, which is no error: no exception, no status."""
    shop.order(order_id, mug=1)
    with shop.service.asked(f"/orders/{order_id}/events") as stream:
        assert stream.readline().startswith(b'data: {"id":"' + order_id.encode())
        assert shop.spans.named("follow order", order_id=order_id) == []
    flow = shop.spans.one("follow order", order_id=order_id)
    assert (flow.attributes["otelflow.status"], flow.status, flow.events) == ("cancelled", UNSET, [])
    assert "error.type" not in flow.attributes


@with_others
def test_a_job_in_a_thread_is_in_the_trace_that_caused_it(shop: Shop, order_id: str) -> None:
    """OpenTelemetry's threading instrumentation takes the context along: the receipt is below its order."""
    shop.order(order_id, mug=1)
    receipt, order = shop.spans.one("send receipt", order_id=order_id), shop.spans.one("place order", order_id=order_id)
    assert (receipt.trace_id, receipt.parent_id) == (order.trace_id, order.span_id)
    assert receipt.attributes["otelflow.kind"] == "flow"
    assert receipt.attributes["otelflow.flow.run_id"] != order.attributes["otelflow.flow.run_id"]


@alone
def test_a_job_in_a_thread_is_a_trace_of_its_own(shop: Shop, order_id: str) -> None:
    """Nobody takes the context along: the receipt is the root of a trace."""
    shop.order(order_id, mug=1)
    receipt, order = shop.spans.one("send receipt", order_id=order_id), shop.spans.one("place order", order_id=order_id)
    assert receipt.parent_id == ""
    assert receipt.trace_id != order.trace_id


@alone
def test_an_order_with_otelflow_alone(shop: Shop, order_id: str) -> None:
    """Flows and tasks arrive from a service that is named after its module; too short a task is only counted."""
    shop.order(order_id, mug=2, lamp=1)
    trace = shop.trace(order_id)
    flow = trace.one("place order")
    tasks = Counter(span.name for span in trace.children(flow, "otelflow"))
    assert tasks == {"quote": 2, "reserve": 2}
    assert {span.service for span in trace.spans} == {"shop"}
    assert flow.attributes["otelflow.flow.tasks"] == 6
    left_out = flow.attributes.get("otelflow.dropped.short_tasks", 0)
    assert len(trace.named("available")) + left_out == 2


def test_orders_at_the_same_time(shop: Shop, order_id: str) -> None:
    """Of forty orders, eight at once, each flow has its own tasks: none is lost, none is with another."""
    quantities = {f"{order_id}-{number}": number for number in range(1, 41)}
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda one: shop.order(one, mug=quantities[one], lamp=1), quantities))
    assert {answer.status for answer in answers} == {201}
    receipts = [shop.spans.one("send receipt", order_id=one) for one in quantities]
    assert len({receipt.span_id for receipt in receipts}) == 40
    traces = [shop.trace(one) for one in quantities]
    assert len({trace.spans[0].trace_id for trace in traces}) == 40
    for trace, quantity in zip(traces, quantities.values(), strict=True):
        assert_tasks_of_its_own(trace, trace.one("place order"), quantity)


def assert_tasks_of_its_own(trace: Trace, flow: Span, quantity: int) -> None:
    """Two quotes, and two reservations of which one has the quantity that only this order has."""
    run_id = flow.attributes["otelflow.flow.run_id"]
    tasks = [span for span in trace.children(flow, "otelflow") if span.name != "send receipt"]
    assert sorted((span.name, *span.captured.values()) for span in tasks) == [
        ("quote", "lamp"),
        ("quote", "mug"),
        ("reserve", "lamp", 1),
        ("reserve", "mug", quantity),
    ]
    of_run = [span for span in trace.ours if span.attributes["otelflow.flow.run_id"] == run_id]
    assert {span.name for span in of_run} - {"available"} == {"place order", "quote", "reserve"}
    assert {span.attributes["otelflow.flow.run_id"] for span in tasks} == {run_id}


# --- the examples as they are on disk ---------------------------------------------------------------------------------

NAMES = ["shop", "wsgi", "nightly"]


@pytest.mark.parametrize("example", NAMES)
def test_the_code_knows_nothing_of_tracing(example: str) -> None:
    """No file of it imports otelflow or OpenTelemetry."""
    files = list((EXAMPLES / example).rglob("*.py"))
    assert files
    imported = {name.partition(".")[0] for file in files for name in imports(ast.parse(file.read_text()))}
    assert imported & {"otelflow", "opentelemetry"} == set()


def imports(tree: ast.AST) -> Iterator[str]:
    """The names of the modules that are imported somewhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("example", NAMES)
def test_check_says_that_all_is_well(example: str) -> None:
    """Every target of the configuration is found, and nothing about it is doubtful."""
    command = [services.script("otelflow"), "check", "--strict"]
    environment = programs.clean_environment(PYTHONDONTWRITEBYTECODE="1")
    done: Any = subprocess.run(
        command, cwd=EXAMPLES / example, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    *targets, total = done.stdout.splitlines()
    assert [line[0] for line in targets] == ["✓"] * len(targets)
    assert total.startswith(f"otelflow.toml: {len(targets)} targets, ")
