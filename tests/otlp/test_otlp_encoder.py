"""otelflow's encoder: a decoder finds no difference to OpenTelemetry's encoder."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from gzip import compress
from itertools import count
from types import MappingProxyType
from typing import Any

import grpc
import pytest
import receiver as receivers
from encoded_spans import (
    CONTEXT,
    RESOURCE,
    ended_span,
    normalized_request,
    spans_in,
    upstream_encodes_none,
    upstream_request,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.span import TraceState

from otelflow._otlp.request_encoder import encode, encode_parts
from otelflow._spans import lean_tracer
from otelflow._spans.event_overflow import add_event

# --- spans of every kind ----------------------------------------------------------------------------------------------

keys = st.sampled_from(["a", "otelflow.kind", "ü", "k" * 130, ""]) | st.text(max_size=4)


texts = st.sampled_from(["task", "", "x" * 125, "x" * 126, "ü" * 63, "y" * 20_000]) | st.text(max_size=200)


numbers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 127, 128, 16_383, 16_384])


scalars = st.one_of(texts, st.booleans(), numbers, st.floats(), st.binary(max_size=200))


if upstream_encodes_none():
    scalars |= st.none()


unsupported_values = st.sampled_from([2**63, object(), {1}, [2**70]])


values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


attributes = st.dictionaries(keys, values | unsupported_values, max_size=5)


plain_attributes = st.dictionaries(
    keys.filter(bool), texts | st.booleans() | numbers | st.lists(texts, max_size=2), max_size=4
)


ids = st.integers(1, 2**64 - 1)


states = st.sampled_from([None, TraceState(), TraceState([("a", "b")]), TraceState([("c@d", "1"), ("e", "ü")])])


contexts = st.builds(SpanContext, st.integers(1, 2**128 - 1), ids, st.booleans(), st.just(TraceFlags(1)), states)


times = st.none() | st.integers(0, 2**64 - 1)


statuses = st.builds(Status, st.just(StatusCode.ERROR), st.none() | texts) | st.sampled_from(
    [Status(StatusCode.UNSET), Status(StatusCode.OK)]
)


events = st.builds(Event, texts, st.none() | plain_attributes, st.integers(0, 2**64 - 1))


links = st.builds(Link, contexts, st.none() | plain_attributes)


RESOURCES = [
    RESOURCE,
    Resource({"service.name": "encoder"}),
    Resource({"service.name": "other", "tags": ["a", "b"], "n": 1, "f": 0.5}),
    Resource({"service.name": "encoder"}, "https://example.com/resource"),
    Resource({}),
]


SCOPES = [
    None,
    InstrumentationScope("otelflow", "1"),
    InstrumentationScope("otelflow", "1"),
    InstrumentationScope("otelflow", "1", attributes={"a": 1, "b": "c"}),
    InstrumentationScope("otelflow", "1", "https://example.com/scope"),
    InstrumentationScope("other"),
]


spans_by_hand = st.builds(
    ended_span,
    name=texts,
    context=contexts,
    parent=st.none() | contexts,
    resource=st.sampled_from(RESOURCES),
    attributes=st.none() | attributes | attributes.map(MappingProxyType),
    events=st.lists(events, max_size=3),
    links=st.lists(links, max_size=2),
    kind=st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
    instrumentation_scope=st.sampled_from(SCOPES),
)


@settings(deadline=None)
@given(st.lists(spans_by_hand, max_size=8))
def test_a_decoder_finds_no_difference_to_opentelemetrys_encoder(spans: list[ReadableSpan]) -> None:
    """For any spans, resources and scopes: the same fields in the same groups in the same order."""
    assert normalized_request(encode(spans)) == upstream_request(spans)


class Counting(IdGenerator):
    """Consecutive ids: random ones would make hypothesis's examples irreproducible."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def generate_span_id(self) -> int:
        return next(self._numbers)

    generate_trace_id = generate_span_id


sdk_attributes = attributes if upstream_encodes_none() else plain_attributes
"""The SDK replaces an invalid attribute by None, which older encoders left out."""


