"""Where the shop keeps its data and whom it asks, from the environment."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What differs between a laptop, a test and production."""

    database: str
    """A URL of SQLAlchemy."""
    prices_url: str

    @classmethod
    def from_environment(cls) -> Settings:
        """``SHOP_DATABASE`` is a path or a SQLite URL, ``SHOP_PRICES_URL`` the address of the price service."""
        database = os.environ.get("SHOP_DATABASE") or str(Path(tempfile.gettempdir(), "shop-example.db"))
        return cls(
            database=database if "://" in database else f"sqlite:///{database}",
            prices_url=os.environ.get("SHOP_PRICES_URL") or "http://127.0.0.1:8001",
        )
