"""Replace markers by their flow: a marker is a span without duration that shows a flow before it has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from otelflow_exporters._trace.span import Span

__all__ = ["flow_of", "is_marker", "without_markers"]

_MARKER_PREFIX = "otelflow.running."
"""Prefix of the attributes that only markers have."""


def is_marker(attributes: Mapping[str, Any] | None) -> bool:
    """Return whether a span with these attributes is a marker."""
    return attributes is not None and attributes.get("otelflow.kind") in ("started", "running")


def flow_of(marker: Span) -> Span:
    """Return the flow's own span, as far as the marker describes it. It has not ended."""
    attributes = {key: value for key, value in marker.attributes.items() if not key.startswith(_MARKER_PREFIX)}
    name = str(attributes.get("otelflow.flow.name", marker.name))
    return replace(
        marker,
        span_id=marker.parent_id or marker.span_id,
        parent_id=None,
        name=name,
        end=None,
        attributes={**attributes, "otelflow.kind": "flow"},
    )


def without_markers(spans: Iterable[Span]) -> list[Span]:
    """Return the spans of a trace without its markers.

    If the span of a flow is missing because it has not ended, the result contains the span that its markers describe.
    """
    others: list[Span] = []
    markers: list[Span] = []
    for span in spans:
        (markers if is_marker(span.attributes) else others).append(span)
    span_ids = {span.span_id for span in others}
    open_flows: dict[str, Span] = {}
    for flow in map(flow_of, sorted(markers, key=lambda marker: marker.start)):
        first = open_flows.setdefault(flow.span_id, flow)
        open_flows[flow.span_id] = replace(first, attributes={**first.attributes, **flow.attributes})
    return others + [flow for span_id, flow in open_flows.items() if span_id not in span_ids]
