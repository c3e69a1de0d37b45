"""Settings of the shop, from environment variables."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings that differ between development, tests and production."""

    database: str
    """Database URL, for SQLAlchemy."""
    prices_url: str

    @classmethod
    def from_environment(cls) -> Settings:
        """Read ``SHOP_DATABASE``, a path or a SQLite URL, and ``SHOP_PRICES_URL``, the URL of the price service."""
        database = os.environ.get("SHOP_DATABASE") or str(Path(tempfile.gettempdir(), "shop-example.db"))
        return cls(
            database=database if "://" in database else f"sqlite:///{database}",
            prices_url=os.environ.get("SHOP_PRICES_URL") or "http://127.0.0.1:8001",
        )
