"""End to end over OTLP: spans made and sent, with otelflow and by hand, in interleaved processes. Prints JSON."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from sinks import Sinks, running

PROTOCOLS = {"http/protobuf": "OTLP/HTTP", "grpc": "OTLP/gRPC"}
WHO = ("otelflow", "by-hand")
BURST = 100_000


def ran(sinks: Sinks, protocol: str, who: str, spans: int, *flags: str) -> tuple[dict[str, float], int]:
    """What a program said, and how many spans arrived."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "OTELFLOW"))}
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sinks.endpoints[protocol],
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        **({} if "--burst" in flags else {"OTELFLOW_QUEUE_SIZE": str(2**20)}),
    }
    command = [sys.executable, "wire_program.py", who, str(spans), *flags]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), sinks.taken()


def compared(name: str, what: str, found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    ours, hand = ([each[what] for each in found[who]] for who in WHO)
    ratios = sorted(mine / other for mine, other in zip(ours, hand, strict=True))
    yard = statistics.median(each["yard"] for each in found["otelflow"])
    return {
        "name": name,
        "micros": round(statistics.median(ours) * yard * 1e6, 2),
        "ratio": round(statistics.median(ours) / statistics.median(hand), 3),
        "spread": round((ratios[-1] - ratios[0]) / 2, 3),
    }


def main() -> None:
    quick = "--quick" in sys.argv
    rounds, spans = (2, 2_000) if quick else (5, 20_000)
    rows: list[dict[str, Any]] = []
    with running() as sinks:
        for protocol, name in PROTOCOLS.items():
            found: dict[str, list[dict[str, float]]] = {who: [] for who in WHO}
            for turn in range(rounds):
                for who in WHO if turn % 2 else WHO[::-1]:
                    said, arrived = ran(sinks, protocol, who, spans)
                    assert arrived == 3 * spans + 50, (who, protocol, arrived)
                    found[who].append(said)
            rows.append(compared(name, "whole", found))
            rows.append(compared(f"{name}, the exporter alone", "exporter", found))
        for who in WHO:
            _, arrived = ran(sinks, "http/protobuf", who, BURST, "--burst")
            rows.append(
                {"name": f"lost of a burst of {BURST:,}, as it is set up: {who}", "value": f"{BURST - arrived:,}"}
            )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
