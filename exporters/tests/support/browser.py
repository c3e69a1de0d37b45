"""Open pages in a real browser, and fail the test if a page has an error or sends a request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from otelflow_exporters._page.page import write_page
from otelflow_exporters._trace.span import Event, Span

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

__all__ = ["MILLI", "SECOND", "Opened", "Show", "at", "chromium", "message", "show", "span"]

SECOND = 10**9
MILLI = 10**6
START = 1_795_000_000 * SECOND

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def at(seconds: float) -> int:
    return START + round(seconds * SECOND)


def span(
    number: int, parent: int | None, name: str, begin: float = 0, end: float | None = 1, *, trace: int = 1, **more: Any
) -> Span:
    """Create a span of a trace. Times are in seconds; ids come from small numbers."""
    parent_id = None if parent is None else f"{parent:016x}"
    end_ns = None if end is None else at(end)
    more.setdefault("resource", {"service.name": "shop"})
    return Span(f"{trace:032x}", f"{number:016x}", parent_id, name, at(begin), end_ns, **more)


def message(text: str, severity: str = "INFO", seconds: float = 0) -> Event:
    return Event(
        "otelflow.message",
        at(seconds),
        {"otelflow.message.text": text, "otelflow.message.severity": severity},
    )


class Opened:
    """A page in the browser. ``problems`` are its errors, dialogs and requests; there must be none."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", lambda entry: self.problems.append(f"{entry.type}: {entry.text}"))
        page.on("request", lambda request: self.problems.append(f"request: {request.url}"))
        page.on("dialog", self._dialog)
        page.goto(address)
        assert self.problems.pop(0) == f"request: {address.split('#')[0]}"

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def names(self) -> list[str]:
        """Return the names of the rows in the document, each indented by its level."""
        rows = self.page.eval_on_selector_all(
            "#waterfall .row",
            "rows => rows.map(row => [row.getAttribute('aria-level'), row.querySelector('.label').textContent])",
        )
        return ["  " * (int(level) - 1) + name for level, name in rows]

    def row(self, name: str) -> Any:
        exact = self.page.locator(".label").get_by_text(name, exact=True)
        return self.page.locator("#waterfall .row").filter(has=exact).first

    def selected(self) -> str:
        return str(self.page.locator("#waterfall .row[aria-selected=true] .label").text_content())

    def details(self) -> str:
        return str(self.page.locator("#details").inner_text())

    def focus(self) -> None:
        self.page.focus("#waterfall")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def search(self, text: str) -> None:
        """Type into the search field, and wait for the result."""
        self.page.fill("#search", "")
        self.until("document.querySelector('#search-count').textContent === ''")
        self.page.fill("#search", text)
        self.until("document.querySelector('#search-count').textContent !== ''")

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true.

        The driver evaluates it: the page's policy forbids that the page evaluates text.
        """
        deadline = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, expression
            self.page.wait_for_timeout(10)

    def piece(self, selector: str) -> tuple[float, float]:
        """Return the start and end of the first such element on the time axis, in percent, rounded."""
        left, width = self.page.eval_on_selector(selector, "one => [one.style.left, one.style.width].map(parseFloat)")
        return round(left, 1), round(left + width, 1)

    def is_wider_than_the_screen(self) -> bool:
        return bool(self.page.evaluate("document.scrollingElement.scrollWidth > innerWidth"))


Show = Callable[..., Opened]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for the tests of a module. Not for more: while it is open, an event loop runs in this thread."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("there is no chromium, chromium-browser or google-chrome on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=ARGUMENTS)
        browser.new_context()  # for all pages without options of their own
        yield browser
        browser.close()


@pytest.fixture
def show(chromium: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens spans as a page: ``show(spans, title=…, at="#…", width=…, height=…)``.

    At the end of the test, no page may have had a problem.
    """
    contexts = []
    pages: list[Opened] = []

    def open_page(
        spans: Iterable[Span], *, title: str = "Runs", note: str = "", at: str = "", **options: Any
    ) -> Opened:
        file = tmp_path / f"page{len(pages)}.html"
        with file.open("w", encoding="utf-8") as out:
            write_page(spans, out, title=title, note=note)
        size = {"width": options.pop("width", 1280), "height": options.pop("height", 800)}
        context = chromium.new_context(viewport=size, **options) if options else chromium.contexts[0]
        if options:
            contexts.append(context)
        page = context.new_page()
        page.set_viewport_size(size)
        pages.append(Opened(page, file.as_uri() + at))
        return pages[-1]

    yield open_page
    for page in pages:
        page.page.close()
    for context in contexts:
        context.close()
    assert [page.problems for page in pages if page.problems] == []
