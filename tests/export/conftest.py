"""Fixtures for the export tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sending import Sending


@pytest.fixture
def cleanup() -> Iterator[list[Any]]:
    """Yield a list of objects that are stopped or closed after the test, the last one first."""
    objects: list[Any] = []
    yield objects
    for item in reversed(objects):
        item.pipeline.stop(0) if isinstance(item, Sending) else item.close()
