"""The soak for some seconds, bounded by a number of rounds; ``make soak`` takes ten minutes."""

from __future__ import annotations

import sys

import pytest
from soak import soak, verdicts


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_nothing_is_left_and_all_is_told(protocol: str) -> None:
    """Threads, coroutines, generators left early, errors, cancellations, listeners, messages over limits, forks and
    pools of processes: through four kinds of outage, what is left is what there was, and each span was received, or is
    counted as lost."""
    rounds = 20 if protocol == "http/protobuf" else 5
    said, receiver = soak(rounds, 0.0, 0.7, OTELFLOW_QUEUE_SIZE="2000", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    wrong = [row for row in verdicts(said, receiver) if not row[-1] and row[0] != "resident memory"]
    assert wrong == []
    assert said["rounds"] == rounds
    assert (said["children"]["children"] > 0) == (protocol != "grpc")
