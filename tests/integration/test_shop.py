"""The unchanged shop of ``examples/shop``: two services, a database, threads and streams, and their traces."""

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
    """A running shop, and all spans of it and its price service."""

    service: Service
    prices: Service
    spans: Spans

    def order(self, order_id: str, *, sampled: bool = True, **items: int) -> Answer:
        """Order these quantities. The request has customer data that must not be in traces."""
        customer = {"name": NAME, "tier": "gold", "card": CARD}
        lines = [{"sku": sku, "quantity": quantity} for sku, quantity in items.items()]
        body = {"id": order_id, "customer": customer, "items": lines, "card": CARD}
        return self.service.ask("/orders", body, sampled=sampled)

    def trace(self, order_id: str, *last: str) -> Trace:
        """Return the trace of an order, once it has the spans of these names."""
        return self.spans.trace(self.spans.wait_for_span("place order", order_id=order_id).trace_id, *last)

    def wait_for_receipt(self, order_id: str, *, sampled: bool = True) -> None:
        """Request the order until its receipt is sent."""

        def has_receipt() -> bool:
            answer = self.service.ask(f"/orders/{order_id}", sampled=sampled)
            return bool(answer.body["status"] == "receipt sent")

        services.until(has_receipt, f"receipt for {order_id}")


@contextlib.contextmanager
def start_shop(starter: str, folder: Path) -> Iterator[Shop]:
    """Run a shop and its price service, both with the same starter."""
    spans = Spans()
    prices_environment = {"OTEL_SERVICE_NAME": "prices"}
    try:
        with services.uvicorn("prices.app:app", starter, spans, folder / "prices.log", **prices_environment) as prices:
            shop_environment = {"SHOP_DATABASE": str(folder / "shop.db"), "SHOP_PRICES_URL": prices.url}
            if starter == "opentelemetry-instrument":
                shop_environment["OTEL_SERVICE_NAME"] = "shop"  # `otelflow run` detects it
            with services.uvicorn("shop.app:app", starter, spans, folder / "shop.log", **shop_environment) as shop:
                yield Shop(shop, prices, spans)
        spans.assert_each_once()
    finally:
        spans.close()


