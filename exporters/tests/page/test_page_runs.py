"""The page in a browser: the list of runs, and the state in the address."""

from __future__ import annotations

import browser
from browser import Show, span
from otelflow_exporters._trace.span import Link, Span

chromium, show = browser.chromium, browser.show  # fixtures


def three_runs() -> list[Span]:
    """Create two runs that ended, the second with a link to the first, and one between them that failed."""
    link = Link(f"{1:032x}", f"{1:016x}", {"why": "retry"})
    return [
        span(1, None, "alpha", 0, 3, trace=1),
        span(2, 1, "part", 0, 1, trace=1),
        span(1, None, "beta", 10, 11, trace=2, status="error", resource={"service.name": "billing"}),
        span(1, None, "gamma", 20, 22, trace=3, links=[link, Link("f" * 32, "e" * 16)]),
    ]


def names(opened: object) -> list[str]:
    listed: list[str] = opened.page.locator(".run-name").all_text_contents()  # type: ignore[attr-defined]
    return listed


def test_the_list_shows_the_main_facts_of_each_run(show: Show) -> None:
    """It shows name, service, start, duration, outcome, spans and errors. The newest failed run is open."""
    opened = show(three_runs(), timezone_id="UTC")
    assert names(opened) == ["gamma", "beta", "alpha"]
    text = opened.page.locator(".run").nth(1).inner_text()
    for part in ("beta", "billing", "2026-11-18 11:06:50", "1.00 s", "1 span", "1 error"):
        assert part in text
    assert opened.page.locator(".run").nth(1).get_by_label("Failed").count() == 1
    assert opened.page.locator("#summary h2").text_content() == "beta"


def test_runs_can_be_sorted_and_filtered(show: Show) -> None:
    """The filter finds name, service and trace id; a checkbox selects runs with errors."""
    opened = show(three_runs())
    for order, expected in {
        "oldest": "alpha",
        "longest": "alpha",
        "shortest": "beta",
        "errors": "beta",
        "spans": "alpha",
    }.items():
        opened.page.select_option("#runs-sort", order)
        assert names(opened)[0] == expected, order
    opened.page.fill("#runs-filter", "billing")
    assert names(opened) == ["beta"]
    assert opened.page.locator("#runs-count").text_content() == "1 of 3 runs"
    opened.page.fill("#runs-filter", "nobody")
    assert opened.page.locator("#runs-none").is_visible()
    opened.page.fill("#runs-filter", "")
    opened.page.check("#runs-failed")
    assert names(opened) == ["beta"]


def test_the_list_supports_the_keyboard(show: Show) -> None:
    """It behaves as a list box; the selected run is open."""
    opened = show(three_runs())
    opened.page.focus("#runs-list")
    opened.press("End")
    assert opened.page.locator("#summary h2").text_content() == "alpha"
    opened.press("ArrowUp")
    assert opened.page.locator("#summary h2").text_content() == "beta"
    active = opened.page.locator("#runs-list").get_attribute("aria-activedescendant")
    assert opened.page.locator(f"#{active}").get_attribute("aria-selected") == "true"


def test_links_lead_to_other_runs_and_back(show: Show) -> None:
    """A link to a span that is not in the file is text."""
    opened = show(three_runs())
    opened.page.locator(".run").nth(0).click()
    opened.row("gamma").click()
    assert f"trace {'f' * 32}, span {'e' * 16} (not in this file)" in opened.details()
    opened.page.locator("#details .links button.link").click()
    assert opened.page.locator("#summary h2").text_content() == "alpha"
    assert opened.selected() == "alpha"
    assert "Linked from" in opened.details()
    opened.page.locator("#details .links button.link").click()
    assert opened.page.locator("#summary h2").text_content() == "gamma"


def test_the_address_contains_the_state(show: Show) -> None:
    """It contains trace, span and theme, so that a reader can share it."""
    address = f"#trace={1:032x}&span={2:016x}&theme=dark"
    opened = show(three_runs(), at=address)
    assert opened.selected() == "part"
    assert "00000002" in opened.details()
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"
    opened.row("alpha").click()
    assert opened.page.evaluate("location.hash") == address.replace(f"{2:016x}", f"{1:016x}")
    opened.page.evaluate(f"location.hash = '#trace={3:032x}'")
    opened.until("document.querySelector('#summary h2').textContent === 'gamma'")


def test_a_search_finds_in_other_runs_as_well(show: Show) -> None:
    """The counter shows their number, and the list shows the matching runs."""
    opened = show(three_runs())
    opened.search("a")
    assert opened.page.locator("#search-count").text_content() == "1 (+3 in other runs)"
    assert opened.page.locator(".run-found").all_text_contents() == ["1 match", "1 match", "2 matches"]


def test_five_thousand_runs(show: Show) -> None:
    """Few of them are in the document, and the last can be selected."""
    opened = show(span(1, None, f"run {number}", number, number + 1, trace=number) for number in range(1, 5001))
    assert opened.page.locator(".run").count() < 60
    opened.page.focus("#runs-list")
    opened.press("End")
    assert opened.page.locator("#summary h2").text_content() == "run 1"
    assert opened.page.locator(".run[aria-selected=true]").get_attribute("aria-posinset") == "5000"
