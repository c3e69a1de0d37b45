"""Write spans as one self-contained HTML file: to view runs without a backend, and to send them to a colleague.

The file contains its data as JSON that a person or a program can read (``<script id="otelflow-data">``), a style and a
script. Its Content-Security-Policy allows these two by their hashes and forbids everything else, including the network.
Text from spans is data: in the file it cannot end its element, and the script only inserts it as text.
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
"""The parts of the script, in their order in the page."""

_MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that JavaScript does not round; OpenTelemetry's integers have 64 bits."""

_UNSAFE_IN_HTML = re.compile("[<\u2028\u2029\ud800-\udfff]")
"""Characters that the data must escape.

``<`` could start a tag or a comment, which ends the element or keeps it from ending. Lone surrogates cannot be encoded
as UTF-8."""


def write_page(spans: Iterable[Span], out: TextIO, *, title: str = "Runs", note: str = "") -> None:
    """Write the page to ``out``, one span at a time.

    ``out`` must encode as UTF-8. ``title`` is the page's heading. ``note`` follows it: where the spans come from, or
    what is missing.
    """
    assets = files("otelflow_exporters._page").joinpath("assets")
    style = _wrap_in_newlines(assets.joinpath("page.css").read_text(encoding="utf-8"))
    parts = [assets.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS]
    script = _wrap_in_newlines("(() => {\n'use strict';\n\n" + "\n".join(parts) + "\n})();")
    texts = {
        "policy": html.escape(_policy(style, script)),
        "title": html.escape(_encodable(title)),
        "style": style,
        "script": script,
    }
    template = assets.joinpath("page.html").read_text(encoding="utf-8")
    for part in re.split(r"(\{\{\w+\}\})", template):
        name = part.strip("{}") if part.startswith("{{") else None
        if name == "data":
            out.writelines(_data(spans, title, note))
        else:
            out.write(part if name is None else texts[name])


def page_text(spans: Iterable[Span], *, title: str = "Runs", note: str = "") -> str:
    """Return the page as text."""
    out = io.StringIO()
    write_page(spans, out, title=title, note=note)
    return out.getvalue()


def _wrap_in_newlines(text: str) -> str:
    """Return the text as it stands between the tags: the browser hashes exactly these characters."""
    return f"\n{text.strip()}\n"


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",  # the tab's icon: without one, the browser requests it over the network
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",  # text never becomes markup, even if the script changes later
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(spans: Iterable[Span], title: str, note: str) -> Iterator[str]:
    """Yield the lines of the JSON: one for each span, then the resources, which the spans reference by number."""
    resources = _Resources()
    yield f'{{"format": "otelflow-page/1", "title": {_json(title)}, "note": {_json(note)},\n"spans": ['
    separator = "\n"
    for span in spans:
        fields = span.to_json()
        fields["resource"] = resources.number(span.resource)
        yield separator + _json(_large_integers_as_text(fields))
        separator = ",\n"
    yield '\n],\n"resources": ['
    yield ",".join(f"\n{text}" for text in resources.texts)
    yield "\n]}"


class _Resources:
    """The resources, each once: thousands of spans share one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._last: tuple[Mapping[str, Any], int] | None = None

    @property
    def texts(self) -> Iterable[str]:
        return self._numbers

    def number(self, resource: Mapping[str, Any]) -> int:
        if self._last is None or self._last[0] is not resource:
            text = _json(_large_integers_as_text(to_plain(resource)))
            self._last = resource, self._numbers.setdefault(text, len(self._numbers))
        return self._last[1]


def _large_integers_as_text(value: Any) -> Any:
    """Return ``value`` with integers as text if JavaScript would round them."""
    if isinstance(value, dict):
        return {key: _large_integers_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_large_integers_as_text(item) for item in value]
    if isinstance(value, int) and abs(value) > _MAX_SAFE_INTEGER:
        return str(value)
    return value


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _UNSAFE_IN_HTML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
