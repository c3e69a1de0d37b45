"""The page in a browser: the details of one span, and that its text stays text."""

from __future__ import annotations

import json
from typing import Any

import browser
import pytest
from browser import Opened, Show, at, message, span
from otelflow_exporters._trace.span import Event, Link, Span

chromium, show = browser.chromium, browser.show  # fixtures

DATA = {"rows": [{"id": number} for number in range(120)], "exact": 12345678901234567890, "none": None}
STACKTRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\nOSError: full'


def rich() -> Span:
    """Create a span with every kind of content."""
    artifact = {"key": "report", "type": "json", "description": "Rows of today", "data": json.dumps(DATA), "size": 99}
    return span(
        1,
        None,
        "everything",
        0,
        2,
        kind="server",
        status="error",
        status_message="OSError: full\nwhile writing",
        attributes={"otelflow.kind": "flow", "http.route": "/a", "many": [1, 2], "long": "x" * 2000},
        events=[
            Event(
                "exception",
                at(1.5),
                {"exception.type": "OSError", "exception.message": "full", "exception.stacktrace": STACKTRACE},
            ),
            message("reading", "WARNING", 0.25),
            Event("otelflow.artifact", at(1), {f"otelflow.artifact.{name}": value for name, value in artifact.items()}),
            Event(
                "otelflow.result", at(1.25), {"otelflow.result.key": "sum", "otelflow.result.description": "12 rows"}
            ),
            Event("retry", at(1.75), {"attempt": 3}),
        ],
        resource={"service.name": "shop", "host.name": "web-1"},
        scope="my.library 1.0",
        dropped=(1, 2, 0),
    )


@pytest.fixture
def opened(show: Show) -> Opened:
    page = show([rich(), span(2, 1, "half", 0.5, 1.5)])
    page.row("everything").click()
    return page


def test_times_shares_and_errors_are_shown(opened: Opened) -> None:
    """The details have the duration, self time, share of the run and the complete error."""
    facts = opened.details()
    for part in ("2.00 s", "1.00 s (50 %)", "100 %", "OSError: full\nwhile writing", "my.library 1.0", "server"):
        assert part in facts
    assert "Dropped because of the SDK's limits: 1 attribute, 2 events." in facts


def test_attributes_are_tables_that_can_be_copied(opened: Opened) -> None:
    """otelflow's own attributes have a table of their own; long values are folded."""
    keys = opened.page.locator("#details .attributes tbody th").all_text_contents()
    assert keys[:4] == ["http.route", "long", "many", "otelflow.kind"]
    opened.page.get_by_text("Show all 2\u202f000 characters").click()
    assert "x" * 2000 in opened.details()
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.get_by_role("button", name="Copy http.route").click()
    opened.until("document.querySelector('#live').textContent === 'http.route copied'")
    assert opened.page.evaluate("navigator.clipboard.readText()") == "/a"


def test_each_kind_of_event_has_its_layout(opened: Opened) -> None:
    """Events are in order, with their offset: a message, an artifact, a result, an exception and any other."""
    events = [event.inner_text() for event in opened.page.locator("#details .event").all()]
    assert [event.split("\n")[0].split("\t")[0].split(" ")[0] for event in events] == [
        "+250",
        "+1.00",
        "+1.25",
        "+1.50",
        "+1.75",
    ]
    assert "WARNING" in events[0]
    assert "reading" in events[0]
    assert all(part in events[1] for part in ("Artifact", "report", "json · 99 bytes", "Rows of today"))
    assert all(part in events[2] for part in ("Result", "sum", "12 rows"))
    assert all(part in events[3] for part in ("Exception", "OSError", "full"))
    assert all(part in events[4] for part in ("retry", "attempt", "3"))


def test_the_stack_trace_is_folded(opened: Opened) -> None:
    """It is complete when it is opened."""
    stacktrace = opened.page.locator("#details pre")
    assert not stacktrace.is_visible()
    opened.page.get_by_text("Stack trace").click()
    assert stacktrace.text_content() == STACKTRACE


def test_an_artifact_is_a_tree_that_opens_branch_by_branch(opened: Opened) -> None:
    """Numbers keep their digits, and long lists are shown in parts."""
    opened.page.locator("#details summary").get_by_text("Data", exact=True).click()
    tree = opened.page.locator("#details .json")
    assert "exact: 12345678901234567890" in str(tree.text_content())
    assert tree.locator(".json-leaf").count() == 2
    tree.get_by_text("[ 120 items ]").click()
    more = tree.get_by_role("button", name="Show more (20 left)")
    more.click()
    assert tree.get_by_text("{ 1 key }").count() == 120


