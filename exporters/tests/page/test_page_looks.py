"""The page in a browser: accessibility, in both themes, on a phone and in print."""

from __future__ import annotations

import json
import re
from typing import Any

import browser
import pytest
from browser import Opened, Show, at, message, span
from otelflow_exporters._trace.span import Event, Link, Span

chromium, show = browser.chromium, browser.show  # fixtures

THEMES = ["light", "dark"]


def varied() -> list[Span]:
    """Create spans with everything that has a colour: errors, warnings, services, groups, messages, artifacts."""
    artifact = {"key": "report", "type": "json", "data": json.dumps({"a": 1, "b": ["x", None]})}
    events = [
        *(message(f"logged as {severity}", severity) for severity in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
        Event("otelflow.artifact", at(0), {f"otelflow.artifact.{name}": value for name, value in artifact.items()}),
        Event(
            "exception",
            at(0),
            {"exception.type": "OSError", "exception.message": "full", "exception.stacktrace": "at a"},
        ),
    ]
    spans = [span(1, None, "root", 0, 9, status="error", status_message="full", events=events, dropped=(1, 0, 0))]
    spans.append(
        span(2, 1, "leaf", 1, 3, status="error", status_message="disk full " * 20, attributes={"a": "b" * 900})
    )
    spans.append(span(3, 1, "early", -1, 5, links=[Link(f"{2:032x}", f"{1:016x}")]))
    spans += [span(4, 1, "open", 5, None), span(5, 1, "cancelled", 5, 6, attributes={"otelflow.status": "cancelled"})]
    spans += [
        span(10 + number, 1, "of a service", number, 8, resource={"service.name": f"s{number}"}) for number in range(8)
    ]
    spans += [span(30 + number, 1, "equal", 5, 6) for number in range(12)]
    return [*spans, span(1, None, "other run", 0, 1, trace=2), span(1, None, "tolerated", 0, 1, trace=3)]


CONTRASTS = r"""
() => {
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, at) => (part * a + under[at] * (255 - a)) / 255);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (colour) => {
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const found = {};
  const note = (element, colour, kind) => {
    const back = behind(kind === 'text' ? element : element.parentElement);
    const value = contrast(over(rgba(colour), back), back);
    const name = `${element.tagName.toLowerCase()}.${element.getAttribute('class')}`;
    const key = `${kind} ${name} ${colour} on ${back.map(Math.round)}`;
    found[key] = Math.round(value * 100) / 100;
  };
  for (const element of document.querySelectorAll('body *')) {
    const seen = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!seen || element.closest(':disabled, script')) continue;
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (says || element.matches('input')) note(element, getComputedStyle(element).color, 'text');
    if (element.matches('.row .bar, .path i, .run-bar div')) {
      const style = getComputedStyle(element);
      const own = element.closest('.failed') ? 'var(--error-bar)' : style.getPropertyValue('--colour');
      const probe = document.createElement('i');
      probe.style.color = element.matches('.bar') ? own : style.backgroundColor;
      element.parentElement.append(probe);
      note(element, getComputedStyle(probe).color, 'bar');
      probe.remove();
    }
  }
  return found;
}
"""


def too_faint(opened: Opened) -> dict[str, float]:
    """Return the elements with less contrast than WCAG AA requires: 4.5 for text, 3 for graphics."""
    contrasts: dict[str, float] = opened.page.evaluate(CONTRASTS)
    assert len(contrasts) > 15
    return {what: value for what, value in contrasts.items() if value < (4.5 if what.startswith("text") else 3)}


@pytest.mark.parametrize("theme", THEMES)
def test_everything_has_enough_contrast(show: Show, theme: str) -> None:
    """The contrast of all visible text and bars is computed from the browser's colours."""
    opened = show(varied(), color_scheme=theme, title="Runs", note="from a file", height=1100)
    assert too_faint(opened) == {}
    opened.row("root").click()
    opened.page.evaluate("document.querySelectorAll('#details details').forEach(one => one.open = true)")
    opened.page.wait_for_timeout(50)
    assert too_faint(opened) == {}
    for name in ("leaf", "early", "equal"):
        opened.row(name).click()
        assert too_faint(opened) == {}, name
    opened.search("e")
    opened.focus()
    opened.press("n")
    assert too_faint(opened) == {}
    opened.press("?")
    assert too_faint(opened) == {}


NAMELESS = """
() => [...document.querySelectorAll(`button, input, select, textarea, a[href], summary, [tabindex],
    [role=option], [role=row], [role=img], dialog, main > section, aside`)]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.tabIndex === -1 && one.classList.contains('scroller')))
  .filter((one) => {
    const labelled = one.getAttribute('aria-labelledby');
    const names = [one.getAttribute('aria-label'), labelled && document.getElementById(labelled).textContent];
    for (const label of one.labels || []) names.push(label.textContent);
    if (!one.matches('input, select, section, aside')) names.push(one.textContent);
    return !names.some((name) => name && name.trim());
  })
  .map((one) => one.outerHTML.slice(0, 120))
"""


def test_every_control_has_a_name(show: Show) -> None:
    """Screen readers need it. Ids are unique, and children of rows have roles."""
    opened = show(varied())
    opened.row("root").click()
    assert opened.page.evaluate(NAMELESS) == []
    opened.press("?")
    assert opened.page.evaluate(NAMELESS) == []
    ids = opened.page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert opened.page.evaluate("document.querySelectorAll('[role=row] > :not([role])').length") == 0


def test_the_button_cycles_through_the_themes(show: Show) -> None:
    """The themes are: as the system, light, dark. The address contains the selected one."""
    opened = show(varied(), color_scheme="dark")

    def is_dark() -> bool:
        colour = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) < 200

    seen = [is_dark()]
    for _ in range(3):
        opened.page.click("#theme")
        seen.append(is_dark())
    assert seen == [True, False, True, True]
    opened.page.click("#theme")
    assert "theme=light" in opened.page.evaluate("location.hash")


