"""Stock of articles."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shop.database import StockRow


class OutOfStock(Exception):
    """There are fewer pieces than requested."""

    def __init__(self, sku: str, quantity: int, in_stock: int) -> None:
        super().__init__(f"{quantity} of {sku} wanted, {in_stock} left")


def available(session: Session, sku: str) -> int:
    """Return the number of pieces in stock; 0 for an unknown article."""
    return session.scalar(select(StockRow.quantity).where(StockRow.sku == sku)) or 0


def reserve(session: Session, sku: str, quantity: int) -> None:
    """Take pieces from stock, in a transaction for writing."""
    count = available(session, sku)
    if count < quantity:
        raise OutOfStock(sku, quantity, count)
    session.execute(update(StockRow).where(StockRow.sku == sku).values(quantity=StockRow.quantity - quantity))
