"""Measure peers against the span by hand, each in its environment from ``.ci/peers``. Prints JSON.

They pin versions of OpenTelemetry that conflict with ours and with each other, so none of them is a requirement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("logfire", "traceloop-sdk", "mlflow-skinny", "langfuse", "osbot-utils")


def python_of(name: str) -> Path | None:
    """Return the interpreter with the peer; None if it is not installed."""
    cache = os.environ.get("OTELFLOW_TOOLS") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "otelflow"
    )
    path = Path(cache, "peers", name, "bin", "python")
    return path if path.exists() else None


def measure_peer(name: str, *flags: str) -> dict[str, Any]:
    """Return the peer's row, or a row with the reason why it was skipped."""
    python = python_of(name)
    if python is None:
        return {"name": name, "skipped": "not installed (`.ci/peers`)"}
    process = subprocess.run([python, "peer_cases.py", name, *flags], capture_output=True, text=True, check=False)
    if process.returncode:
        last_line = process.stderr.strip().splitlines()[-1:]
        return {"name": name, "skipped": f"does not run: {''.join(last_line)}"}
    row: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return row


def main() -> None:
    flags = [word for word in sys.argv[1:] if word.startswith("--")]
    print(json.dumps({"rows": [measure_peer(name, *flags) for name in NAMES]}))


if __name__ == "__main__":
    main()
