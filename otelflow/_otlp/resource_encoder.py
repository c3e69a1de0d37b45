"""Encode resources and scopes as OTLP protobuf bytes: the bytes around the spans of each."""

from __future__ import annotations

from typing import Any

from otelflow._otlp.attribute_encoder import AttributeEncoder, text_field, with_length

__all__ = ["EncodedScope", "EncodedScopes"]

_MAX_CACHED = 1024
"""Limit of cached pairs of a resource and a scope."""


class EncodedScope:
    """The bytes before and after the spans of a scope, or before and after the scopes of a resource."""

    __slots__ = ("after", "before", "parent")

    def __init__(self, before: bytes, after: bytes, parent: EncodedScope | None = None) -> None:
        self.before, self.after, self.parent = before, after, parent


class EncodedScopes:
    """Encodes scopes; equal scopes are one object.

    OpenTelemetry's encoder calls ``hash(resource)`` once a span, which writes all its attributes as JSON.
    """

    def __init__(self) -> None:
        self._scopes: dict[Any, EncodedScope] = {}
        self._cache: dict[tuple[int, int], tuple[EncodedScope, Any, Any]] = {}

    def of(self, resource: Any, scope: Any) -> EncodedScope:
        """Return the encoded ``scope`` within ``resource``."""
        cached = self._cache.get((id(resource), id(scope)))
        if cached is not None:
            return cached[0]
        encoded = self._scope(scope, self._resource(resource))
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        # Hold both objects: an id may be used again when its object is gone.
        self._cache[id(resource), id(scope)] = encoded, resource, scope
        return encoded

    def _resource(self, resource: Any) -> EncodedScope:
        fields = AttributeEncoder(b"\x0a").fields(resource.attributes)
        key = "resource", frozenset(fields), resource.schema_url
        encoded = EncodedScope(b"\x0a" + with_length(b"".join(fields)), text_field(b"\x1a", resource.schema_url))
        return self._scopes.setdefault(key, encoded)

    def _scope(self, scope: Any, parent: EncodedScope) -> EncodedScope:
        if scope is None:
            return self._scopes.setdefault((parent, None), EncodedScope(b"\x0a\x00", b"", parent))
        fields = AttributeEncoder(b"\x1a").fields(scope.attributes)
        key = parent, scope.name, scope.version, scope.schema_url, frozenset(fields)
        before = text_field(b"\x0a", scope.name) + text_field(b"\x12", scope.version) + b"".join(fields)
        encoded = EncodedScope(b"\x0a" + with_length(before), text_field(b"\x1a", scope.schema_url), parent)
        return self._scopes.setdefault(key, encoded)
