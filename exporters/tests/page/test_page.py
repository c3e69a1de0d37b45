"""The page as a file: its content, without a browser."""

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
    """The text of each script and style, by id or name, and the attributes of each meta element."""

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
    document: dict[str, Any] = json.loads(Elements(text).texts["otelflow-data"])
    return document


def test_the_data_are_json_with_a_span_a_line() -> None:
    """A person with an editor or a program can read the spans."""
    spans = [span(1, attributes={"a": 1}), span(2, name="größer")]
    text = page_text(spans, title="T", note="N")
    data = data_of(text)
    assert (data["title"], data["note"]) == ("T", "N")
    assert [{**fields, "resource": {}} for fields in data["spans"]] == [item.to_json() for item in spans]
    lines = [line.rstrip(",") for line in text.splitlines() if line.startswith('{"trace_id"')]
    assert [json.loads(line) for line in lines] == data["spans"]
    assert "größer" in text


def test_each_resource_is_written_once() -> None:
    """Spans with the same resource, or with an equal one, share it."""
    first, second = {"service.name": "a"}, {"service.name": "b"}
    data = data_of(page_text([span(resource=resource) for resource in (first, first, second, dict(first))]))
    assert data["resources"] == [first, second]
    assert [fields["resource"] for fields in data["spans"]] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "text", ["</script>", "<!--<script>", "\u2028\u2029", "\ud800 half", "\x00\r\n", "]]>", "&lt;"]
)
def test_no_text_ends_its_element(text: str) -> None:
    """An HTML parser reads names, keys, values and messages unchanged, and sees no other element."""
    item = span(name=text, attributes={text: [text]}, events=[Event(text, 10**18, {text: text})], resource={text: text})
    page = page_text([item], title=text, note=text)
    page.encode()
    data = data_of(page)
    assert data["spans"][0]["name"] == data["title"] == data["note"] == text
    assert data["spans"][0]["attributes"] == data["resources"][0] | {text: [text]} == {text: [text]}
    assert Elements(page).tags == Elements(page_text([])).tags


def test_integers_that_javascript_would_round_are_text() -> None:
    """OpenTelemetry's integers have 64 bits, a browser's 53."""
    data = data_of(page_text([span(attributes={"a": 2**63 - 1, "b": [2**53], "c": 2**53 - 1, "d": True})]))
    assert data["spans"][0]["attributes"] == {"a": str(2**63 - 1), "b": [str(2**53)], "c": 2**53 - 1, "d": True}


def test_spans_are_written_one_by_one() -> None:
    """A page of many spans needs no memory for all of them."""
    out = io.StringIO()
    lengths = []

    def spans() -> Iterator[Span]:
        for number in range(3):
            lengths.append(len(out.getvalue()))
            yield span(number)

    write_page(spans(), out)
    assert 0 < lengths[0] < lengths[1] < lengths[2]


def test_the_policy_allows_this_script_and_this_style_and_nothing_else() -> None:
    """Each is allowed by the hash of the text between its tags."""
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


def test_the_page_has_no_urls_and_no_unsafe_calls() -> None:
    """Its only URL is the name of SVG, which is not fetched. The script does not convert text to markup or code."""
    text = page_text([])
    assert set(re.findall(r"\w+://[^'\"\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    script = Elements(text).texts["script"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "Storage"):
        assert word not in script
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\(", script)


def test_every_asset_is_used_and_short() -> None:
    """Each file of the folder is in the page; none has more than 500 lines."""
    names = {part.name for part in PAGE.iterdir()}
    assert names == {*_SCRIPTS, "page.css", "page.html"}
    for part in PAGE.iterdir():
        assert len(part.read_text(encoding="utf-8").splitlines()) <= 500, part.name


def test_the_page_does_not_import_otelflow() -> None:
    """It shows the spans of any OpenTelemetry program."""
    program = "import sys, otelflow_exporters._page.page; sys.exit('otelflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