LIMITS = SpanLimits(max_attributes=3, max_events=2, max_links=1, max_event_attributes=1, max_link_attributes=1)


UNLIMITED = SpanLimits(max_attributes=None)


@st.composite
def spans_from_sdk(draw: st.DrawFn) -> list[ReadableSpan]:
    """Spans of a provider with limits, which drop some of their attributes, events and links."""
    memory = InMemorySpanExporter()
    for _ in range(draw(st.integers(1, 2))):
        limits, resource = draw(st.sampled_from([LIMITS, UNLIMITED])), draw(st.sampled_from(RESOURCES))
        provider = TracerProvider(
            ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=Counting(), span_limits=limits
        )
        provider.add_span_processor(SimpleSpanProcessor(memory))
        tracer = provider.get_tracer("otelflow", "1", draw(st.none() | texts), draw(st.none() | plain_attributes))
        context = set_span_in_context(NonRecordingSpan(draw(contexts)))
        for _ in range(draw(st.integers(1, 3))):
            span = tracer.start_span(
                draw(texts),
                context,
                draw(st.sampled_from(SpanKind)),
                draw(sdk_attributes),
                draw(st.lists(links, max_size=3)),
            )
            for _ in range(draw(st.integers(0, 4))):
                span.add_event(draw(texts), draw(st.none() | plain_attributes))
            span.set_status(draw(statuses))
            context = set_span_in_context(span)
            span.end()
    return list(memory.get_finished_spans())


@settings(deadline=None)
@given(spans_from_sdk())
def test_spans_of_the_sdk_are_encoded_as_by_opentelemetrys_encoder(spans: list[ReadableSpan]) -> None:
    """With parents in this process and in another one, trace states, and numbers of dropped items."""
    assert normalized_request(encode(spans)) == upstream_request(spans)


FUNCTION = {"otelflow.kind": "task", "100%": "%d %s", "same": 1}


FLOW = {"otelflow.flow.name": "nightly %"}


LAST = {"otelflow.status": "completed"}


@pytest.mark.parametrize("limits", [SpanLimits(), SpanLimits(max_span_attributes=3), SpanLimits(max_span_attributes=0)])
def test_lean_spans_are_encoded_from_their_parts(limits: SpanLimits) -> None:
    """The result is that of OpenTelemetry's encoder, which reads merged attributes. Parts may override one another."""
    provider = TracerProvider(ALWAYS_ON, RESOURCE, shutdown_on_exit=False, id_generator=Counting(), span_limits=limits)
    start = lean_tracer.starter_for(provider.get_tracer("otelflow"))
    assert start is not None
    all_parts: list[tuple[Any, ...]] = [
        (FUNCTION, 5, FLOW),
        (FUNCTION, 16**28 - 1, FLOW),
        (FUNCTION, 16**28, FLOW),
        (FUNCTION, 6, {**FLOW, "same": 2}),
        (FUNCTION, 7, {"otelflow.task.run_id": "its own"}),
        (FUNCTION, 8, FLOW, {"otelflow.task.name": "given"}),
        (FUNCTION, FLOW),
        ({}, 9, {}),
        (),
    ]
    spans: list[Any] = []
    for parts in all_parts * 2:
        for last in (LAST, {"same": 3}, {}):
            span: Any = start("task", Context(), parts, 10)
            if len(spans) % 5 == 4:
                span.set_attribute("added", True)
            span.conclude(last)
            span.end(20)
            spans.append(span)
    request = encode(spans)
    assert any(span._own is None for span in spans) == (limits.max_span_attributes != 0)
    assert normalized_request(request) == upstream_request(spans)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(texts, st.dictionaries(st.text(max_size=4), texts | st.integers(-5, 5), max_size=3)), max_size=4
    ),
    st.sampled_from([SpanLimits(), SpanLimits(max_events=2, max_event_attributes=1), SpanLimits(max_events=0)]),
)
def test_pending_events_of_lean_spans_are_encoded(pending: list[tuple[str, Any]], limits: SpanLimits) -> None:
    """The result is that of OpenTelemetry's encoder, which makes the span create the SDK's events."""
    provider = TracerProvider(ALWAYS_ON, RESOURCE, shutdown_on_exit=False, span_limits=limits)
    start = lean_tracer.starter_for(provider.get_tracer("otelflow"))
    assert start is not None
    span: Any = start("task", Context(), (FUNCTION, 5, FLOW), 10)
    for number, (name, attributes_) in enumerate(pending, 11):
        add_event(span, name, attributes_, number)
    span.end(20)
    request = encode([span])
    assert normalized_request(request) == upstream_request([span])
    assert normalized_request(encode([span])) == normalized_request(request)


