"""What things cost, over HTTP: ``uvicorn prices.app:app --port 8001``."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, HTTPException

CENTS = {"mug": 850, "lamp": 4_900, "atlas": 12_000, "poster": 1_500}

app = FastAPI(title="prices")


@app.get("/prices/{sku}")
async def price(sku: str) -> dict[str, str | int]:
    """The price of one article."""
    await asyncio.sleep(0.005)  # a real one would look it up somewhere
    if sku not in CENTS:
        raise HTTPException(404, f"no price for {sku}")
    return {"sku": sku, "cents": CENTS[sku]}


@app.get("/health")
async def health() -> dict[str, str]:
    """Whether the service is there."""
    return {"status": "ok"}
