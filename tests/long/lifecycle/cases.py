"""All cases, in the order of the table."""

from __future__ import annotations

from lifecycle.ends import PLAIN, SIGNALS
from lifecycle.matrix import Case
from lifecycle.processes import PROCESSES, SERVERS
from lifecycle.receivers import OVER_GRPC, RECEIVERS

GROUPS: dict[str, list[Case]] = {
    "the process ends": PLAIN,
    "a signal": SIGNALS,
    "a server": SERVERS,
    "other processes": PROCESSES,
    "the receiver": RECEIVERS,
    "OTLP over gRPC": OVER_GRPC,
}

CASES = [case for cases in GROUPS.values() for case in cases]
