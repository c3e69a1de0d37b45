"""Tests of the order service, by its spans."""

import asyncio

import pytest
from orders import CardDeclined, Database, database, pack_orders, place_order

from otelflow.testing import Capture

ANSWERS = {"prices/tea": 450, "prices/anvil": 9900, "shipping/AT": 390, "payments/ada": "ok", "payments/bob": "expired"}

db = pytest.fixture(database)


async def ask(path: str, **fields: object) -> object:
    """Return the partners' responses, as an HTTP client would."""
    return ANSWERS.get(path)


def test_an_order(db: Database, capflow: Capture) -> None:
    """Prices and shipping costs are requested together. Then the card is charged once."""
    assert asyncio.run(place_order(db, ask, "ada", "AT", {"tea": 10, "anvil": 1})) == 1
    capflow.assert_tree("""
        place order
          reserve
            UPDATE stock  x2
          quote
            ~ fetch_shipping  {peer.service=parcels}
            ~ fetch_price  x2
          charge
          ...
        """)
    assert capflow.task("quote").artifact("bill").data == {"goods": 13950, "shipping": 390, "total": 14340}
    assert capflow.task("charge").messages == ["charging ada 143.40"]


def test_a_declined_card(db: Database, capflow: Capture) -> None:
    """The reserved articles go back into stock."""
    with pytest.raises(CardDeclined):
        asyncio.run(place_order(db, ask, "bob", "AT", {"tea": 2}))
    capflow.assert_tree("""
        place order  !CardDeclined
          ...
          charge  !CardDeclined
          release
            UPDATE stock  {db.query.text="UPDATE stock SET free = free + ? WHERE sku = ?"}
        """)


def test_packing(db: Database, capflow: Capture) -> None:
    """There are two queries for any number of orders. A heavy order is not packed."""
    for basket in {"tea": 1}, {"tea": 2}, {"anvil": 1}:
        asyncio.run(place_order(db, ask, "ada", "AT", basket))
    capflow.clear()
    assert pack_orders(db).execute().messages[-1] == "2 of 3 orders packed"
    capflow.assert_count("SELECT *", exactly=2)
    assert [run.error for run in capflow.find("pack")] == [None, None, "orders.TooHeavy: order 3 has 30.0 kg"]
