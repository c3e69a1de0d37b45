"""Promise: FastAPI takes what is decorated for what it was."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

# --- FastAPI --------------------------------------------------------------------------------------


@dataclass
class Order:
    """What is ordered: the body of a request."""

    item: str
    count: int = 1


def application(dependency: Any, endpoint: Any, value: Any = lambda made: made) -> Any:
    """An application with a dependency and an endpoint, each below a decorator; ``value`` is a dependency's own."""
    from fastapi import Depends, FastAPI, Query

    def account(token: str, limit: int = Query(default=10, le=100)) -> Any:
        return [token, limit]

    injected = Depends(dependency(account))

    async def order(number: int, body: Order, page: int = 1, who: Any = injected) -> Any:
        """Orders something."""
        return [number, body.item, body.count, page, *value(who)]

    made = FastAPI()
    made.post("/orders/{number}")(endpoint(order))
    return made


def undecorated(function: Any) -> Any:
    """No decorator."""
    return function


def test_fastapis_own_inspection(subject: Any) -> None:
    """The schema of a decorated endpoint and dependency is the one of the functions."""
    pytest.importorskip("fastapi")
    schema = application(subject.decorate, subject.decorate).openapi()
    assert schema == application(undecorated, undecorated).openapi()
    assert [parameter["name"] for parameter in schema["paths"]["/orders/{number}"]["post"]["parameters"]] == [
        "number",
        "page",
        "token",
        "limit",
    ]


def test_fastapi_calls_what_is_decorated(subject: Any) -> None:
    """Path, query and body arrive, dependencies do, and a request that does not fit is refused before any call."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    # What an endpoint returns is the response: a deferred flow is a dependency at most.
    endpoint = undecorated if subject.deferred else subject.decorate
    app = application(subject.decorate, endpoint, value=lambda made: subject.call(lambda: made))

    async def requests() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            good = await client.post("/orders/3?page=2&token=t&limit=5", json={"item": "tea"})
            return good, await client.post("/orders/x?token=t&limit=101", json={})

    good, refused = asyncio.run(requests())
    assert (good.status_code, good.json()) == (200, [3, "tea", 1, 2, "t", 5])
    assert refused.status_code == 422
    assert [error["loc"][-1] for error in refused.json()["detail"]] == ["limit", "number", "item"]
    names = [span.name for span in subject.spans if span.name in ("account", "order")]  # FastAPI makes some, too
    assert names == (["account"] if subject.deferred else ["account", "order"])
