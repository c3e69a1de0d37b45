"""The page in a browser: the tree of a run, its time axis, its critical path, and the keyboard."""

from __future__ import annotations

from typing import Any

import browser
import pytest
from browser import Show, span
from otelflow_exporters._trace.span import Span

chromium, show = browser.chromium, browser.show  # fixtures

NOTHING: list[Span] = []


def nightly() -> list[Span]:
    """Create a run of 4 s: extract (0 to 1) with a query (0.2 to 0.8), then load (1.5 to 3.5), which fails."""
    return [
        span(4, 2, "query", 0.2, 0.8, attributes={"db.system": "postgresql"}),
        span(2, 1, "extract", 0, 1),
        span(3, 1, "load", 1.5, 3.5, status="error", status_message="OSError: disk full"),
        span(1, None, "nightly", 0, 4, status="error", status_message="OSError: disk full"),
    ]


def test_a_run_is_a_tree_on_one_time_axis(show: Show) -> None:
    """Children are below their parents in the order of their start; bars show their times."""
    opened = show(nightly())
    assert opened.names() == ["nightly", "  extract", "    query", "  load"]
    assert opened.piece("#waterfall .row:nth-child(3) .bar") == (5, 20)
    assert opened.page.locator(".tick").all_text_contents()[:2] == ["0", "1 s"]
    assert opened.page.locator("#waterfall").get_attribute("aria-rowcount") == "5"


def test_the_keyboard_works_as_in_any_tree_grid(show: Show) -> None:
    """Up, down, home and end move. Left collapses or goes to the parent; right expands or goes to the first child."""
    opened = show(nightly())
    opened.focus()
    steps = {"ArrowDown": "nightly", "End": "load", "ArrowUp": "query", "ArrowLeft": "extract", "Home": "nightly"}
    for key, name in steps.items():
        opened.press(key)
        assert opened.selected() == name
    opened.press("ArrowLeft")
    assert opened.names() == ["nightly"]
    assert opened.row("nightly").get_attribute("aria-expanded") == "false"
    opened.press("ArrowRight", "ArrowRight")
    assert opened.selected() == "extract"
    active = opened.page.locator("#waterfall").get_attribute("aria-activedescendant")
    assert opened.page.locator(f"#{active} .label").text_content() == "extract"


def test_enter_opens_details_and_escape_closes_them(show: Show) -> None:
    """The focus moves to the details and back."""
    opened = show(nightly())
    opened.focus()
    opened.press("ArrowDown", "Enter")
    assert opened.page.evaluate("document.activeElement.id") == "details"
    opened.press("Escape")
    assert opened.page.locator("#details").is_hidden()
    assert opened.page.evaluate("document.activeElement.id") == "waterfall"


def test_collapsed_rows_count_hidden_spans_and_errors(show: Show) -> None:
    """All rows can be collapsed and expanded at once."""
    opened = show([*nightly()[:2], span(3, 2, "inner", 0.3, 0.4, status="error"), span(1, None, "nightly", 0, 4)])
    opened.row("extract").locator(".twisty").click()
    assert opened.names() == ["nightly", "  extract"]
    assert opened.row("extract").locator(".badge").text_content() == "✗ 1 error below"
    opened.page.click("#collapse-all")
    assert opened.names() == ["nightly"]
    opened.page.click("#expand-all")
    assert opened.names() == ["nightly", "  extract", "    query", "    inner"]


def test_the_first_error_is_one_click_away(show: Show) -> None:
    """It is the first to end of the failed spans without a failed child. The key e selects it too."""
    opened = show([*nightly(), span(5, 3, "write", 1.6, 3, status="error", status_message="disk full")])
    opened.page.click("#collapse-all")
    opened.page.click("#jump")
    assert opened.selected() == "write"
    assert "disk full" in opened.details()
    opened.press("Home", "e")
    assert opened.selected() == "write"
    assert opened.row("write").get_by_label("Failed", exact=True).count() == 1


