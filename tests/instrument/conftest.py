"""Fixtures of the tests of instrumenting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shopping


@pytest.fixture(autouse=True)
def shop(tmp_path: Path) -> Iterator[Any]:
    """The package ``shop``, and its module ``stock``."""
    shopping.write(tmp_path)
    with shopping.importable(tmp_path):
        yield shopping.load("stock")
