"""Measure spans end to end over OTLP, recorded and sent with otelflow and by hand, in alternating processes. JSON."""

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
VARIANTS = ("otelflow", "by-hand")
BURST = 100_000


def run_program(sinks: Sinks, protocol: str, variant: str, spans: int, *flags: str) -> tuple[dict[str, float], int]:
    """Run the program; return the JSON that it prints, and how many spans arrived."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "OTELFLOW"))}
    environment |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sinks.endpoints[protocol],
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        **({} if "--burst" in flags else {"OTELFLOW_QUEUE_SIZE": str(2**20)}),
    }
    command = [sys.executable, "wire_program.py", variant, str(spans), *flags]
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(process.stdout), sinks.received()


def compare(name: str, key: str, results: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    ours, hand = ([result[key] for result in results[variant]] for variant in VARIANTS)
    ratios = sorted(our_cost / hand_cost for our_cost, hand_cost in zip(ours, hand, strict=True))
    yard = statistics.median(result["yard"] for result in results["otelflow"])
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
            results: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
            for turn in range(rounds):
                for variant in VARIANTS if turn % 2 else VARIANTS[::-1]:
                    result, arrived = run_program(sinks, protocol, variant, spans)
                    assert arrived == 3 * spans + 50, (variant, protocol, arrived)
                    results[variant].append(result)
            rows.append(compare(name, "total", results))
            rows.append(compare(f"{name}, the exporter alone", "exporter", results))
        for variant in VARIANTS:
            _, arrived = run_program(sinks, "http/protobuf", variant, BURST, "--burst")
            rows.append(
                {"name": f"lost of a burst of {BURST:,}, as it is set up: {variant}", "value": f"{BURST - arrived:,}"}
            )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
