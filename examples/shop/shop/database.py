"""Database of the shop: tables, and transactions. SQLite, with threads that read and write at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, ForeignKey, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

FIRST_STOCK = {"mug": 100_000, "lamp": 1_000, "atlas": 3}


class Base(DeclarativeBase):
    """Base of the shop's tables."""


class StockRow(Base):
    """Number of pieces of an article in stock."""

    __tablename__ = "stock"

    sku: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]


class LineRow(Base):
    """One article of an order, with its price at that time."""

    __tablename__ = "order_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"), index=True)
    sku: Mapped[str]
    quantity: Mapped[int]
    price: Mapped[int]


class OrderRow(Base):
    """Accepted order."""

    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(primary_key=True)
    customer: Mapped[str]
    tier: Mapped[str]
    total: Mapped[int]
    status: Mapped[str] = mapped_column(default="placed")
    lines: Mapped[list[LineRow]] = relationship()


class ReceiptRow(Base):
    """Receipt that was sent."""

    __tablename__ = "receipts"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id"))
    text: Mapped[str]


class Database:
    """Database with separate transactions for reading and writing.

    Writers take SQLite's lock when they begin. A transaction that reads first and writes later cannot wait for the
    lock, and fails with "database is locked". Threads of one process first wait for a lock in Python, because SQLite
    waits by sleeping.
    """

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, connect_args={"timeout": 30})
        event.listen(self._engine, "connect", _set_up)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        self._one_writer = threading.Lock()

    def create(self) -> None:
        """Create the tables, and the stock of a new shop."""
        with self._writer.begin() as connection:
            Base.metadata.create_all(connection)
            rows = [{"sku": sku, "quantity": quantity} for sku, quantity in FIRST_STOCK.items()]
            connection.execute(insert(StockRow).on_conflict_do_nothing(), rows)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session for reading."""
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session for writing. It commits unless the block raises."""
        with self._one_writer, Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _set_up(connection: Any, record: object) -> None:
    connection.isolation_level = None  # `_begin` starts the transactions, not the driver
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
