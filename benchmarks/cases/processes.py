"""A task in 4 processes at once, each beside the span by hand in the same process. Prints JSON."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

PROCESSES = 4


def main() -> None:
    command = [sys.executable, "cases.py", "recording", "task", "task + message"]
    command += ["--quick"] if "--quick" in sys.argv else []
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    found: list[list[dict[str, Any]]] = [json.loads(each.communicate()[0])["rows"] for each in running]
    rows = []
    for same in zip(*found, strict=True):
        ratios = [row["ratio"] for row in same]
        rows.append(
            {
                "name": same[0]["name"],
                "micros": round(statistics.median(row["micros"] for row in same), 2),
                "ratio": round(statistics.median(ratios), 3),
                "spread": round((max(ratios) - min(ratios)) / 2, 3),
            }
        )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
