"""Run the example shop with the spans of its ``otelflow.toml`` written by hand: ``shop_by_hand.py PORT``.

The code is as in a real service: OpenTelemetry's own context manager, the SDK's own batch processor and exporter. Names
and attributes are the same.
"""

from __future__ import annotations

import functools
import itertools
import sys
from pathlib import Path
from typing import Any

import uvicorn
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "shop"))

import shop.app
from shop import jobs, orders, prices, stock

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("shop")
numbers = itertools.count()


def span_attributes(kind: str, name: str, function: Any, **more: Any) -> dict[str, Any]:
    return {
        "otelflow.kind": kind,
        f"otelflow.{kind}.name": name,
        f"otelflow.{kind}.run_id": f"{kind}_{next(numbers):028x}",
        "code.function.name": f"{function.__module__}.{function.__qualname__}",
        **more,
    }


place, quote, reserve, send_receipt = orders.OrderService.place, prices.quote, stock.reserve, jobs.send_receipt


@functools.wraps(place)
async def traced_place(self: Any, order: Any) -> Any:
    with tracer.start_as_current_span("place order", attributes=span_attributes("flow", "place order", place)) as span:
        span.set_attribute("order.id", order.id)
        span.set_attribute("customer.tier", order.customer.tier)
        placed = await place(self, order)
        span.set_attribute("otelflow.status", "completed")
        return placed


@functools.wraps(quote)
async def traced_quote(client: Any, sku: str) -> int:
    with tracer.start_as_current_span("quote", attributes=span_attributes("task", "quote", quote)) as span:
        span.set_attribute("item.sku", sku)
        cents = await quote(client, sku)
        span.set_attribute("otelflow.status", "completed")
        return cents


@functools.wraps(reserve)
def traced_reserve(session: Any, sku: str, quantity: int) -> None:
    with tracer.start_as_current_span("reserve", attributes=span_attributes("task", "reserve", reserve)) as span:
        span.set_attribute("item.sku", sku)
        span.set_attribute("item.quantity", quantity)
        reserve(session, sku, quantity)
        span.set_attribute("otelflow.status", "completed")


@functools.wraps(send_receipt)
def traced_receipt(database: Any, order_id: str, recipient: str) -> None:
    with tracer.start_as_current_span(
        "send receipt", attributes=span_attributes("flow", "send receipt", send_receipt)
    ) as span:
        span.set_attribute("order.id", order_id)
        send_receipt(database, order_id, recipient)
        span.set_attribute("otelflow.status", "completed")


orders.OrderService.place = traced_place
orders.reserve = stock.reserve = traced_reserve
prices.quote = traced_quote
jobs.send_receipt = traced_receipt

if __name__ == "__main__":
    uvicorn.run(shop.app.app, port=int(sys.argv[1]), log_level="warning", access_log=False)
