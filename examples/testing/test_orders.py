"""The order service, tested by what runs in it."""

import asyncio

import pytest
from orders import CardDeclined, Database, database, pack_orders, place_order

from otelflow.testing import Capture

ANSWERS = {"prices/tea": 450, "prices/anvil": 9900, "shipping/AT": 390, "payments/ada": "ok", "payments/bob": "expired"}

db = pytest.fixture(database)


async def ask(path: str, **fields: object) -> object:
    """The partners, as an HTTP client would reach them."""
    return ANSWERS.get(path)


def test_an_order(db: Database, capflow: Capture) -> None:
    """Prices and shipping are asked for together; then the card is charged, once."""
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
    """What was reserved goes back into stock."""
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
    """Two queries, however many orders there are; what is too heavy stays."""
    for basket in {"tea": 1}, {"tea": 2}, {"anvil": 1}:
        asyncio.run(place_order(db, ask, "ada", "AT", basket))
    capflow.clear()
    assert pack_orders(db).execute().messages[-1] == "2 of 3 orders packed"
    capflow.assert_count("SELECT *", exactly=2)
    assert [run.error for run in capflow.find("pack")] == [None, None, "orders.TooHeavy: order 3 has 30.0 kg"]