def test_a_phone_shows_one_pane_at_a_time(show: Show) -> None:
    """First the runs, then the waterfall, then the details over it, and back. Nothing is wider than the screen."""
    opened = show(varied(), width=360, height=640, has_touch=True, is_mobile=True)
    page = opened.page
    assert page.locator("#runs").is_visible()
    assert page.locator("#trace").is_hidden()
    assert not opened.is_wider_than_the_screen()
    page.locator(".run").get_by_text("root").tap()
    assert page.locator("#runs").is_hidden()
    assert not opened.is_wider_than_the_screen()
    opened.row("leaf").tap()
    box = page.locator("#details").bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 360)
    assert page.evaluate("document.querySelector('#details').scrollWidth") <= 360
    assert not opened.is_wider_than_the_screen()
    page.locator("#details-close").tap()
    page.locator("#to-runs").tap()
    assert page.locator("#runs").is_visible()


def test_controls_on_a_phone_are_large_enough(show: Show) -> None:
    """Each button is at least 24 pixels wide and high, as WCAG 2.2 requires."""
    opened = show(varied(), width=360, height=640, at=f"#trace={1:032x}&span={1:016x}")
    opened.press("Escape")
    sizes: dict[str, Any] = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('button, select, input[type=search]')]
            .filter((one) => one.checkVisibility())
            .map((one) => [one.id || one.textContent, one.getBoundingClientRect()])
            .filter(([, box]) => box.width < 24 || box.height < 24))"""
    )
    assert sizes == {}


def test_print_shows_the_rows_in_their_order(show: Show) -> None:
    """Print has no tools, and includes rows outside the window."""
    opened = show(varied(), color_scheme="dark", height=400)
    opened.page.emulate_media(media="print")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.page.locator(".search").is_hidden()
    tops = opened.page.locator("#waterfall .row").evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
    assert len(tops) == 14
    assert tops == sorted(set(tops))
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_the_help_can_disable_single_letter_keys(show: Show) -> None:
    """Keys of one letter interfere with speech input."""
    opened = show(varied())
    opened.press("?")
    assert opened.page.locator("#help").is_visible()
    opened.page.get_by_label("Keys of one letter").uncheck()
    opened.press("Escape")
    assert opened.page.locator("#help").is_hidden()
    opened.press("?")
    assert opened.page.locator("#help").is_hidden()


def test_the_names_can_be_made_wider(show: Show) -> None:
    """The arrow keys move the line between names and times."""
    opened = show(varied())
    before = opened.row("root").locator(".name").bounding_box()
    opened.page.focus("#divider")
    opened.press("ArrowRight", "ArrowRight", "ArrowRight")
    after = opened.row("root").locator(".name").bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] > before["width"] + 20
    assert opened.page.locator("#divider").get_attribute("aria-valuenow") == "42"
