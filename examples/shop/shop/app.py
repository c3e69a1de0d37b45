"""HTTP service of the shop: ``uvicorn shop.app:app``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, cast

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from shop.database import Database
from shop.jobs import Jobs
from shop.orders import AlreadyPlaced, OrderService, UnknownOrder
from shop.prices import PricesUnavailable, UnknownSku
from shop.schemas import Order, Placed
from shop.settings import Settings
from shop.stock import OutOfStock

STATUS_OF = {OutOfStock: 409, AlreadyPlaced: 409, UnknownOrder: 404, UnknownSku: 422, PricesUnavailable: 502}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open and close the database, the job threads and the HTTP client."""
    settings = Settings.from_environment()
    database, background = Database(settings.database), Jobs()
    await asyncio.to_thread(database.create)
    timeout, limits = httpx.Timeout(5, pool=30), httpx.Limits(max_connections=20)
    async with httpx.AsyncClient(base_url=settings.prices_url, timeout=timeout, limits=limits) as client:
        app.state.orders = OrderService(database, client, background)
        yield
    await asyncio.to_thread(background.close)
    database.close()


app = FastAPI(title="shop", lifespan=lifespan)


def _orders(request: Request) -> OrderService:
    return cast(OrderService, request.app.state.orders)


Orders = Annotated[OrderService, Depends(_orders)]


@app.post("/orders", status_code=201)
async def place_order(order: Order, orders: Orders) -> Placed:
    """Place an order."""
    return await orders.place(order)


@app.get("/orders/{order_id}")
def find_order(order_id: str, orders: Orders) -> Placed:
    """Return an order."""
    return orders.find(order_id)


@app.get("/orders/{order_id}/events")
async def follow_order(order_id: str, orders: Orders) -> StreamingResponse:
    """Stream the states of an order as server-sent events, until the client disconnects."""
    await asyncio.to_thread(orders.find, order_id)  # a 404 must be sent before the stream starts
    return StreamingResponse(_as_events(orders, order_id), media_type="text/event-stream")


@app.get("/health")
async def health() -> dict[str, str]:
    """Return the status of the service."""
    return {"status": "ok"}


async def _as_events(orders: OrderService, order_id: str) -> AsyncIterator[str]:
    async with aclosing(orders.follow(order_id)) as states:
        async for state in states:
            yield f"data: {state.model_dump_json()}\n\n"


def _error_response(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=STATUS_OF[type(error)])


for kind in STATUS_OF:
    app.add_exception_handler(kind, _error_response)
