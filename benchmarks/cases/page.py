"""How long a page of ``otelflow show --html`` with 20,000 spans takes to open, and how it scrolls. JSON.

In Debian's chromium without a graphics card: frames come from software, and are no faster than in anyone's browser.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otelflow_exporters._page.page import write_page
from otelflow_exporters._trace.span import Event, Span
from playwright.sync_api import sync_playwright

SPANS = 20_000
SECOND = 10**9
START = 1_795_000_000 * SECOND

OPENED = "() => new Promise(seen => requestAnimationFrame(() => requestAnimationFrame(() => seen(performance.now()))))"
SCROLLED = """(frames) => new Promise(done => {
    const body = document.querySelector("#waterfall-body"), lasted = [];
    let before = performance.now();
    const next = now => {
        lasted.push(now - before);
        before = now;
        body.scrollTop += 400;
        lasted.length < frames ? requestAnimationFrame(next) : done(lasted.slice(2));
    };
    requestAnimationFrame(next);
})"""


def spans(parent_of: Any) -> Sequence[Span]:
    """A run whose spans have attributes, and each tenth of them a message."""

    def span(number: int) -> Span:
        begin = START + number * SECOND // 100
        message = Event("otelflow.message", begin, {"otelflow.message.text": f"{number} rows"})
        return Span(
            f"{1:032x}",
            f"{number:016x}",
            None if number == 1 else f"{parent_of(number):016x}",
            f"step {number}",
            begin,
            begin + (SPANS - number + 1) * SECOND // 50,
            attributes={"otelflow.kind": "task", "rows": number, "table": "orders", "customer": f"A-{number}"},
            events=[message] if number % 10 == 0 else [],
            resource={"service.name": "nightly"},
        )

    return [span(number) for number in range(1, SPANS + 1)]


def measured(page: Any, address: str, frames: int) -> tuple[float, float, float]:
    """Milliseconds until it is drawn; of a frame while scrolling through all rows, median and 99th percentile."""
    page.goto(address)
    page.wait_for_selector("#waterfall .row")
    opened = page.evaluate(OPENED)
    page.click("#expand-all")
    lasted = page.evaluate(SCROLLED, frames)
    return opened, statistics.median(lasted), statistics.quantiles(lasted, n=100)[98]


def main() -> None:
    times, frames = (1, 60) if "--quick" in sys.argv else (5, 600)
    runs = {"siblings": lambda number: 1, "in a tree": lambda number: number // 4 + (number < 4)}
    figures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, parent_of in runs.items():
            path = Path(folder, "run.html")
            with path.open("w", encoding="utf-8") as out:
                write_page(spans(parent_of), out)
            found = [measured(browser.new_page(), path.as_uri(), frames) for _ in range(times)]
            opened, median, slowest = (statistics.median(one) for one in zip(*found, strict=True))
            figures[f"{SPANS:,} spans {name}: seconds to open (goal: < 2)"] = f"{opened / 1000:.2f}"
            figures[f"{SPANS:,} spans {name}: ms a frame while scrolling, median and 99 %"] = (
                f"{median:.0f}, {slowest:.0f}"
            )
        browser.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
