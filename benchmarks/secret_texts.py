"""Measure the search for secrets in texts, for README "Security": ``python benchmarks/secret_texts.py``.

Values are microseconds of process CPU, the minimum of several rounds. The second column is the ratio to one
``add_event`` of the SDK with one attribute, which is comparable between machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry.sdk.trace import TracerProvider

from otelflow._secrets.detect import redact
from otelflow._values.text import scrub_and_truncate

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
TEXTS = {
    "`working`": "working",
    "a path": "/data/in/2026/orders.csv",
    "a run id": "flow_00000000000000000000000000000001",
    "a UUID": "550e8400-e29b-41d4-a716-446655440000",
    "a line of 60 characters": "Read 1,234 rows from the table of orders in 3.2 s, 5 are new",
    "one with a colon": "loaded orders: 17 rows",
    "2 kB of prose": "Read the rows of that table, and no others. " * 46,
    "`password=hunter2`": "login failed for bob, password=hunter2",
    "a JSON Web Token": f"sent {JWT}",
    "2 kB of JSON with secrets": '{"id": 17, "name": "bob", "token": "abc", "rows": [1, 2, 3]}, ' * 32,
}
HOSTILE = {"`password=`": "password=", "`eyJ`": "eyJ", "`token='`": "token='", "`4111 `": "4111 ", "`sk-`": "sk-"}


def microseconds(call: Callable[[], object], seconds: float = 0.05) -> float:
    """Return the CPU time of one call, in microseconds: the minimum of five rounds."""
    number, best = 1, float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(number):
            call()
        elapsed = time.process_time() - start
        best = min(best, elapsed / number)
        number = max(1, min(100_000, int(seconds / max(best, 1e-9))))
    return best * 1e6


def main() -> None:
    span = TracerProvider(shutdown_on_exit=False).get_tracer("secrets").start_span("yardstick")
    print("| text | looked through, µs | of one `add_event` |\n| --- | --- | --- |")
    for name, text in TEXTS.items():
        micros = microseconds(lambda text=text: redact(text))  # type: ignore[misc]
        yardstick = microseconds(lambda: span.add_event("message", {"text": "working"}))
        print(f"| {name} | {micros:.2f} | {micros / yardstick:.0%} |")
    micros = microseconds(lambda: scrub_and_truncate("password=x " * 1_000_000))
    print(f"| 10 MB, of which 2 kB are kept | {micros:.0f} | |\n")
    print("| 1 MB that repeats | CPU, s | of that, twice the length takes |\n| --- | --- | --- |")
    for name, part in HOSTILE.items():
        text = (part * (1_000_000 // len(part) + 1))[:1_000_000]
        half, full = (microseconds(lambda text=sample: redact(text), 0) for sample in (text[:500_000], text))  # type: ignore[misc]
        print(f"| {name} | {full / 1e6:.2f} | {full / half:.1f} times |")


if __name__ == "__main__":
    main()
