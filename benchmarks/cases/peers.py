"""Peers beside the span by hand, each in the environment that ``.ci/peers`` made for it. Prints JSON.

Their pins of OpenTelemetry clash, with ours and with each other's, so none of them is a requirement.
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
    """The interpreter that has the peer; None where there is none."""
    cache = os.environ.get("OTELFLOW_TOOLS") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "otelflow"
    )
    found = Path(cache, "peers", name, "bin", "python")
    return found if found.exists() else None


def measured(name: str, *flags: str) -> dict[str, Any]:
    """The peer's row, or why there is none."""
    python = python_of(name)
    if python is None:
        return {"name": name, "skipped": "not installed (`.ci/peers`)"}
    done = subprocess.run([python, "peer_cases.py", name, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        return {"name": name, "skipped": f"does not run: {''.join(said)}"}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    flags = [word for word in sys.argv[1:] if word.startswith("--")]
    print(json.dumps({"rows": [measured(name, *flags) for name in NAMES]}))


if __name__ == "__main__":
    main()
