"""What ``import otelflow`` costs over what it stands on, in processes of its own. Prints JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

PROGRAM = """
import time
a = time.process_time(); import opentelemetry.trace, wrapt
b = time.process_time(); import otelflow
c = time.process_time(); print(b - a, c - a)
"""


def main() -> None:
    times = 5 if "--quick" in sys.argv else 31
    pairs = []
    for _ in range(times):
        below, whole = subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split()
        pairs.append((float(whole), float(below)))
    low, middle, high = statistics.quantiles([whole / below for whole, below in pairs], n=4)
    micros = statistics.median(whole for whole, _ in pairs) * 1e6
    row = {"name": "otelflow over api + wrapt", "micros": round(micros), "ratio": round(middle, 3)}
    print(json.dumps({"rows": [{**row, "spread": round((high - low) / 2, 3)}]}))


if __name__ == "__main__":
    main()
