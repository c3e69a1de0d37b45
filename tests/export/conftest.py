"""Fixtures of the tests of export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sending import Sending


@pytest.fixture
def started() -> Iterator[list[Any]]:
    """What is ended after the test."""
    made: list[Any] = []
    yield made
    for each in reversed(made):
        each.pipeline.stop(0) if isinstance(each, Sending) else each.close()