# --- requests under the receiver's limit ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(spans_by_hand, max_size=8), st.integers(1, 3000))
def test_requests_have_all_spans_in_order_and_respect_the_limit(spans: list[ReadableSpan], limit: int) -> None:
    """Only a request of one span may be larger. Each comes with its spans."""
    parts = list(encode_parts(spans, limit))
    assert [span for _, part in parts for span in part] == spans
    assert all(len(request) <= limit or len(part) == 1 for request, part in parts)
    assert [normalized_request(request) for request, _ in parts] == [upstream_request(part) for _, part in parts]


def test_requests_nearly_reach_the_limit() -> None:
    """Each is encoded when it is asked for, not earlier."""
    read = 0

    def one_by_one() -> Iterator[ReadableSpan]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield ended_span(name=f"{number:0100}")

    parts = encode_parts(one_by_one(), 10_000)  # type: ignore[arg-type]
    assert read == 0
    first, first_spans = next(parts)
    assert read == len(first_spans) + 1
    assert 9_700 < len(first) <= 10_000
    assert len(first_spans) + sum(len(spans) for _, spans in parts) == 1000


def test_no_spans_are_an_empty_request() -> None:
    """It has no bytes, and there are no parts."""
    assert encode([]) == b""
    assert list(encode_parts([], 100)) == []


# --- the wire ---------------------------------------------------------------------------------------------------------

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def send_http(endpoint: str, body: bytes, zipped: bool) -> None:
    connection = http.client.HTTPConnection(endpoint.partition("//")[2], timeout=20)
    headers = {"Content-Type": "application/x-protobuf", **({"Content-Encoding": "gzip"} if zipped else {})}
    connection.request("POST", "/v1/traces", compress(body) if zipped else body, headers)
    assert connection.getresponse().status == 200
    connection.close()


def send_grpc(endpoint: str, body: bytes, zipped: bool) -> None:
    with grpc.insecure_channel(endpoint.partition("//")[2]) as channel:
        compression = grpc.Compression.Gzip if zipped else grpc.Compression.NoCompression
        channel.unary_unary(_EXPORT)(body, timeout=20, compression=compression)


@pytest.fixture(scope="module", params=["collector", "rotel"])
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[receivers.Receiver]:
    """Run a real receiver."""
    reason = receivers.missing_reason(request.param)
    if reason:
        pytest.skip(reason)
    with receivers.running(request.param, tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_real_receiver_accepts_the_request(receiver: receivers.Receiver, protocol: str, zipped: bool) -> None:
    """Over both protocols, with and without compression. The spans that arrive are those of OpenTelemetry's encoder."""
    receiver.sink.spans.clear()
    spans = [
        ended_span(
            name=f"{number}",
            context=SpanContext(9, number + 1, False),
            parent=SpanContext(9, 1, True),
            attributes={"number": number, "list": ["a", "b"], "text": "ü" * number, "ok": True, "ratio": 0.5},
            events=[Event("happened", {"a": "b"}, 5)],
            links=[Link(CONTEXT, {"c": 1})],
            status=Status(StatusCode.ERROR, "no"),
            instrumentation_scope=SCOPES[number % 2 + 1],
        )
        for number in range(100)
    ]
    send = send_http if protocol == "http" else send_grpc
    send(receiver.http if protocol == "http" else receiver.grpc, encode(spans), zipped)
    arrived = sorted((span for span, _, _ in receiver.sink.wait_for(100)), key=lambda span: int(span.name))
    assert arrived == spans_in(upstream_request(spans))