def test_artifacts_that_are_not_json_or_very_deep_are_shown(show: Show) -> None:
    """They are shown as text, or as far as the user opens them."""
    texts = ["{broken", "[" * 5000 + "]" * 5000, '"text"', '{"__proto__": {"x": 1}}']
    events = [Event("otelflow.artifact", at(0), {"otelflow.artifact.data": text}) for text in texts]
    opened = show([span(1, None, "a", events=events)])
    opened.row("a").click()
    for summary in opened.page.locator("#details summary").get_by_text("Data", exact=True).all():
        summary.click()
    assert "{broken" in opened.details()
    assert "__proto__" in opened.details()


def test_many_events_are_shown_in_parts(show: Show) -> None:
    """A span may have thousands of events if its limits were raised."""
    opened = show([span(1, None, "a", events=[message(f"line {number}") for number in range(130)])])
    opened.row("a").click()
    assert opened.page.locator("#details .event").count() == 100
    opened.page.get_by_role("button", name="Show more (30 left)").click()
    assert opened.page.locator("#details .event").count() == 130


EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script><!--</script>javascript:alert(3)"


def test_no_text_of_a_span_becomes_markup(show: Show) -> None:
    """In every field of a span, text is shown unchanged. It creates no element, and no script runs."""
    everywhere: dict[str, Any] = {EVIL: EVIL, "url.full": "javascript:alert(4)", "deep": {EVIL: [EVIL]}}
    own = {
        f"otelflow.{name}": EVIL for name in ("artifact.key", "artifact.type", "artifact.description", "artifact.uri")
    }
    events = [
        Event(EVIL, at(0), everywhere),
        Event(
            "otelflow.message", at(0), {"otelflow.message.text": EVIL, "otelflow.message.severity": EVIL, EVIL: EVIL}
        ),
        Event("otelflow.artifact", at(0), {**own, "otelflow.artifact.data": json.dumps({EVIL: [EVIL]})}),
        Event("otelflow.result", at(0), {"otelflow.result.key": EVIL, "otelflow.result.description": EVIL}),
        Event("exception", at(0), {f"exception.{name}": EVIL for name in ("type", "message", "stacktrace")}),
    ]
    evil = Span(
        EVIL,
        EVIL,
        EVIL,
        EVIL,
        at(0),
        at(1),
        status="error",
        status_message=EVIL,
        attributes={**everywhere, "otelflow.status": EVIL},
        events=events,
        links=[Link(EVIL, EVIL, everywhere), Link(EVIL, "other", everywhere), Link("other", EVIL)],
        resource={"service.name": EVIL, **everywhere},
        scope=EVIL,
    )
    opened = show([evil, span(2, None, "other")], title=EVIL, note=EVIL)
    opened.page.locator(".run").get_by_text(EVIL).first.click()
    opened.page.locator("#waterfall .row").first.click()
    opened.page.evaluate("document.querySelectorAll('#details details').forEach(one => one.open = true)")
    opened.page.wait_for_timeout(50)
    opened.page.evaluate("document.querySelectorAll('#details details').forEach(one => one.open = true)")
    opened.search("onerror")
    assert opened.page.locator("img, script[src], iframe, a, main script").count() == 0
    shown = opened.page.locator("body").inner_text()
    assert shown.count(EVIL) > 25
    assert opened.page.locator("#title").text_content() == EVIL
    assert opened.page.locator("#waterfall .label").first.text_content() == EVIL
    assert opened.page.locator("#details pre").text_content() == EVIL


def test_attribute_names_that_are_special_in_javascript(show: Show) -> None:
    """An attribute may have the name of a property that every JavaScript object has."""
    special = {"__proto__": "a", "constructor": "b", "hasOwnProperty": "c", "toString": None, "": "empty"}
    opened = show([span(1, None, "__proto__", attributes=special, resource=special), span(2, 1, "toString")])
    opened.row("__proto__").click()
    names = opened.page.locator("#details .attributes").first.locator("th[scope=row]").all_text_contents()
    assert names == sorted(special)


def test_unsafe_characters_are_replaced(show: Show) -> None:
    """Control characters, and characters that change the direction of writing, become visible."""
    opened = show([span(1, None, "safe\u202etxt.exe\x1b[31m")])
    assert opened.names() == ["safe\ufffdtxt.exe\ufffd[31m"]
