"""What is on the shelves."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shop.database import StockRow


class OutOfStock(Exception):
    """There are fewer than somebody wants."""

    def __init__(self, sku: str, wanted: int, left: int) -> None:
        super().__init__(f"{wanted} of {sku} wanted, {left} left")


def available(session: Session, sku: str) -> int:
    """How many there are; none of what the shop never had."""
    return session.scalar(select(StockRow.quantity).where(StockRow.sku == sku)) or 0


def reserve(session: Session, sku: str, quantity: int) -> None:
    """Take some off the shelf, in a transaction that writes."""
    left = available(session, sku)
    if left < quantity:
        raise OutOfStock(sku, quantity, left)
    session.execute(update(StockRow).where(StockRow.sku == sku).values(quantity=StockRow.quantity - quantity))
