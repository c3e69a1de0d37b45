"""What things cost, as the price service says."""

from __future__ import annotations

import httpx


class UnknownSku(Exception):
    """The price service has never heard of it."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"no price for {sku}")


class PricesUnavailable(Exception):
    """The price service gave no answer, or none that makes sense."""


async def quote(client: httpx.AsyncClient, sku: str) -> int:
    """The price of one, in cents."""
    try:
        answer = await client.get(f"/prices/{sku}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise UnknownSku(sku)
        return int(answer.raise_for_status().json()["cents"])
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise PricesUnavailable(f"the price of {sku} cannot be had now") from error
