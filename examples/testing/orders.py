"""Order service: gets prices, shipping costs and payments from partners over HTTP, and stores orders in SQLite.

Nothing here is for tests only. The decorators and the spans around SQL statements are for production traces. Amounts
are in cents.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

from opentelemetry import trace

from otelflow import Task, flow, task

tracer = trace.get_tracer("orders.db")

Database = sqlite3.Connection

Basket = Mapping[str, int]
"""Quantity of each article."""

Ask = Callable[..., Awaitable[Any]]
"""HTTP client: takes a path and the fields to send, and returns the JSON of the response."""

HEAVIEST_PARCEL = 10_000  # grams


class OrderError(Exception):
    """An order could not be placed or packed."""


class OutOfStock(OrderError):
    """There are fewer pieces than requested."""


class CardDeclined(OrderError):
    """The payment was refused."""


class TooHeavy(OrderError):
    """The order is too heavy for one parcel."""


# --- the database ---------------------------------------------------------------------------------------------------

SCHEMA = """
CREATE TABLE stock (sku TEXT PRIMARY KEY, grams INTEGER, free INTEGER CHECK (free >= 0));
CREATE TABLE orders (number INTEGER PRIMARY KEY, customer TEXT, total INTEGER, packed INTEGER DEFAULT 0);
CREATE TABLE lines (number INTEGER REFERENCES orders, sku TEXT REFERENCES stock, count INTEGER);
"""


def database(path: str = ":memory:") -> Iterator[Database]:
    """Yield a new database with some stock, and close it: usable with FastAPI's ``Depends``."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
        db.executemany("INSERT INTO stock VALUES (?, ?, ?)", [("tea", 100, 50), ("anvil", 30_000, 1)])
        db.commit()
        yield db


def sql(db: Database, name: str, statement: str, *values: object) -> sqlite3.Cursor:
    """Run one statement, in a span like those of OpenTelemetry's database instrumentations."""
    attributes = {"db.system.name": "sqlite", "db.query.text": statement}
    with tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes):
        return db.execute(statement, values)


# --- placing an order -----------------------------------------------------------------------------------------------


def price_of(count: int, price: int) -> int:
    """Return the price of ``count`` pieces, with a discount of 10 % from ten pieces."""
    return count * price * 9 // 10 if count >= 10 else count * price


@flow(name="place order", transparent=True)
async def place_order(db: Database, ask: Ask, customer: str, country: str, basket: Basket) -> int:
    """Reserve, price, charge and store an order, and send a receipt. Returns the order's number."""
    reserve(db, basket)
    try:
        total = await quote(ask, country, basket)
        await charge(ask, customer, total)
    except BaseException:  # also if the customer's request is cancelled
        release(db, basket)
        raise
    number = store(db, customer, total, basket)
    await send_receipt(ask, customer, number)
    return number


@task
def reserve(db: Database, basket: Basket) -> None:
    """Take all articles from stock, or none."""
    with db:
        for sku, count in basket.items():
            try:
                sql(db, "UPDATE stock", "UPDATE stock SET free = free - ? WHERE sku = ?", count, sku)
            except sqlite3.IntegrityError as error:
                raise OutOfStock(f"fewer than {count} of {sku}") from error


@task
def release(db: Database, basket: Basket) -> None:
    """Put the articles back into stock."""
    with db:
        for sku, count in basket.items():
            sql(db, "UPDATE stock", "UPDATE stock SET free = free + ? WHERE sku = ?", count, sku)


@task
async def quote(ask: Ask, country: str, basket: Basket, this_task: Task | None = None) -> int:
    """Return the total. All prices and the shipping costs are requested at the same time."""
    *prices, shipping = await asyncio.gather(*(fetch_price(ask, sku) for sku in basket), fetch_shipping(ask, country))
    goods = sum(price_of(count, price) for count, price in zip(basket.values(), prices, strict=True))
    if this_task is not None:
        bill = {"goods": goods, "shipping": shipping, "total": goods + shipping}
        this_task.add_artifact("What the customer pays", "bill", bill, "json")
    return goods + shipping


@task
async def fetch_price(ask: Ask, sku: str) -> int:
    """Return the price of one piece."""
    return int(await ask(f"prices/{sku}"))


@task(attributes={"peer.service": "parcels"})
async def fetch_shipping(ask: Ask, country: str) -> int:
    """Return the shipping costs to a country."""
    return int(await ask(f"shipping/{country}"))


@task
async def charge(ask: Ask, customer: str, total: int, this_task: Task | None = None) -> None:
    """Charge the customer's card."""
    if this_task is not None:
        this_task.log_info(f"charging {customer} {total / 100:.2f}")
    answer = await ask(f"payments/{customer}", total=total)
    if answer != "ok":
        raise CardDeclined(answer)


@task
def store(db: Database, customer: str, total: int, basket: Basket) -> int:
    """Store the order with its lines. Returns its number."""
    with db:
        statement = "INSERT INTO orders (customer, total) VALUES (?, ?)"
        number = sql(db, "INSERT orders", statement, customer, total).lastrowid
        for sku, count in basket.items():
            sql(db, "INSERT lines", "INSERT INTO lines VALUES (?, ?, ?)", number, sku, count)
    return number or 0


@task(raise_on_error=False)
async def send_receipt(ask: Ask, customer: str, number: int) -> None:
    """Send a mail to the customer. The order is valid even if this fails."""
    await ask(f"mails/{customer}", text=f"Thank you for order {number}.")


# --- packing --------------------------------------------------------------------------------------------------------


@flow(name="pack orders")
def pack_orders(db: Database) -> int:
    """Pack a parcel for each order, every evening. Returns the number of parcels."""
    numbers = [number for (number,) in sql(db, "SELECT orders", "SELECT number FROM orders WHERE packed = 0")]
    statement = "SELECT number, sum(count * grams) FROM lines JOIN stock USING (sku) GROUP BY number"
    weights = dict(sql(db, "SELECT lines", statement))  # one query for all orders
    parcels = sum(bool(pack(db, number, weights[number])) for number in numbers)
    print(f"{parcels} of {len(numbers)} orders packed")
    return parcels


@task(raise_on_error=False)
def pack(db: Database, number: int, grams: int) -> bool:
    """Pack one parcel. An order that cannot be packed is tried again the next evening."""
    if grams > HEAVIEST_PARCEL:
        raise TooHeavy(f"order {number} has {grams / 1000:.1f} kg")
    with db:
        sql(db, "UPDATE orders", "UPDATE orders SET packed = 1 WHERE number = ?", number)
    return True
