"""Create a folder with a program that does not use otelflow, and run the command in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import programs
from receiver import Sink

TARGETS = """
[[flow]]
target = "shop.use:both"
[[task]]
target = "shop.stock:reserve"
attributes = { sku = "sku" }
"""


SCRIPT = """
import sys
from shop.use import both

def helper(number):
    return number

class Job:
    def work(self):
        return [helper(number) for number in range(2)]

def main(*arguments):
    if "fail" in arguments:
        raise ValueError("as asked for")
    Job().work()
    both()
    print(__name__, sys.argv[1:], sys.path[0], flush=True)

if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.exit(7)
"""


SCRIPT_TARGETS = """
[[flow]]
target = "nightly:main"
[[task]]
target = "__main__:Job.*"
[[task]]
target = "nightly:helper"
"""


def run_otelflow(
    folder: Path, *words: str, sink: Sink | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder``."""
    endpoint = {} if sink is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint}
    return programs.command(*words, cwd=folder, **endpoint, **environment)
