"""The spans of one trace as trees: who stands below whom, and which equal siblings are shown as one."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from otelflow_exporters._trace.span import Span

__all__ = ["Forest", "Siblings"]

_MOST_SIBLINGS = 10
"""More siblings of one name than this are shown as one."""


class Siblings:
    """Spans of one name below one parent, in the order of their start."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.name = spans[0].name
        self.failed = [span for span in spans if span.failed]
        self.start = spans[0].start
        self.end = max(span.start if span.end is None else span.end for span in spans)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(span.duration for span in self.spans)

    @property
    def slowest(self) -> float:
        """Seconds."""
        return max(span.duration for span in self.spans)


def _with_what_continues(spans: Sequence[Span]) -> Sequence[Span]:
    """A span of the kind ``continuation`` carries events that the one above had no room for: it becomes a part of that,
    where that is here."""
    own = {span.span_id: span for span in spans if span.attributes.get("otelflow.kind") != "continuation"}
    more: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda one: one.start):
        if span.span_id not in own and span.parent_id in own:
            more[span.parent_id].append(span)
    if not more:
        return spans
    parts = {id(part) for found in more.values() for part in found}
    return [
        replace(span, events=[event for part in (span, *more[span.span_id]) for event in part.events])
        if span is own.get(span.span_id) and span.span_id in more
        else span
        for span in spans
        if id(span) not in parts
    ]


class Forest:
    """One trace. ``tops`` are the spans whose parent is not here: one where the trace is whole."""

    def __init__(self, spans: Sequence[Span]) -> None:
        spans = _with_what_continues(spans)
        ids = {span.span_id for span in spans}
        self._below: dict[str, list[Span]] = defaultdict(list)
        self.tops: list[Span] = []
        for span in sorted(spans, key=lambda one: one.start):
            has_parent = span.parent_id in ids and span.parent_id != span.span_id
            (self._below[span.parent_id or ""] if has_parent else self.tops).append(span)
        self._open_circles(spans)
        self.start = min((span.start for span in spans), default=0)
        self.end = max((span.start if span.end is None else span.end for span in spans), default=0)

    def _open_circles(self, spans: Sequence[Span]) -> None:
        """Two spans that name each other as parent (ids that were made twice) would be reached from no top: the first
        of them becomes one."""
        seen = {id(span) for top in self.tops for span in self._all_below(top)}
        while len(seen) < len(spans):
            first = min((span for span in spans if id(span) not in seen), key=lambda one: one.start)
            siblings = self._below[first.parent_id or ""]
            siblings[:] = [span for span in siblings if span is not first]
            self.tops.append(first)
            seen |= {id(span) for span in self._all_below(first)}

    def _all_below(self, top: Span) -> Iterator[Span]:
        waiting, seen = [top], set[int]()
        while waiting:
            span = waiting.pop()
            if id(span) not in seen:
                seen.add(id(span))
                yield span
                waiting.extend(self._below.get(span.span_id, ()))

    def below(self, span: Span) -> list[Span | Siblings]:
        """The children of a span; many of one name together, in the place of the first."""
        own = self._below.get(span.span_id, [])
        by_name: dict[str, list[Span]] = defaultdict(list)
        for child in own:
            by_name[child.name].append(child)
        made: list[Span | Siblings] = []
        for child in own:
            equal = by_name[child.name]
            if len(equal) <= _MOST_SIBLINGS:
                made.append(child)
            elif child is equal[0]:
                made.append(Siblings(equal))
        return made
