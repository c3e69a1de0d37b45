"""HTTP service for prices: ``uvicorn prices.app:app --port 8001``."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, HTTPException

CENTS = {"mug": 850, "lamp": 4_900, "atlas": 12_000, "poster": 1_500}

app = FastAPI(title="prices")


@app.get("/prices/{sku}")
async def price(sku: str) -> dict[str, str | int]:
    """Return the price of one article."""
    await asyncio.sleep(0.005)  # a real service would query a database
    if sku not in CENTS:
        raise HTTPException(404, f"no price for {sku}")
    return {"sku": sku, "cents": CENTS[sku]}


@app.get("/health")
async def health() -> dict[str, str]:
    """Return the status of the service."""
    return {"status": "ok"}
