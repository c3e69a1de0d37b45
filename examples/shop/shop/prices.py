"""Client of the price service."""

from __future__ import annotations

import httpx


class UnknownSku(Exception):
    """The price service does not have this article."""

    def __init__(self, sku: str) -> None:
        super().__init__(f"no price for {sku}")


class PricesUnavailable(Exception):
    """The price service sent no response, or an invalid one."""


async def quote(client: httpx.AsyncClient, sku: str) -> int:
    """Return the price of one piece, in cents."""
    try:
        response = await client.get(f"/prices/{sku}")
        if response.status_code == httpx.codes.NOT_FOUND:
            raise UnknownSku(sku)
        return int(response.raise_for_status().json()["cents"])
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise PricesUnavailable(f"the price of {sku} is not available now") from error
