"""Resources and scopes as bytes of OTLP's protobuf: what stands around the spans of each."""

from __future__ import annotations

from typing import Any

from otelflow._otlp.attribute_encoder import AttributeEncoder, sized, text_field

__all__ = ["EncodedScope", "EncodedScopes"]

_MOST_KNOWN = 1024
"""Pairs of a resource and a scope that are known again by identity."""


class EncodedScope:
    """What stands before and after the spans of a scope, or before and after the scopes of a resource."""

    __slots__ = ("after", "before", "parent")

    def __init__(self, before: bytes, after: bytes, parent: EncodedScope | None = None) -> None:
        self.before, self.after, self.parent = before, after, parent


class EncodedScopes:
    """Makes frames; two that are equal are one.

    Upstream's encoder asks resources for their hash, once a span, which is one of all their attributes as JSON.
    """

    def __init__(self) -> None:
        self._frames: dict[Any, EncodedScope] = {}
        self._known: dict[tuple[int, int], tuple[EncodedScope, Any, Any]] = {}

    def of(self, resource: Any, scope: Any) -> EncodedScope:
        """The frame of ``scope`` within ``resource``."""
        known = self._known.get((id(resource), id(scope)))
        if known is not None:
            return known[0]
        made = self._scope(scope, self._resource(resource))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[id(resource), id(scope)] = made, resource, scope  # held: ids may come again when things are gone
        return made

    def _resource(self, resource: Any) -> EncodedScope:
        fields = AttributeEncoder(b"\x0a").fields(resource.attributes)
        key = "resource", frozenset(fields), resource.schema_url
        made = EncodedScope(b"\x0a" + sized(b"".join(fields)), text_field(b"\x1a", resource.schema_url))
        return self._frames.setdefault(key, made)

    def _scope(self, scope: Any, parent: EncodedScope) -> EncodedScope:
        if scope is None:
            return self._frames.setdefault((parent, None), EncodedScope(b"\x0a\x00", b"", parent))
        fields = AttributeEncoder(b"\x1a").fields(scope.attributes)
        key = parent, scope.name, scope.version, scope.schema_url, frozenset(fields)
        before = text_field(b"\x0a", scope.name) + text_field(b"\x12", scope.version) + b"".join(fields)
        made = EncodedScope(b"\x0a" + sized(before), text_field(b"\x1a", scope.schema_url), parent)
        return self._frames.setdefault(key, made)