def test_the_critical_path_goes_back_from_the_end(show: Show) -> None:
    """A span waits for its child that finished last. Between its children, the span itself is on the path."""
    spans = [
        span(1, None, "root", 0, 10),
        span(2, 1, "first", 1, 4),
        span(3, 1, "beside", 2, 6),  # ends during "last": the root did not wait for it
        span(4, 1, "last", 5, 9),
        span(5, 4, "beyond", 8, 12),  # cut to its parent
    ]
    opened = show(spans)

    def path(name: str) -> list[tuple[float, float]]:
        row = opened.row(name)
        pieces = row.locator(".path:not([hidden]) i").evaluate_all(
            "all => all.map(one => [one.style.left, one.style.width].map(parseFloat))"
        )
        return [(round(left * 0.12, 2), round((left + width) * 0.12, 2)) for left, width in pieces]

    assert path("root") == [(0, 1), (4, 5), (9, 10)]
    assert path("first") == [(1, 4)]
    assert path("beside") == []
    assert path("last") == [(5, 8)]
    assert path("beyond") == [(8, 9)]
    opened.row("root").locator(".twisty").click()
    assert path("root") == [(0, 10)]
    opened.page.uncheck("#path")
    assert path("root") == []


def test_many_equal_siblings_are_one_row(show: Show) -> None:
    """The row has the count, median, slowest and errors. It can be expanded, and the first error in it is found."""
    spans = [span(1, None, "root", 0, 100)]
    for number in range(20):
        status: Any = {"status": "error"} if number == 7 else {}
        spans.append(span(number + 2, 1, "step", number, number + (1 if number < 19 else 5), **status))
    opened = show(spans)
    assert opened.names() == ["root", "  step"]
    texts = opened.row("step").inner_text()
    assert "×20" in texts
    assert "1 failed · median 1.00 s · slowest 5.00 s" in texts
    opened.row("step").click()
    assert "7.00 s into the run" in opened.details()
    opened.press("ArrowRight")
    assert opened.names() == ["root", "  step", *["    step"] * 20]
    opened.page.click("#collapse-all")
    opened.press("e")
    assert len(opened.names()) == 22


def test_zooming_by_keys_buttons_wheel_and_dragging(show: Show) -> None:
    """One key resets the zoom."""
    opened = show(nightly())
    whole = opened.page.locator(".tick").all_text_contents()
    opened.row("query").click()
    opened.press("f")
    left, right = opened.piece("#waterfall .row:nth-child(3) .bar")
    assert (left, right) == pytest.approx((4.5, 95.5), abs=0.2)
    opened.press("0")
    assert opened.page.locator(".tick").all_text_contents() == whole
    opened.page.click("#zoom-in")
    assert opened.page.locator("#zoom-reset").is_enabled()
    opened.press("-")
    assert opened.page.locator("#zoom-reset").is_disabled()
    box = opened.page.locator("#axis").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    opened.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=3)
    opened.page.mouse.up()
    left, right = opened.piece("#waterfall .row:nth-child(4) .bar")
    assert (left, right) == pytest.approx((50, 101), abs=1)
    opened.press("Escape", "Escape")  # the details, then the zoom
    assert opened.page.locator("#zoom-reset").is_disabled()
    opened.page.keyboard.down("Control")
    opened.page.mouse.wheel(0, -200)
    opened.page.keyboard.up("Control")
    opened.until("!document.querySelector('#zoom-reset').disabled")