@pytest.fixture(scope="module", params=STARTERS)
def running_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Return a shop for each starter: with OpenTelemetry's instrumentations, and with otelflow alone."""
    with start_shop(request.param, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(running_shop: Shop) -> Iterator[Shop]:
    """Return the shop for one test. Both services' logs are shown if it fails."""
    yield running_shop
    for log in (running_shop.service.log, running_shop.prices.log):
        print(f"--- {log.name}", log.read_text(), sep="\n")


with_instrumentations = pytest.mark.parametrize("running_shop", ["opentelemetry-instrument"], indirect=True)
otelflow_alone = pytest.mark.parametrize("running_shop", ["otelflow run"], indirect=True)


@pytest.fixture
def order_id() -> str:
    """Return an order id that no other test uses."""
    return f"A-{uuid.uuid4().hex[:12]}"


# The last spans to end of an accepted order of two articles, in both services.
LAST_SPANS = ("POST /orders", "send receipt", "GET /prices/{sku}", "GET /prices/{sku}")


@with_instrumentations
def test_an_order_is_one_trace_over_both_services(shop: Shop, order_id: str) -> None:
    """The flow is below the request, tasks below the flow, and SQL, HTTP and the price service below the tasks."""
    answer = shop.order(order_id, mug=2, lamp=1)
    assert (answer.status, answer.body) == (201, {"id": order_id, "total": 6600, "status": "placed"})
    trace = shop.trace(order_id, *LAST_SPANS)
    request, flow = trace.find_one("POST /orders"), trace.find_one("place order")
    assert (request.kind, request.service, flow.parent_id) == (SERVER, "shop", request.span_id)
    tasks = Counter(span.name for span in trace.children(flow, "otelflow"))
    assert tasks == {"quote": 2, "reserve": 2, "send receipt": 1}
    for quote in trace.find("quote"):
        (client,) = trace.children(quote)
        (served,) = trace.children(client)
        assert (client.scope.rpartition(".")[2], client.kind, client.service) == ("httpx", CLIENT, "shop")
        assert (served.name, served.kind, served.service) == ("GET /prices/{sku}", SERVER, "prices")
    for reserve in trace.find("reserve"):
        (available,) = trace.children(reserve, "otelflow")
        assert statements(trace, reserve) == {"UPDATE"}
        assert statements(trace, available) == {"SELECT"}
    assert statements(trace, flow) >= {"BEGIN", "SELECT", "INSERT"}
    assert {span.status for span in trace.spans} == {UNSET}


def statements(trace: Trace, parent: Span) -> set[str]:
    """Return the kinds of SQL statements directly below a span."""
    return {span.name.split()[0] for span in trace.children(parent, "sqlalchemy")}


def test_only_the_configured_values_are_captured_with_their_types(shop: Shop, order_id: str) -> None:
    """They are the order's id and the customer's tier. No name and no card is sent anywhere."""
    shop.order(order_id, mug=2, lamp=1)
    assert shop.order(order_id, mug=1).status == 409
    assert shop.order(f"{order_id}-2", atlas=4).status == 409
    shop.wait_for_receipt(order_id)
    shop.spans.wait_for_span("send receipt", order_id=order_id)
    trace = shop.trace(f"{order_id}-2")
    assert trace.find_one("place order").configured_attributes == {
        "order.id": f"{order_id}-2",
        "customer.tier": "gold",
        "error.type": "shop.stock.OutOfStock",
    }
    (accepted, _) = shop.spans.find("place order", order_id=order_id)
    assert accepted.configured_attributes == {"order.id": order_id, "customer.tier": "gold"}
    captured_items = [
        span.configured_attributes for span in shop.spans.of_trace(accepted.trace_id) if span.name == "reserve"
    ]
    assert captured_items == [{"item.sku": "mug", "item.quantity": 2}, {"item.sku": "lamp", "item.quantity": 1}]
    assert {type(captured["item.quantity"]) for captured in captured_items} == {int}
    everything = b"".join(shop.spans.raw)
    assert order_id.encode() in everything
    assert [text for text in (NAME, CARD, "Nobodyelse") if text.encode() in everything] == []


@with_instrumentations
def test_an_incoming_trace_is_continued(shop: Shop, order_id: str) -> None:
    """A request with a traceparent is in that trace, in both services."""
    answer = shop.order(order_id, mug=1)
    trace = shop.spans.trace(answer.trace_id, *LAST_SPANS[:3])
    assert trace.find_one("place order").attributes["order.id"] == order_id
    assert {span.service for span in trace.spans} == {"shop", "prices"}


@with_instrumentations
def test_a_request_that_is_not_sampled_has_no_spans(shop: Shop, order_id: str) -> None:
    """If its traceparent is not sampled, no service and no thread makes a span."""
    before = shop.order(f"{order_id}-1", mug=1)
    shop.spans.trace(before.trace_id, *LAST_SPANS[:3])
    already_arrived = len(shop.spans.arrived)
    answer = shop.order(order_id, sampled=False, mug=1)
    refused = shop.order(f"{order_id}-2", sampled=False, atlas=4)
    assert (answer.status, refused.status) == (201, 409)
    shop.wait_for_receipt(order_id, sampled=False)
    last = shop.order(f"{order_id}-3", mug=1)
    shop.spans.trace(last.trace_id, *LAST_SPANS[:3])
    assert shop.spans.of_trace(answer.trace_id) + shop.spans.of_trace(refused.trace_id) == []
    ids = {order_id, f"{order_id}-2"}
    assert [span for span in shop.spans.arrived if span.attributes.get("order.id") in ids] == []
    # Each request had a parent, so a new root would be a lost span.
    roots = [span for span in shop.spans.arrived[already_arrived:] if not span.parent_id]
    assert roots == []


@dataclass(frozen=True)
class RefusedOrder:
    """An order that fails: its items, the answer, and the exception with the span where it begins."""

    items: dict[str, int]
    status: int
    error: str
    origin: str
    message: str


REFUSED_ORDERS = {
    "out of stock": RefusedOrder(
        {"mug": 1, "atlas": 4}, 409, "shop.stock.OutOfStock", "reserve", "4 of atlas wanted, 3 left"
    ),
    "no such article": RefusedOrder({"unicorn": 1}, 422, "shop.prices.UnknownSku", "quote", "no price for unicorn"),
}


@pytest.mark.parametrize("name", REFUSED_ORDERS)
def test_an_order_that_fails(shop: Shop, order_id: str, name: str) -> None:
    """The exception is recorded once, where it began. The spans above failed for the same reason."""
    case = REFUSED_ORDERS[name]
    answer = shop.order(order_id, **case.items)
    assert (answer.status, answer.body) == (case.status, {"detail": case.message})
    trace = shop.trace(order_id)
    failed = [span for span in trace.own_spans if span.status == ERROR]
    assert [span.name for span in failed] == [case.origin, "place order"]
    assert trace.above(failed[0]) == failed[1:]
    for span in failed:
        assert (span.attributes["otelflow.status"], span.attributes["error.type"]) == ("failed", case.error)
    assert [len(span.exceptions) for span in failed] == [1, 0]
    (recorded,) = failed[0].exceptions
    assert (recorded["exception.type"], recorded["exception.message"]) == (case.error, case.message)
    assert {span.attributes["otelflow.status"] for span in trace.own_spans if span not in failed} <= {"completed"}


@with_instrumentations
def test_the_exception_is_recorded_once(shop: Shop, order_id: str) -> None:
    """The whole trace has one exception. The request was answered, so its span has no error."""
    shop.order(order_id, mug=1, atlas=4)
    trace = shop.trace(order_id, "POST /orders", "GET /prices/{sku}", "GET /prices/{sku}")
    assert [span.name for span in trace.spans if span.exceptions] == ["reserve"]
    assert trace.find_one("POST /orders").status == UNSET


def test_an_order_that_was_placed_before(shop: Shop, order_id: str) -> None:
    """An exception of the flow itself is recorded on the flow."""
    shop.order(order_id, mug=1)
    again = shop.order(order_id, mug=1)
    assert (again.status, again.body) == (409, {"detail": f"there is an order {order_id} already"})
    (flow,) = services.until(
        lambda: shop.spans.find("place order", order_id=order_id, error_type="shop.orders.AlreadyPlaced"), "flow"
    )
    assert [error["exception.type"] for error in flow.exceptions] == ["shop.orders.AlreadyPlaced"]
    assert flow.attributes["otelflow.flow.tasks_failed"] == 0


def test_requests_that_start_no_flow(shop: Shop, order_id: str) -> None:
    """An unknown order is not found, and bad input is refused. Neither is a flow."""
    assert shop.service.ask(f"/orders/{order_id}").status == 404
    assert shop.service.ask(f"/orders/{order_id}/events").status == 404
    assert shop.order(order_id, mug=0).status == 422
    shop.order(f"{order_id}-2", mug=1)
    shop.trace(f"{order_id}-2")
    assert [span for span in shop.spans.arrived if span.attributes.get("order.id") == order_id] == []


def test_a_client_that_leaves_a_stream(shop: Shop, order_id: str) -> None:
    """The flow ends as cancelled, which is no error: it has no exception and no error status."""
    shop.order(order_id, mug=1)
    with shop.service.open_response(f"/orders/{order_id}/events") as stream:
        assert stream.readline().startswith(b'data: {"id":"' + order_id.encode())
        assert shop.spans.find("follow order", order_id=order_id) == []
    flow = shop.spans.wait_for_span("follow order", order_id=order_id)
    assert (flow.attributes["otelflow.status"], flow.status, flow.events) == ("cancelled", UNSET, [])
    assert "error.type" not in flow.attributes


@with_instrumentations
def test_a_job_in_a_thread_is_in_the_trace_that_caused_it(shop: Shop, order_id: str) -> None:
    """OpenTelemetry's threading instrumentation propagates the context: the receipt is below its order."""
    shop.order(order_id, mug=1)
    receipt, order = (
        shop.spans.wait_for_span("send receipt", order_id=order_id),
        shop.spans.wait_for_span("place order", order_id=order_id),
    )
    assert (receipt.trace_id, receipt.parent_id) == (order.trace_id, order.span_id)
    assert receipt.attributes["otelflow.kind"] == "flow"
    assert receipt.attributes["otelflow.flow.run_id"] != order.attributes["otelflow.flow.run_id"]


@otelflow_alone
def test_a_job_in_a_thread_is_a_trace_of_its_own(shop: Shop, order_id: str) -> None:
    """Without it, the receipt is the root of a trace."""
    shop.order(order_id, mug=1)
    receipt, order = (
        shop.spans.wait_for_span("send receipt", order_id=order_id),
        shop.spans.wait_for_span("place order", order_id=order_id),
    )
    assert receipt.parent_id == ""
    assert receipt.trace_id != order.trace_id


@otelflow_alone
def test_an_order_with_otelflow_alone(shop: Shop, order_id: str) -> None:
    """The service is named after its module. A task that is too short is only counted."""
    shop.order(order_id, mug=2, lamp=1)
    trace = shop.trace(order_id)
    flow = trace.find_one("place order")
    tasks = Counter(span.name for span in trace.children(flow, "otelflow"))
    assert tasks == {"quote": 2, "reserve": 2}
    assert {span.service for span in trace.spans} == {"shop"}
    assert flow.attributes["otelflow.flow.tasks"] == 6
    short_tasks = flow.attributes.get("otelflow.dropped.short_tasks", 0)
    assert len(trace.find("available")) + short_tasks == 2


def test_orders_at_the_same_time(shop: Shop, order_id: str) -> None:
    """Of forty orders, eight at once, each flow has exactly its own tasks."""
    quantities = {f"{order_id}-{number}": number for number in range(1, 41)}
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda key: shop.order(key, mug=quantities[key], lamp=1), quantities))
    assert {answer.status for answer in answers} == {201}
    receipts = [shop.spans.wait_for_span("send receipt", order_id=key) for key in quantities]
    assert len({receipt.span_id for receipt in receipts}) == 40
    traces = [shop.trace(key) for key in quantities]
    assert len({trace.spans[0].trace_id for trace in traces}) == 40
    for trace, quantity in zip(traces, quantities.values(), strict=True):
        assert_tasks_of_its_own(trace, trace.find_one("place order"), quantity)


