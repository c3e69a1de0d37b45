"""The page as a file: what stands in it, before any browser reads it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest
from otelflow_exporters._page.page import _SCRIPTS, page_text, write_page
from otelflow_exporters._trace.span import Event, Span

PAGE = files("otelflow_exporters._page").joinpath("assets")


def span(number: int = 1, **more: Any) -> Span:
    return Span(f"{1:032x}", f"{number:016x}", None, more.pop("name", "a"), 10**18, 10**18 + 5, **more)


class Elements(HTMLParser):
    """The text of each script and style by its id or name, and the attributes of each meta."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.metas: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "meta":
            self.metas.append(dict(attrs))
        self._open = str(dict(attrs).get("id", tag)) if tag in ("script", "style", "title") else ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open] = self.texts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def data_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Elements(text).texts["otelflow-data"])
    return found


def test_the_data_are_json_with_a_span_a_line() -> None:
    """Whoever opens the file in an editor, or reads it with a program, finds the spans."""
    spans = [span(1, attributes={"a": 1}), span(2, name="größer")]
    text = page_text(spans, title="T", note="N")
    data = data_of(text)
    assert (data["title"], data["note"]) == ("T", "N")
    assert [{**one, "resource": {}} for one in data["spans"]] == [one.to_json() for one in spans]
    lines = [line.rstrip(",") for line in text.splitlines() if line.startswith('{"trace_id"')]
    assert [json.loads(line) for line in lines] == data["spans"]
    assert "größer" in text


def test_each_resource_stands_there_once() -> None:
    """Thousands of spans share theirs, by being the same object or an equal one."""
    first, second = {"service.name": "a"}, {"service.name": "b"}
    data = data_of(page_text([span(resource=one) for one in (first, first, second, dict(first))]))
    assert data["resources"] == [first, second]
    assert [one["resource"] for one in data["spans"]] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "text", ["</script>", "<!--<script>", "\u2028\u2029", "\ud800 half", "\x00\r\n", "]]>", "&lt;"]
)
def test_no_text_ends_the_element_that_it_stands_in(text: str) -> None:
    """Names, keys, values, messages: an HTML parser sees one element, and in it the text as it was."""
    made = span(name=text, attributes={text: [text]}, events=[Event(text, 10**18, {text: text})], resource={text: text})
    page = page_text([made], title=text, note=text)
    page.encode()
    data = data_of(page)
    assert data["spans"][0]["name"] == data["title"] == data["note"] == text
    assert data["spans"][0]["attributes"] == data["resources"][0] | {text: [text]} == {text: [text]}
    assert Elements(page).tags == Elements(page_text([])).tags


def test_whole_numbers_that_javascript_would_round_are_text() -> None:
    """OpenTelemetry's have 64 bits, a browser's 53."""
    data = data_of(page_text([span(attributes={"a": 2**63 - 1, "b": [2**53], "c": 2**53 - 1, "d": True})]))
    assert data["spans"][0]["attributes"] == {"a": str(2**63 - 1), "b": [str(2**53)], "c": 2**53 - 1, "d": True}


def test_it_is_written_as_the_spans_come() -> None:
    """A file of millions of spans needs no memory for them."""
    out = io.StringIO()
    lengths = []

    def spans() -> Iterator[Span]:
        for number in range(3):
            lengths.append(len(out.getvalue()))
            yield span(number)

    write_page(spans(), out)
    assert 0 < lengths[0] < lengths[1] < lengths[2]


def test_the_policy_allows_this_script_and_this_style_and_nothing_else() -> None:
    """Both by their hash, over what stands between the tags."""
    elements = Elements(page_text([span()], title="<b>&"))
    (policy,) = [meta["content"] for meta in elements.metas if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "script-src": hashed(elements.texts["script"]),
        "style-src": hashed(elements.texts["style"]),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert elements.texts["title"] == "<b>&"


def test_it_names_no_other_place() -> None:
    """No address but the name of SVG, which nobody fetches; nothing makes markup or code of text."""
    text = page_text([])
    assert set(re.findall(r"\w+://[^'\"\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    script = Elements(text).texts["script"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "Storage"):
        assert word not in script
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\(", script)


def test_every_part_is_used_and_can_be_read_at_a_sitting() -> None:
    """Each file of the folder is in the page; none has more than 500 lines."""
    names = {part.name for part in PAGE.iterdir()}
    assert names == {*_SCRIPTS, "page.css", "page.html"}
    for part in PAGE.iterdir():
        assert len(part.read_text(encoding="utf-8").splitlines()) <= 500, part.name


def test_it_knows_nothing_of_otelflow() -> None:
    """The page is for the spans of any OpenTelemetry program."""
    program = "import sys, otelflow_exporters._page.page; sys.exit('otelflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
