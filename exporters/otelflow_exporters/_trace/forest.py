"""Arrange the spans of one trace as trees, and fold many siblings of one name into a group."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from otelflow_exporters._trace.span import Span

__all__ = ["Forest", "Siblings"]

_MAX_SIBLINGS = 10
"""Largest number of siblings of one name that are shown separately."""


class Siblings:
    """A group of spans with one name and one parent, in the order of their start."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.name = spans[0].name
        self.failed = [span for span in spans if span.failed]
        self.start = spans[0].start
        self.end = max(span.start if span.end is None else span.end for span in spans)

    @property
    def median(self) -> float:
        """Median duration in seconds."""
        return statistics.median(span.duration for span in self.spans)

    @property
    def slowest(self) -> float:
        """Longest duration in seconds."""
        return max(span.duration for span in self.spans)


def _merge_continuations(spans: Sequence[Span]) -> Sequence[Span]:
    """Move the events of each ``continuation`` span to its parent, if the parent is present.

    Such a span carries events that its parent had no room for.
    """
    parents = {span.span_id: span for span in spans if span.attributes.get("otelflow.kind") != "continuation"}
    continuations: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start):
        if span.span_id not in parents and span.parent_id in parents:
            continuations[span.parent_id].append(span)
    if not continuations:
        return spans
    merged = {id(part) for parts in continuations.values() for part in parts}
    return [
        replace(span, events=[event for part in (span, *continuations[span.span_id]) for event in part.events])
        if span is parents.get(span.span_id) and span.span_id in continuations
        else span
        for span in spans
        if id(span) not in merged
    ]


class Forest:
    """The spans of one trace as trees. ``roots`` are the spans without a parent here: one if the trace is complete."""

    def __init__(self, spans: Sequence[Span]) -> None:
        spans = _merge_continuations(spans)
        ids = {span.span_id for span in spans}
        self._children: dict[str, list[Span]] = defaultdict(list)
        self.roots: list[Span] = []
        for span in sorted(spans, key=lambda span: span.start):
            has_parent = span.parent_id in ids and span.parent_id != span.span_id
            (self._children[span.parent_id or ""] if has_parent else self.roots).append(span)
        self._break_cycles(spans)
        self.start = min((span.start for span in spans), default=0)
        self.end = max((span.start if span.end is None else span.end for span in spans), default=0)

    def _break_cycles(self, spans: Sequence[Span]) -> None:
        """Make the first span of each cycle a root.

        Two spans can name each other as parent if an id was generated twice. No root would lead to them.
        """
        visited = {id(span) for root in self.roots for span in self._descendants(root)}
        while len(visited) < len(spans):
            first = min((span for span in spans if id(span) not in visited), key=lambda span: span.start)
            siblings = self._children[first.parent_id or ""]
            siblings[:] = [span for span in siblings if span is not first]
            self.roots.append(first)
            visited |= {id(span) for span in self._descendants(first)}

    def _descendants(self, root: Span) -> Iterator[Span]:
        stack, visited = [root], set[int]()
        while stack:
            span = stack.pop()
            if id(span) not in visited:
                visited.add(id(span))
                yield span
                stack.extend(self._children.get(span.span_id, ()))

    def children(self, span: Span) -> list[Span | Siblings]:
        """Return the children of a span. Many of one name are folded into a group, at the place of the first."""
        children = self._children.get(span.span_id, [])
        by_name: dict[str, list[Span]] = defaultdict(list)
        for child in children:
            by_name[child.name].append(child)
        items: list[Span | Siblings] = []
        for child in children:
            siblings = by_name[child.name]
            if len(siblings) <= _MAX_SIBLINGS:
                items.append(child)
            elif child is siblings[0]:
                items.append(Siblings(siblings))
        return items
