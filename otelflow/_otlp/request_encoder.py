"""Spans as an OTLP request: the bytes of an ExportTraceServiceRequest, written without message objects in between.

Upstream's encoder makes an object for each attribute of each span, where a batch of runs has the same few attributes
again and again. A decoder finds no difference: same grouping, same order, same fields. A span that is unlike any that
is known here goes through upstream's encoder, alone; one that cannot be encoded at all does not take others along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opentelemetry.sdk.trace import ReadableSpan

from otelflow._otlp.attribute_encoder import sized
from otelflow._otlp.resource_encoder import EncodedScope
from otelflow._otlp.span_encoder import SpanEncoder

__all__ = ["encode", "encode_parts"]

_LENGTHS = 12
"""Bytes of the tags and lengths around a scope and its resource, at most."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """An ExportTraceServiceRequest of ``spans``, without those that cannot be encoded; that is logged."""
    encoding, request = SpanEncoder(), _Request()
    for span in spans:
        if made := encoding.span(span):
            request.add(*made)
    return request.written()


def encode_parts(spans: Sequence[ReadableSpan], max_bytes: int) -> Iterator[tuple[bytes, Sequence[ReadableSpan]]]:
    """Requests of ``spans`` in their order, each with the spans that are in it, made when they are asked for.

    Each has at most ``max_bytes`` bytes; more only where one span alone has. Spans that cannot be encoded are in none.
    """
    encoding, request = SpanEncoder(), _Request()
    inside: list[ReadableSpan] = []
    for span in spans:
        if made := encoding.span(span):
            if inside and request.size_with(*made) > max_bytes:
                yield request.written(), inside
                request, inside = _Request(), []
            request.add(*made)
            inside.append(span)
    if inside:
        yield request.written(), inside


class _Request:
    """A request in the making: spans below their scopes, scopes below their resources, each where it came first."""

    def __init__(self) -> None:
        self._spans: dict[EncodedScope, list[bytes]] = {}
        self._scopes: dict[EncodedScope, list[EncodedScope]] = {}
        self._size = 0

    def size_with(self, span: bytes, scope: EncodedScope) -> int:
        """Bytes of the request, at most, if ``span`` was in it as well."""
        return self._size + len(span) + (0 if scope in self._spans else _around(scope))

    def add(self, span: bytes, scope: EncodedScope) -> None:
        """Put in a span, which is a field already."""
        spans = self._spans.get(scope)
        if spans is None:
            spans = self._spans[scope] = []
            self._scopes.setdefault(scope.parent or scope, []).append(scope)
            self._size += _around(scope)
        spans.append(span)
        self._size += len(span)

    def written(self) -> bytes:
        """All of it."""
        return b"".join([b"\x0a" + sized(self._resource(*each)) for each in self._scopes.items()])

    def _resource(self, resource: EncodedScope, scopes: list[EncodedScope]) -> bytes:
        inside = [b"\x12" + sized(b"".join([each.before, *self._spans[each], each.after])) for each in scopes]
        return b"".join([resource.before, *inside, resource.after])


def _around(scope: EncodedScope) -> int:
    """Bytes that the first span of a scope brings along: the scope, its resource, and what separates them."""
    frames = [scope, scope.parent or scope]
    return sum(len(frame.before) + len(frame.after) for frame in frames) + _LENGTHS
