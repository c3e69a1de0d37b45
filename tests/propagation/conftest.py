"""Fixtures of the tests of propagation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import pytest
from pickling import Pickling

from otelflow._runtime.drop_counts import counts
from otelflow.propagate import propagating


@pytest.fixture
def pool() -> Iterator[Executor]:
    """A propagating executor that pickles."""
    with propagating(Pickling()) as made:
        yield made


@pytest.fixture
def counted_from_zero() -> None:
    """Each test counts its own losses."""
    counts.clear()