def test_searching_names_attributes_and_events(show: Show) -> None:
    """The search counts matches, wraps around with n and N, expands collapsed rows, and marks the text."""
    opened = show(nightly())
    opened.page.click("#collapse-all")
    opened.press("/")
    assert opened.page.evaluate("document.activeElement.id") == "search"
    opened.search("POSTGRES")
    assert opened.page.locator("#search-count").text_content() == "1"
    opened.press("Enter")
    assert opened.selected() == "query"
    assert opened.page.locator("#search-count").text_content() == "1/1"
    opened.search("disk")
    opened.focus()
    opened.press("Home", "n")
    assert opened.selected() == "load"
    opened.press("n")
    assert opened.selected() == "nightly"
    opened.press("N")
    assert opened.selected() == "load"
    opened.search("oa")
    assert opened.page.locator("mark").all_text_contents() == ["oa"]
    opened.search("nowhere")
    assert opened.page.locator("#search-count").text_content() == "none"


def test_faults_of_a_trace_are_shown(show: Show) -> None:
    """The faults: a missing parent, several roots, cycles, no end, no duration, and clocks that differ."""
    spans = [
        span(1, None, "root", 1, 3),
        span(2, 77, "lost", 2, 3),
        span(3, 4, "circle a", 1.2, 2),
        span(4, 3, "circle b", 1.1, 2),
        span(5, 5, "own parent", 2, 3),
        span(6, 1, "running", 2, None),
        span(7, 1, "moment", 2, 2),
        span(8, 1, "early", 0, 0.5),
        span(9, 1, "late", 3.5, 4),
    ]
    opened = show(spans)
    assert opened.names() == [
        *["root", "  early", "  running", "  moment", "  late"],
        *["circle b", "  circle a", "lost", "own parent"],
    ]
    texts = {
        "lost": "000000000000004d is not in this file",
        "circle b": "form a cycle",
        "own parent": "form a cycle",
        "running": "not ended; 2.00 s so far",
        "moment": "0 ns",
        "early": "starts before its parent",
        "late": "ends after its parent",
    }
    for name, text in texts.items():
        opened.row(name).click()
        assert text in opened.details(), name
    assert opened.row("running").locator(".remark").text_content() == "not ended"


def test_a_chain_of_five_thousand(show: Show) -> None:
    """The script does not exceed its stack, and names stay visible at the bottom."""
    chain = [span(number + 1, number or None, f"level {number}", number / 1000, 10) for number in range(5000)]
    opened = show(chain)
    opened.focus()
    opened.press("End")
    assert opened.selected() == "level 4999"
    assert opened.row("level 4999").get_attribute("aria-level") == "5000"
    label = opened.row("level 4999").locator(".label").bounding_box()
    assert label is not None
    assert label["x"] < 400
    opened.search("level 4321")
    opened.page.click("#search-next")
    assert opened.selected() == "level 4321"
    opened.page.click("#collapse-all")
    assert opened.names() == ["level 0"]


def test_twenty_thousand_spans_are_few_elements(show: Show) -> None:
    """Only visible rows are in the document, in their order, with their index and the total number."""
    spans = [span(1, None, "root", 0, 20_000)]
    spans += [span(number, 1, "step", number, number + 1) for number in range(2, 10_002)]
    spans += [span(number, 1, f"other {number}", number, number + 1) for number in range(10_002, 20_001)]
    opened = show(spans)
    opened.page.click("#expand-all")
    opened.focus()
    opened.press("End")
    assert opened.selected() == "other 20000"
    rows = opened.page.locator("#waterfall .row")
    assert rows.count() < 100
    places = [int(place) for place in rows.evaluate_all("all => all.map(one => one.getAttribute('aria-rowindex'))")]
    assert places == list(range(places[0], 20_003))
    assert opened.page.locator("#waterfall").get_attribute("aria-rowcount") == "20002"
    opened.page.evaluate("document.querySelector('#waterfall-body').scrollTop = 100000")
    opened.until("document.querySelector('#waterfall .row').getAttribute('aria-rowindex') < 4000")
    assert rows.count() < 100


def test_a_page_without_spans_says_so(show: Show) -> None:
    """A text replaces the empty table."""
    opened = show(NOTHING, title="Nothing here")
    assert "There are no spans in this file." in opened.page.locator("#nothing").inner_text()
    opened.press("?", "Escape", "n", "e")
