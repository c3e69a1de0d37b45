"""Markers: spans of no length by which otelflow shows a flow that has not ended. They stand for the flow's own span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from otelflow_exporters._trace.span import Span

__all__ = ["flow_of", "is_marker", "without_markers"]

_OWN = "otelflow.running."
"""What only markers have."""


def is_marker(attributes: Mapping[str, Any] | None) -> bool:
    """Whether a span with these attributes is one."""
    return attributes is not None and attributes.get("otelflow.kind") in ("started", "running")


def flow_of(marker: Span) -> Span:
    """The flow's span as far as it is known: not ended."""
    known = {key: value for key, value in marker.attributes.items() if not key.startswith(_OWN)}
    name = str(known.get("otelflow.flow.name", marker.name))
    return replace(
        marker,
        span_id=marker.parent_id or marker.span_id,
        parent_id=None,
        name=name,
        end=None,
        attributes={**known, "otelflow.kind": "flow"},
    )


def without_markers(spans: Iterable[Span]) -> list[Span]:
    """The spans of a trace without its markers; a flow that has not ended, or never will, stands there as it is known
    from them."""
    kept: list[Span] = []
    markers: list[Span] = []
    for span in spans:
        (markers if is_marker(span.attributes) else kept).append(span)
    there = {span.span_id for span in kept}
    missing: dict[str, Span] = {}
    for flow in map(flow_of, sorted(markers, key=lambda one: one.start)):
        first = missing.setdefault(flow.span_id, flow)
        missing[flow.span_id] = replace(first, attributes={**first.attributes, **flow.attributes})
    return kept + [flow for identity, flow in missing.items() if identity not in there]
