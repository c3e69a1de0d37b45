"""Measure ``instrument()`` itself: wrapping many functions, and wrapping and unwrapping under load. Prints JSON."""

from __future__ import annotations

import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from otelflow import instrument

FUNCTIONS = 5000
MODULES = 50
TARGETS: dict[str, Any] = {"flows": ["many.m0:f0"], "tasks": ["many.m1:*", "many.m2:*", "many.use:f0"]}


def write(folder: Path) -> None:
    """Write a package of 50 modules with 100 functions each, and a module that imports from them."""
    package = folder / "many"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for module in range(MODULES):
        lines = [f"def f{number}(value=1): return value" for number in range(FUNCTIONS // MODULES)]
        (package / f"m{module}.py").write_text("\n".join(lines))
    (package / "use.py").write_text("from many.m1 import f0, f1\ndef call(): return f0(5) + f1(6)\n")


def wrapping(times: int) -> float:
    """Return the median milliseconds to wrap 5,000 imported functions with one pattern."""
    durations = []
    for _ in range(times):
        gc.collect()
        start = time.perf_counter()
        undo = instrument(tasks=["many.*:f*"])
        durations.append(time.perf_counter() - start)
        assert len(undo.wrapped) == FUNCTIONS
        undo()
    return statistics.median(durations) * 1000


def wrap_and_unwrap(times: int) -> tuple[int, int, float]:
    """Wrap and unwrap while two threads call the functions.

    Return the number of calls, the number of wrong results, and the memory blocks that each repetition leaks.
    """
    from many import m0, use

    stop, calls, wrong = threading.Event(), [0, 0], [0, 0]

    def serve(number: int) -> None:
        while not stop.is_set():
            wrong[number] += use.call() != 11 or m0.f0(number) != number
            calls[number] += 1
            time.sleep(0)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    before = 0
    for turn in range(times + 100):
        if turn == 100:
            gc.collect()
            before = sys.getallocatedblocks()
        with instrument(**TARGETS):
            time.sleep(0.001)
    gc.collect()
    leaked = sys.getallocatedblocks() - before
    stop.set()
    for thread in threads:
        thread.join()
    return sum(calls), sum(wrong), leaked / times


def main() -> None:
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        sys.path.insert(0, folder)
        for number in range(MODULES):
            __import__(f"many.m{number}")
        __import__("many.use")
        milliseconds = wrapping(3 if quick else 15)
        times = 100 if quick else 1000
        _, wrong, leaked = wrap_and_unwrap(times)
    print(
        json.dumps(
            {
                "ms to wrap 5,000 functions (goal: < 500)": round(milliseconds),
                f"wrong answers while it came and went {times:,} times under load": wrong,
                "memory blocks that one time left": round(max(0.0, leaked), 1),
            }
        )
    )


if __name__ == "__main__":
    main()