def assert_tasks_of_its_own(trace: Trace, flow: Span, quantity: int) -> None:
    """Assert that the flow has two quotes, and two reservations, one with the quantity of this order."""
    run_id = flow.attributes["otelflow.flow.run_id"]
    tasks = [span for span in trace.children(flow, "otelflow") if span.name != "send receipt"]
    assert sorted((span.name, *span.configured_attributes.values()) for span in tasks) == [
        ("quote", "lamp"),
        ("quote", "mug"),
        ("reserve", "lamp", 1),
        ("reserve", "mug", quantity),
    ]
    run_spans = [span for span in trace.own_spans if span.attributes["otelflow.flow.run_id"] == run_id]
    assert {span.name for span in run_spans} - {"available"} == {"place order", "quote", "reserve"}
    assert {span.attributes["otelflow.flow.run_id"] for span in tasks} == {run_id}


# --- the files of the examples ---------------------------------------------------------------------------------------

EXAMPLE_NAMES = ["shop", "wsgi", "nightly"]


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_the_code_has_no_tracing(example: str) -> None:
    """No file of it imports otelflow or OpenTelemetry."""
    files = list((EXAMPLES / example).rglob("*.py"))
    assert files
    imported = {name.partition(".")[0] for file in files for name in imports(ast.parse(file.read_text()))}
    assert imported & {"otelflow", "opentelemetry"} == set()


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the names of the modules that the code imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("example", EXAMPLE_NAMES)
def test_check_accepts_the_configuration(example: str) -> None:
    """It finds every target, and warns about none."""
    command = [services.script("otelflow"), "check", "--strict"]
    environment = programs.clean_environment(PYTHONDONTWRITEBYTECODE="1")
    result: Any = subprocess.run(
        command, cwd=EXAMPLES / example, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    *targets, total = result.stdout.splitlines()
    assert [line[0] for line in targets] == ["✓"] * len(targets)
    assert total.startswith(f"otelflow.toml: {len(targets)} targets, ")
