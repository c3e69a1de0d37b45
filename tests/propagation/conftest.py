"""Fixtures of the propagation tests."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import pytest
from pickling import PicklingExecutor

from otelflow._runtime.drop_counts import counts
from otelflow.propagate import propagating


@pytest.fixture
def pool() -> Iterator[Executor]:
    """Return a propagating executor that pickles jobs and results."""
    with propagating(PicklingExecutor()) as executor:
        yield executor


@pytest.fixture
def counted_from_zero() -> None:
    """Clear the drop counts, so that each test counts its own."""
    counts.clear()
