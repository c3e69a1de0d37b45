"""Encode spans as an OTLP request: the bytes of an ExportTraceServiceRequest, without building message objects.

OpenTelemetry's encoder builds an object for each attribute of each span, but the spans of a batch of runs share a few
attributes. A decoder finds no difference: same grouping, same order, same fields. A span of an unknown kind goes
through OpenTelemetry's encoder, alone. A span that cannot be encoded at all is left out, and the others are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otelflow._otlp.attribute_encoder import with_length
from otelflow._otlp.resource_encoder import EncodedScope
from otelflow._otlp.span_encoder import SpanEncoder

__all__ = ["encode", "encode_parts"]

_MAX_FRAMING = 12
"""Limit in bytes of the tags and lengths around a scope and its resource."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Encode an ExportTraceServiceRequest of ``spans``. A span that cannot be encoded is left out and logged."""
    encoder, request = SpanEncoder(), _Request()
    for span in spans:
        if encoded := encoder.encode(span):
            request.add(*encoded)
    return request.encode()


def encode_parts(spans: Sequence[ReadableSpan], max_bytes: int) -> Iterator[tuple[bytes, Sequence[ReadableSpan]]]:
    """Yield requests of ``spans`` in their order, each with its spans. Each is encoded when it is asked for.

    A request has at most ``max_bytes`` bytes, or one larger span. Spans that cannot be encoded are left out.
    """
    encoder, request = SpanEncoder(), _Request()
    spans_in_request: list[ReadableSpan] = []
    for span in spans:
        if encoded := encoder.encode(span):
            if spans_in_request and request.size_with(*encoded) > max_bytes:
                yield request.encode(), spans_in_request
                request, spans_in_request = _Request(), []
            request.add(*encoded)
            spans_in_request.append(span)
    if spans_in_request:
        yield request.encode(), spans_in_request


class _Request:
    """A request under construction: spans grouped by scope, scopes by resource, both in order of first occurrence."""

    def __init__(self) -> None:
        self._spans: dict[EncodedScope, list[bytes]] = {}
        self._scopes: dict[EncodedScope, list[EncodedScope]] = {}
        self._size = 0

    def size_with(self, span: bytes, scope: EncodedScope) -> int:
        """Return an upper limit of the request's size in bytes if ``span`` was added."""
        return self._size + len(span) + (0 if scope in self._spans else _size_around(scope))

    def add(self, span: bytes, scope: EncodedScope) -> None:
        """Add a span that is encoded as a field."""
        spans = self._spans.get(scope)
        if spans is None:
            spans = self._spans[scope] = []
            self._scopes.setdefault(scope.parent or scope, []).append(scope)
            self._size += _size_around(scope)
        spans.append(span)
        self._size += len(span)

    def encode(self) -> bytes:
        """Return the bytes of the whole request."""
        return b"".join([b"\x0a" + with_length(self._resource(*item)) for item in self._scopes.items()])

    def _resource(self, resource: EncodedScope, scopes: list[EncodedScope]) -> bytes:
        bodies = [b"\x12" + with_length(b"".join([scope.before, *self._spans[scope], scope.after])) for scope in scopes]
        return b"".join([resource.before, *bodies, resource.after])


def _size_around(scope: EncodedScope) -> int:
    """Return an upper limit of the bytes that a scope's first span adds: the scope, its resource, and their framing."""
    parts = [scope, scope.parent or scope]
    return sum(len(part.before) + len(part.after) for part in parts) + _MAX_FRAMING
