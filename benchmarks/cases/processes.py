"""Measure a task in 4 concurrent processes, each against the span by hand in the same process. Prints JSON."""

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
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    results: list[list[dict[str, Any]]] = [json.loads(process.communicate()[0])["rows"] for process in processes]
    rows = []
    for case_rows in zip(*results, strict=True):
        ratios = [row["ratio"] for row in case_rows]
        rows.append(
            {
                "name": case_rows[0]["name"],
                "micros": round(statistics.median(row["micros"] for row in case_rows), 2),
                "ratio": round(statistics.median(ratios), 3),
                "spread": round((max(ratios) - min(ratios)) / 2, 3),
            }
        )
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
