"""Render a trace as lines of text: names as a tree, durations, bars on one time axis, errors, folded siblings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from otelflow_exporters._terminal.text import Line, Style, clean, duration, format_lines
from otelflow_exporters._trace.forest import Forest, Siblings
from otelflow_exporters._trace.span import Span

__all__ = ["render"]

_MAX_NAME_CHARS = 48
_MAX_FAILURES = 3
_SIGNS = {"debug": " ", "info": "·", "warning": "!", "error": "✗", "critical": "✗"}


def render(spans: Sequence[Span], style: Style, note: str = "") -> list[str]:
    """Return the lines for the ``spans`` of one trace, which may be in any order. ``note`` follows the first line."""
    forest = Forest(spans)
    drawing = _Drawing(forest, style)
    lines = [line for root in forest.roots for line in drawing.tree(root)]
    if note and lines:
        lines[0] = lines[0].with_note(f"({note})")
    return format_lines(lines, style)


@dataclass(frozen=True)
class _Drawing:
    forest: Forest
    style: Style

    def tree(self, root: Span) -> Iterator[Line]:
        """Yield the line of ``root`` and those of its descendants.

        Without recursion: a trace may be as deep as a program's stack.
        """
        yield from self._span("", "", root)
        stack: list[tuple[str, list[Span | Siblings]]] = [("", self.forest.children(root)[::-1])]
        while stack:
            indent, items = stack[-1]
            if not items:
                stack.pop()
                continue
            item = items.pop()
            branch, deeper = ("├─ ", "│  ") if items else ("└─ ", "   ")
            if isinstance(item, Siblings):
                yield self._siblings(indent + branch, item)
                yield from self._failures(indent + deeper, item)
                continue
            yield from self._span(indent + branch, indent + deeper, item)
            stack.append((indent + deeper, self.forest.children(item)[::-1]))

    def _span(self, prefix: str, indent: str, span: Span) -> Iterator[Line]:
        note = f"✗ {clean(span.error)}" if span.failed else _remark(span)
        length = "" if span.end is None else duration(span.duration)
        label = prefix + clean(span.name, _MAX_NAME_CHARS)
        yield Line(label, length or "…", self._bar(span.start, span.end), note, bool(note))
        yield from _event_lines(span, indent, self.style)

    def _bar(self, start: int, end: int | None) -> tuple[float, float]:
        """Return start and end relative to the trace, each from 0 to 1."""
        total = max(1, self.forest.end - self.forest.start)
        return (start - self.forest.start) / total, ((start if end is None else end) - self.forest.start) / total

    def _siblings(self, prefix: str, group: Siblings) -> Line:
        note = f"median {duration(group.median)}, slowest {duration(group.slowest)}"
        if group.failed:
            note += f", ✗ {len(group.failed)} failed"
        label = f"{prefix}{clean(group.name, _MAX_NAME_CHARS)} ×{len(group.spans)}"
        length = duration((group.end - group.start) / 1e9)
        return Line(label, length, self._bar(group.start, group.end), note, bool(group.failed))

    def _failures(self, indent: str, group: Siblings) -> Iterator[Line]:
        """Yield the first failures of folded siblings, and the number of the others."""
        for span in group.failed[:_MAX_FAILURES]:
            yield from self._span(indent + "· ", indent + "  ", span)
        if len(group.failed) > _MAX_FAILURES:
            yield Line(f"{indent}… {len(group.failed) - _MAX_FAILURES} more failed")


def _remark(span: Span) -> str:
    """Return what otelflow's attributes say about a span that did not fail: cancelled, not ended, in no flow."""
    if span.attributes.get("otelflow.status") == "cancelled":
        return "⊘ cancelled"
    if span.end is None:
        return "not ended"
    return "in no flow" if span.attributes.get("otelflow.task.orphan") else ""


def _event_lines(span: Span, indent: str, style: Style) -> Iterable[Line]:
    """Yield the lines for messages, artifacts and results, if the style includes them."""
    if not (style.messages or style.artifacts):
        return
    for event in span.events:
        attributes = event.attributes
        if style.messages and "otelflow.message.text" in attributes:
            sign = _SIGNS.get(str(attributes.get("otelflow.message.severity", "")).lower(), "·")
            yield Line(f"{indent}{sign} {clean(str(attributes['otelflow.message.text']))}")
        elif style.messages and event.name == "otelflow.left_out":
            yield Line(f"{indent}… {clean(str(attributes.get('otelflow.dropped.events')))} events left out")
        elif style.artifacts and "otelflow.artifact.key" in attributes:
            yield Line(f"{indent}▪ {_artifact(attributes)}")
        elif style.artifacts and "otelflow.result.key" in attributes:
            text = f"{attributes['otelflow.result.key']}: {attributes.get('otelflow.result.description') or ''}"
            yield Line(f"{indent}= {clean(text)}")


def _artifact(attributes: Any) -> str:
    data = attributes.get("otelflow.artifact.data")
    if data is None:
        data = attributes.get("otelflow.artifact.uri") or ""
    else:
        try:
            data = json.dumps(json.loads(data), ensure_ascii=False)
        except (TypeError, ValueError):  # truncated, or not JSON
            data = str(data)
    description = attributes.get("otelflow.artifact.description")
    about = f" ({description})" if description else ""
    return clean(f"{attributes['otelflow.artifact.key']}{about}: {data}")
