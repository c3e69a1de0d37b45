"""The soak for some seconds, bounded by a number of rounds; ``make soak`` takes ten minutes."""

from __future__ import annotations

import sys

import pytest
from soak import soak, verdicts


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_is_left_and_all_is_told() -> None:
    """Threads, coroutines, generators left early, errors, cancellations, listeners, messages over limits: through four
    kinds of outage, what is left is what there was, and each span was received, or is counted as lost."""
    said, receiver = soak(20, 0.0, 0.7, OTELFLOW_QUEUE_SIZE="2000")
    wrong = [row for row in verdicts(said, receiver) if not row[-1] and row[0] != "resident memory"]
    assert wrong == []
    assert said["rounds"] == 20
