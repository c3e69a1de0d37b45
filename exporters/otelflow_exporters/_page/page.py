"""Spans as one HTML file that needs nothing else: to look at runs without a backend, and to send them to a colleague.

The file holds its data as JSON that a person or a program can read (``<script id="otelflow-data">``), a style and a
script. Its Content-Security-Policy names these two by their hashes and forbids everything else, the network included.
Whatever a span says is data: in the file it cannot end the element it stands in, and the script only makes text of it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any, TextIO

from otelflow_exporters._trace.span import Span, to_plain

__all__ = ["page_text", "write_page"]

_SCRIPTS = (
    "format.js",
    "dom.js",
    "model.js",
    "tree.js",
    "critical.js",
    "search.js",
    "virtual.js",
    "runs.js",
    "axis.js",
    "row.js",
    "waterfall.js",
    "values.js",
    "events.js",
    "details.js",
    "page.js",
)
"""The parts of the script, in the order in which they stand in the page."""

_LARGEST_EXACT = 2**53 - 1
"""Beyond it JavaScript rounds whole numbers; OpenTelemetry's have 64 bits."""

_NOT_IN_HTML = re.compile("[<\u2028\u2029\ud800-\udfff]")
"""What the data may not hold as it is. ``<`` could begin a tag or a comment, which ends the element, or keeps it from
ending; halves of surrogate pairs cannot be written as UTF-8."""


def write_page(spans: Iterable[Span], out: TextIO, *, title: str = "Runs", note: str = "") -> None:
    """Write the page to ``out``, a span at a time. ``out`` has to be UTF-8.

    ``title`` heads the page and ``note`` stands beside it: where the spans come from, or what is missing.
    """
    page = files("otelflow_exporters._page").joinpath("assets")
    style = _between_newlines(page.joinpath("page.css").read_text(encoding="utf-8"))
    parts = [page.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS]
    script = _between_newlines("(() => {\n'use strict';\n\n" + "\n".join(parts) + "\n})();")
    texts = {
        "policy": html.escape(_policy(style, script)),
        "title": html.escape(_encodable(title)),
        "style": style,
        "script": script,
    }
    template = page.joinpath("page.html").read_text(encoding="utf-8")
    for part in re.split(r"(\{\{\w+\}\})", template):
        name = part.strip("{}") if part.startswith("{{") else None
        if name == "data":
            out.writelines(_data(spans, title, note))
        else:
            out.write(part if name is None else texts[name])


def page_text(spans: Iterable[Span], *, title: str = "Runs", note: str = "") -> str:
    """The page as text, for those who have a place for it other than a file."""
    out = io.StringIO()
    write_page(spans, out, title=title, note=note)
    return out.getvalue()


def _between_newlines(text: str) -> str:
    """What is hashed is what stands between the tags, to the character."""
    return f"\n{text.strip()}\n"


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",  # the icon in the browser's tab, which is asked for over the network otherwise
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",  # no text becomes markup, whatever a later change of the script does
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(spans: Iterable[Span], title: str, note: str) -> Iterator[str]:
    """The lines of the JSON: a span each, then the resources that they name by their number."""
    resources = _Resources()
    yield f'{{"format": "otelflow-page/1", "title": {_json(title)}, "note": {_json(note)},\n"spans": ['
    separator = "\n"
    for span in spans:
        made = span.to_json()
        made["resource"] = resources.number(span.resource)
        yield separator + _json(_exact(made))
        separator = ",\n"
    yield '\n],\n"resources": ['
    yield ",".join(f"\n{text}" for text in resources.texts)
    yield "\n]}"


class _Resources:
    """Resources, each once: thousands of spans have the same."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._last: tuple[Mapping[str, Any], int] | None = None

    @property
    def texts(self) -> Iterable[str]:
        return self._numbers

    def number(self, resource: Mapping[str, Any]) -> int:
        if self._last is None or self._last[0] is not resource:
            text = _json(_exact(to_plain(resource)))
            self._last = resource, self._numbers.setdefault(text, len(self._numbers))
        return self._last[1]


def _exact(value: Any) -> Any:
    """``value`` with those whole numbers as text that JavaScript would round."""
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, int) and abs(value) > _LARGEST_EXACT:
        return str(value)
    return value


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _NOT_IN_HTML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
