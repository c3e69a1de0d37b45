"""A trace as lines of text: names as a tree, durations, bars on a common time axis, errors, folded siblings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from otelflow_exporters._terminal.text import Line, Style, clean, duration, laid_out
from otelflow_exporters._trace.forest import Forest, Siblings
from otelflow_exporters._trace.span import Span

__all__ = ["render"]

_LONGEST_NAME = 48
_SHOWN_FAILURES = 3
_SIGNS = {"debug": " ", "info": "·", "warning": "!", "error": "✗", "critical": "✗"}


def render(spans: Sequence[Span], style: Style, note: str = "") -> list[str]:
    """The lines for the ``spans`` of one trace, in any order; ``note`` stands behind the first."""
    forest = Forest(spans)
    drawing = _Drawing(forest, style)
    lines = [line for top in forest.tops for line in drawing.tree(top)]
    if note and lines:
        lines[0] = lines[0].with_note(f"({note})")
    return laid_out(lines, style)


@dataclass(frozen=True)
class _Drawing:
    forest: Forest
    style: Style

    def tree(self, top: Span) -> Iterator[Line]:
        """The line of ``top``, and those below. Walks without recursion: a trace may be as deep as a program's
        stack."""
        yield from self._span("", "", top)
        stack: list[tuple[str, list[Span | Siblings]]] = [("", self.forest.below(top)[::-1])]
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
            stack.append((indent + deeper, self.forest.below(item)[::-1]))

    def _span(self, prefix: str, indent: str, span: Span) -> Iterator[Line]:
        note = f"✗ {clean(span.error)}" if span.failed else _remark(span)
        took = "" if span.end is None else duration(span.duration)
        label = prefix + clean(span.name, _LONGEST_NAME)
        yield Line(label, took or "…", self._bar(span.start, span.end), note, bool(note))
        yield from _said(span, indent, self.style)

    def _bar(self, start: int, end: int | None) -> tuple[float, float]:
        """Where it lies within the trace, as two parts of one."""
        whole = max(1, self.forest.end - self.forest.start)
        return (start - self.forest.start) / whole, ((start if end is None else end) - self.forest.start) / whole

    def _siblings(self, prefix: str, group: Siblings) -> Line:
        note = f"median {duration(group.median)}, slowest {duration(group.slowest)}"
        if group.failed:
            note += f", ✗ {len(group.failed)} failed"
        label = f"{prefix}{clean(group.name, _LONGEST_NAME)} ×{len(group.spans)}"
        took = duration((group.end - group.start) / 1e9)
        return Line(label, took, self._bar(group.start, group.end), note, bool(group.failed))

    def _failures(self, indent: str, group: Siblings) -> Iterator[Line]:
        """The first failures among folded siblings, and how many more there are."""
        for span in group.failed[:_SHOWN_FAILURES]:
            yield from self._span(indent + "· ", indent + "  ", span)
        if len(group.failed) > _SHOWN_FAILURES:
            yield Line(f"{indent}… {len(group.failed) - _SHOWN_FAILURES} more failed")


def _remark(span: Span) -> str:
    """What a person has to know of a span that did not fail, where otelflow says it."""
    if span.attributes.get("otelflow.status") == "cancelled":
        return "⊘ cancelled"
    if span.end is None:
        return "not ended"
    return "in no flow" if span.attributes.get("otelflow.task.orphan") else ""


def _said(span: Span, indent: str, style: Style) -> Iterable[Line]:
    """Messages, artifacts and results, where they are asked for."""
    if not (style.messages or style.artifacts):
        return
    for event in span.events:
        known = event.attributes
        if style.messages and "otelflow.message.text" in known:
            sign = _SIGNS.get(str(known.get("otelflow.message.severity", "")).lower(), "·")
            yield Line(f"{indent}{sign} {clean(str(known['otelflow.message.text']))}")
        elif style.messages and event.name == "otelflow.left_out":
            yield Line(f"{indent}… {clean(str(known.get('otelflow.dropped.events')))} events left out")
        elif style.artifacts and "otelflow.artifact.key" in known:
            yield Line(f"{indent}▪ {_artifact(known)}")
        elif style.artifacts and "otelflow.result.key" in known:
            said = f"{known['otelflow.result.key']}: {known.get('otelflow.result.description') or ''}"
            yield Line(f"{indent}= {clean(said)}")


def _artifact(known: Any) -> str:
    data = known.get("otelflow.artifact.data")
    if data is None:
        data = known.get("otelflow.artifact.uri") or ""
    else:
        try:
            data = json.dumps(json.loads(data), ensure_ascii=False)
        except (TypeError, ValueError):  # cut in the middle, or no JSON at all
            data = str(data)
    description = known.get("otelflow.artifact.description")
    about = f" ({description})" if description else ""
    return clean(f"{known['otelflow.artifact.key']}{about}: {data}")
