"""Place, find and follow orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

import httpx

from shop import jobs, prices
from shop.database import Database, LineRow, OrderRow
from shop.schemas import Order, Placed
from shop.stock import reserve


class UnknownOrder(Exception):
    """There is no order with this id."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"no order {order_id}")


class AlreadyPlaced(Exception):
    """There is already an order with this id."""

    def __init__(self, order_id: str) -> None:
        super().__init__(f"there is an order {order_id} already")


class OrderService:
    """Operations on orders, independent of the protocol."""

    def __init__(self, database: Database, client: httpx.AsyncClient, background: jobs.Jobs) -> None:
        self._database = database
        self._client = client
        self._background = background

    async def place(self, order: Order) -> Placed:
        """Get the prices, reserve all items or none, store the order, and send a receipt in the background."""
        price_of = await self._quotes(order)
        placed = await asyncio.to_thread(self._store, order, price_of)
        self._background.add(jobs.send_receipt, self._database, order.id, order.customer.name)
        return placed

    def find(self, order_id: str) -> Placed:
        """Return the order with this id."""
        with self._database.reading() as session:
            row = session.get(OrderRow, order_id)
            if row is None:
                raise UnknownOrder(order_id)
            return Placed(id=row.id, total=row.total, status=row.status)

    async def follow(self, order_id: str, pause: float = 0.1) -> AsyncGenerator[Placed, None]:
        """Yield the current order every ``pause`` seconds, until the consumer stops."""
        while True:
            yield await asyncio.to_thread(self.find, order_id)
            await asyncio.sleep(pause)

    async def _quotes(self, order: Order) -> Mapping[str, int]:
        skus = sorted({item.sku for item in order.items})
        quotes = await asyncio.gather(*(prices.quote(self._client, sku) for sku in skus))
        return dict(zip(skus, quotes, strict=True))

    def _store(self, order: Order, price_of: Mapping[str, int]) -> Placed:
        lines = [LineRow(sku=item.sku, quantity=item.quantity, price=price_of[item.sku]) for item in order.items]
        total = sum(line.quantity * line.price for line in lines)
        with self._database.writing() as session:
            if session.get(OrderRow, order.id) is not None:
                raise AlreadyPlaced(order.id)
            for item in order.items:
                reserve(session, item.sku, item.quantity)
            customer = order.customer
            session.add(OrderRow(id=order.id, customer=customer.name, tier=customer.tier, total=total, lines=lines))
        return Placed(id=order.id, total=total, status="placed")
