"""Measure ``import otelflow`` against the import of its dependencies, in separate processes. Prints JSON.

All modules are compiled first, as an installer does. Otherwise, with PYTHONDONTWRITEBYTECODE, each process would
compile a checkout again, and that would be measured. The location of the modules does not matter (an editable install
or not: 0.2 % of the instructions).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

BELOW = "import opentelemetry.trace, wrapt"
WHOLE = f"{BELOW}; import otelflow"
PROGRAM = f"""
import time
a = time.process_time(); {BELOW}
b = time.process_time(); import otelflow
c = time.process_time(); print(b - a, c - a)
"""


@contextmanager
def compiled() -> Iterator[dict[str, str]]:
    """Yield an environment for programs in which every imported module has its bytecode."""
    with TemporaryDirectory() as folder:
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        subprocess.run([sys.executable, "-c", WHOLE], env=environment, check=True)
        yield environment


def main() -> None:
    times = 5 if "--quick" in sys.argv else 31
    pairs = []
    with compiled() as environment:
        for _ in range(times):
            output = subprocess.check_output([sys.executable, "-c", PROGRAM], env=environment, text=True)
            below, whole = output.split()
            pairs.append((float(whole), float(below)))
    low, median, high = statistics.quantiles([whole / below for whole, below in pairs], n=4)
    micros = statistics.median(whole for whole, _ in pairs) * 1e6
    row = {"name": "otelflow over api + wrapt", "micros": round(micros), "ratio": round(median, 3)}
    print(json.dumps({"rows": [{**row, "spread": round((high - low) / 2, 3)}]}))


if __name__ == "__main__":
    main()
