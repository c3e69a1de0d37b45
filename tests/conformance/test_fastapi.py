"""FastAPI treats a decorated function like the function itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

# --- FastAPI --------------------------------------------------------------------------------------


@dataclass
class Order:
    """The body of a request."""

    item: str
    count: int = 1


def application(dependency: Any, endpoint: Any, value: Any = lambda result: result) -> Any:
    """Return an application: ``dependency`` and ``endpoint`` are decorators, ``value`` unwraps a decorated result."""
    from fastapi import Depends, FastAPI, Query

    def account(token: str, limit: int = Query(default=10, le=100)) -> Any:
        return [token, limit]

    injected = Depends(dependency(account))

    async def order(number: int, body: Order, page: int = 1, who: Any = injected) -> Any:
        """Orders something."""
        return [number, body.item, body.count, page, *value(who)]

    app = FastAPI()
    app.post("/orders/{number}")(endpoint(order))
    return app


def undecorated(function: Any) -> Any:
    """Return ``function`` unchanged."""
    return function


def test_fastapis_schema_is_unchanged(subject: Any) -> None:
    """The schema of a decorated endpoint and dependency is that of the functions."""
    pytest.importorskip("fastapi")
    schema = application(subject.decorate, subject.decorate).openapi()
    assert schema == application(undecorated, undecorated).openapi()
    assert [parameter["name"] for parameter in schema["paths"]["/orders/{number}"]["post"]["parameters"]] == [
        "number",
        "page",
        "token",
        "limit",
    ]


def test_fastapi_calls_decorated_functions(subject: Any) -> None:
    """Path, query, body and dependencies arrive. An invalid request is refused before any call."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    # FastAPI sends the result of an endpoint as the response: a deferred flow can only be a dependency.
    endpoint = undecorated if subject.deferred else subject.decorate
    app = application(subject.decorate, endpoint, value=lambda result: subject.call(lambda: result))

    async def requests() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            good = await client.post("/orders/3?page=2&token=t&limit=5", json={"item": "tea"})
            return good, await client.post("/orders/x?token=t&limit=101", json={})

    good, refused = asyncio.run(requests())
    assert (good.status_code, good.json()) == (200, [3, "tea", 1, 2, "t", 5])
    assert refused.status_code == 422
    assert [error["loc"][-1] for error in refused.json()["detail"]] == ["limit", "number", "item"]
    names = [span.name for span in subject.spans if span.name in ("account", "order")]  # FastAPI creates some, too
    assert names == (["account"] if subject.deferred else ["account", "order"])
