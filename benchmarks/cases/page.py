"""Measure how fast a page of ``otelflow show --html`` with 20,000 spans opens and scrolls. Prints JSON.

It runs in Debian's chromium without a graphics card: software renders the frames, so a user's browser is not slower.
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
    """Return the spans of a run. All have attributes, and every tenth has a message."""

    def span(number: int) -> Span:
        start = START + number * SECOND // 100
        message = Event("otelflow.message", start, {"otelflow.message.text": f"{number} rows"})
        return Span(
            f"{1:032x}",
            f"{number:016x}",
            None if number == 1 else f"{parent_of(number):016x}",
            f"step {number}",
            start,
            start + (SPANS - number + 1) * SECOND // 50,
            attributes={"otelflow.kind": "task", "rows": number, "table": "orders", "customer": f"A-{number}"},
            events=[message] if number % 10 == 0 else [],
            resource={"service.name": "nightly"},
        )

    return [span(number) for number in range(1, SPANS + 1)]


def measure_page(page: Any, address: str, frames: int) -> tuple[float, float, float]:
    """Return milliseconds: until the page is drawn, and of a frame while scrolling, median and 99th percentile."""
    page.goto(address)
    page.wait_for_selector("#waterfall .row")
    opened = page.evaluate(OPENED)
    page.click("#expand-all")
    durations = page.evaluate(SCROLLED, frames)
    return opened, statistics.median(durations), statistics.quantiles(durations, n=100)[98]


def main() -> None:
    times, frames = (1, 60) if "--quick" in sys.argv else (5, 600)
    runs = {"siblings": lambda number: 1, "in a tree": lambda number: number // 4 + (number < 4)}
    figures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, parent_of in runs.items():
            path = Path(folder, "run.html")
            with path.open("w", encoding="utf-8") as out:
                write_page(spans(parent_of), out)
            measurements = [measure_page(browser.new_page(), path.as_uri(), frames) for _ in range(times)]
            opened, median, slowest = (statistics.median(values) for values in zip(*measurements, strict=True))
            figures[f"{SPANS:,} spans {name}: seconds to open (goal: < 2)"] = f"{opened / 1000:.2f}"
            figures[f"{SPANS:,} spans {name}: ms a frame while scrolling, median and 99 %"] = (
                f"{median:.0f}, {slowest:.0f}"
            )
        browser.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
