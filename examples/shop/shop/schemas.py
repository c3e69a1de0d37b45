"""JSON schemas of requests and responses. Amounts are in cents."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,40}$")]


class Customer(BaseModel):
    """Customer of an order."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    tier: Annotated[str, Field(max_length=20)] = "standard"


class Item(BaseModel):
    """Article and quantity."""

    sku: Identifier
    quantity: Annotated[int, Field(ge=1, le=1000)]


class Order(BaseModel):
    """Order, as a customer sends it."""

    id: Identifier
    customer: Customer
    items: Annotated[list[Item], Field(min_length=1, max_length=50)]


class Placed(BaseModel):
    """Accepted order."""

    id: str
    total: int
    status: str
