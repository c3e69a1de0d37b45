"""The soak for a few seconds, bounded by a number of rounds. ``make soak`` takes ten minutes."""

from __future__ import annotations

import sys

import pytest
from soak import checks, soak


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_nothing_leaks_and_every_span_is_accounted_for(protocol: str) -> None:
    """After four kinds of outage, nothing has grown, and each span was received or counted as lost.

    The work: threads, coroutines, generators closed early, errors, cancellations, listeners, messages over limits,
    forks and process pools.
    """
    rounds = 20 if protocol == "http/protobuf" else 5
    facts, receiver = soak(rounds, 0.0, 0.7, OTELFLOW_QUEUE_SIZE="2000", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
    wrong = [row for row in checks(facts, receiver) if not row[-1] and row[0] != "resident memory"]
    assert wrong == []
    assert facts["rounds"] == rounds
    assert (facts["children"]["children"] > 0) == (protocol != "grpc")
