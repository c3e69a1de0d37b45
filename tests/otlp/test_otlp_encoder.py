"""The encoder of our own: a decoder finds no difference to upstream's, and no span takes others along."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Iterator, Sequence
from gzip import compress
from itertools import count
from types import MappingProxyType
from typing import Any

import grpc
import pytest
import receiver as receivers
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request
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


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """The SDK logs every attribute that it drops or cannot encode, with a traceback."""
    logger = logging.getLogger("opentelemetry")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def decoded(request: bytes) -> bytes:
    """A request in one form, which two have in common if nothing that was decoded differs, NaN included."""
    return Request.FromString(request).SerializeToString(deterministic=True)


def upstream(spans: Sequence[Any]) -> bytes:
    return encode_spans(spans).SerializeToString(deterministic=True)


def spans_in(request: bytes) -> list[Any]:
    return [
        span
        for resource in Request.FromString(request).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


CONTEXT = SpanContext(7, 8, False, TraceFlags(1))
RESOURCE = Resource({"service.name": "encoder"})


def made(**given: Any) -> ReadableSpan:
    """An ended span, as somebody's own code may make it."""
    return ReadableSpan(
        **{"name": "made", "context": CONTEXT, "resource": RESOURCE, "start_time": 1, "end_time": 2, **given}
    )


def takes_none() -> bool:
    """Whether upstream's encoder has a place for None; before 1.43 the attribute was left out."""
    return bool(encode_spans([made(attributes={"a": None})]).resource_spans[0].scope_spans[0].spans[0].attributes)


# --- spans of every kind ----------------------------------------------------------------------------------------------

keys = st.sampled_from(["a", "otelflow.kind", "ü", "k" * 130, ""]) | st.text(max_size=4)
texts = st.sampled_from(["task", "", "x" * 125, "x" * 126, "ü" * 63, "y" * 20_000]) | st.text(max_size=200)
numbers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1, 127, 128, 16_383, 16_384])
scalars = st.one_of(texts, st.booleans(), numbers, st.floats(), st.binary(max_size=200))
if takes_none():
    scalars |= st.none()
odd = st.sampled_from([2**63, object(), {1}, [2**70]])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
attributes = st.dictionaries(keys, values | odd, max_size=5)
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
by_hand = st.builds(
    made,
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
@given(st.lists(by_hand, max_size=8))
def test_a_decoder_finds_no_difference_to_upstreams(spans: list[ReadableSpan]) -> None:
    """Whatever the spans are, their resources and scopes: the same fields in the same groups in the same order."""
    assert decoded(encode(spans)) == upstream(spans)


class Counting(IdGenerator):
    """The ids are of no interest, and hypothesis wants no chance but its own."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def generate_span_id(self) -> int:
        return next(self._numbers)

    generate_trace_id = generate_span_id


to_the_sdk = attributes if takes_none() else plain_attributes
"""What is no attribute becomes None in the hands of the SDK, and that was left out by older encoders."""

LIMITS = SpanLimits(max_attributes=3, max_events=2, max_links=1, max_event_attributes=1, max_link_attributes=1)
UNLIMITED = SpanLimits(max_attributes=None)


@st.composite
def from_an_sdk(draw: st.DrawFn) -> list[ReadableSpan]:
    """Spans that a provider made, with limits that drop some of what they were given."""
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
                draw(to_the_sdk),
                draw(st.lists(links, max_size=3)),
            )
            for _ in range(draw(st.integers(0, 4))):
                span.add_event(draw(texts), draw(st.none() | plain_attributes))
            span.set_status(draw(statuses))
            context = set_span_in_context(span)
            span.end()
    return list(memory.get_finished_spans())


@settings(deadline=None)
@given(from_an_sdk())
def test_spans_of_the_sdk_are_encoded_as_upstream_does(spans: list[ReadableSpan]) -> None:
    """Parents of this process and of another, trace states, and what the limits dropped."""
    assert decoded(encode(spans)) == upstream(spans)


FUNCTION = {"otelflow.kind": "task", "100%": "%d %s", "same": 1}
FLOW = {"otelflow.flow.name": "nightly %"}
LAST = {"otelflow.status": "completed"}


@pytest.mark.parametrize("limits", [SpanLimits(), SpanLimits(max_span_attributes=3), SpanLimits(max_span_attributes=0)])
def test_lean_spans_are_encoded_by_their_parts(limits: SpanLimits) -> None:
    """And as upstream does, which makes them merge the parts: one overriding another, more than the limit, a change."""
    provider = TracerProvider(ALWAYS_ON, RESOURCE, shutdown_on_exit=False, id_generator=Counting(), span_limits=limits)
    start = lean_tracer.starter_for(provider.get_tracer("otelflow"))
    assert start is not None
    everything: list[tuple[Any, ...]] = [
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
    for parts in everything * 2:
        for last in (LAST, {"same": 3}, {}):
            span: Any = start("task", Context(), parts, 10)
            if len(spans) % 5 == 4:
                span.set_attribute("added", True)
            span.conclude(last)
            span.end(20)
            spans.append(span)
    request = encode(spans)
    assert any(span._own is None for span in spans) == (limits.max_span_attributes != 0)
    assert decoded(request) == upstream(spans)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(texts, st.dictionaries(st.text(max_size=4), texts | st.integers(-5, 5), max_size=3)), max_size=4
    ),
    st.sampled_from([SpanLimits(), SpanLimits(max_events=2, max_event_attributes=1), SpanLimits(max_events=0)]),
)
def test_events_of_lean_spans_are_encoded_as_they_came(said: list[tuple[str, Any]], limits: SpanLimits) -> None:
    """And as upstream does, which makes the span make the SDK's events of them."""
    provider = TracerProvider(ALWAYS_ON, RESOURCE, shutdown_on_exit=False, span_limits=limits)
    start = lean_tracer.starter_for(provider.get_tracer("otelflow"))
    assert start is not None
    span: Any = start("task", Context(), (FUNCTION, 5, FLOW), 10)
    for number, (name, attributes_) in enumerate(said, 11):
        add_event(span, name, attributes_, number)
    span.end(20)
    request = encode([span])
    assert decoded(request) == upstream([span])
    assert decoded(encode([span])) == decoded(request)


# --- what is unlike the SDK's -----------------------------------------------------------------------------------------


class Answers(ReadableSpan):
    """A span that says less than it keeps, as one that hides secrets does."""

    @property
    def attributes(self) -> Any:
        return {"card": "hidden"}


def test_a_span_that_answers_differently_is_asked() -> None:
    """A subclass with properties of its own is encoded by what it answers, not by what it has inside."""
    span = Answers("hides", CONTEXT, resource=RESOURCE, attributes={"card": "4111"}, start_time=1, end_time=2)
    request = encode([span])
    assert b"4111" not in request
    assert decoded(request) == upstream([span])


class Other:
    """What upstream's encoder reads of a span, and nothing else."""

    def __init__(self, span: ReadableSpan, **changed: Any) -> None:
        self._span, self._changed = span, changed

    def __getattr__(self, name: str) -> Any:
        return self._changed[name] if name in self._changed else getattr(self._span, name)


def test_a_span_of_another_class_is_encoded() -> None:
    """Only what upstream's encoder asks for is needed."""
    spans: list[Any] = [Other(made(name="other", events=[Event("e", {"a": 1}, 3)])), made()]
    assert decoded(encode(spans)) == upstream(spans)


def test_what_cannot_be_written_by_hand_goes_through_upstreams_encoder() -> None:
    """Here a time that is a text to ours and a number to protobuf; the spans beside it do not care."""

    class Time:
        def __index__(self) -> int:
            return 5

        def __bool__(self) -> bool:
            raise ValueError("not to be asked")

    spans: list[Any] = [made(name="a"), Other(made(name="b"), start_time=Time()), made(name="c")]
    request = encode(spans)
    assert [(span.name, span.start_time_unix_nano) for span in spans_in(request)] == [("a", 1), ("b", 5), ("c", 1)]
    assert decoded(request) == upstream(spans)


@pytest.mark.parametrize(
    "wrong", [{"context": None}, {"start_time": -1}, {"context": SpanContext(2**128, 1, False)}, {"kind": "internal"}]
)
def test_a_span_that_cannot_be_encoded_is_lost_alone(wrong: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Upstream's encoder raises, and the batch is gone; here the others are sent, and the log says so once."""
    spans = [made(name="a"), made(name="lost", **wrong), made(name="b"), made(name="lost", **wrong)]
    assert [span.name for span in spans_in(encode(spans))] == ["a", "b"]
    parts = list(encode_parts(spans, 10_000))
    assert [[span.name for span in inside] for _, inside in parts] == [["a", "b"]]
    assert [record.name for record in caplog.records if "cannot be encoded" in record.message] == ["otelflow"]


def test_halves_of_surrogate_pairs_are_mended_everywhere() -> None:
    """They come from file names. Protobuf refuses them in a name, and loses the batch; here U+FFFD stands for them."""
    half = "a\udcff"
    spans = [
        made(
            name=half,
            attributes={half: half, "list": [half], "map": {half: half}},
            events=[Event(half, {half: half}, 1)],
            links=[Link(CONTEXT, {half: half})],
            status=Status(StatusCode.ERROR, half),
            resource=Resource({"service.name": half}, half),
            instrumentation_scope=InstrumentationScope(half, half, half, {half: half}),
        ),
        made(name="beside it"),
    ]
    with pytest.raises(UnicodeEncodeError):
        upstream(spans)
    request = encode(spans)
    assert [span.name for span in spans_in(request)] == ["a\ufffd", "beside it"]
    assert request.count("\ufffd".encode()) == 19


def test_a_pair_of_surrogates_is_the_character_that_it_stands_for() -> None:
    """Both halves are there, as some decoders of JSON leave them."""
    assert [span.name for span in spans_in(encode([made(name="\ud83d\ude00")]))] == ["\U0001f600"]


def test_a_value_nested_too_deep_does_not_spoil_the_request(caplog: pytest.LogCaptureFixture) -> None:
    """Decoders refuse messages of more than 100 levels, and the whole request with them."""
    deep: Any = "end"
    for _ in range(60):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    spans = [made(attributes={"deep": deep, "endless": endless, "kept": {"a": [1, {"b": "c"}]}})]
    assert [pair.key for span in spans_in(encode(spans)) for pair in span.attributes] == ["kept"]
    assert "'deep'" in caplog.text


class Hostile(str):
    """A text whose methods raise."""

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no")


def test_a_value_with_methods_of_its_own_is_taken_for_what_it_is() -> None:
    """Subclasses of text and numbers are written without asking them."""
    spans = [made(attributes={"a": Hostile("text"), "b": StatusCode.OK, "c": True})]
    assert decoded(encode(spans)) == upstream(spans)


def test_nothing_is_mixed_up_when_more_comes_than_is_remembered() -> None:
    """Thousands of names, traces, keys, values and sets of attributes."""
    spans = [
        made(
            name=f"name {number % 1500}",
            context=SpanContext(number % 1300 + 1, number + 1, False),
            attributes={f"key {number % 1100}": f"value {number % 90}", "same": f"{number % 70}", "number": number},
            resource=Resource({"service.name": f"{number % 3}"}),
        )
        for number in range(4000)
    ]
    assert decoded(encode(spans)) == upstream(spans)


def test_attributes_that_are_made_when_asked_for_are_not_mixed_up() -> None:
    """What is known again by its identity is held for that long: a new dict may come where an old one was."""

    class Fresh(ReadableSpan):
        attributes = property(lambda self: {"name": self.name})  # type: ignore[assignment]

    spans = [Fresh(f"{number}", CONTEXT, resource=RESOURCE, start_time=1, end_time=2) for number in range(200)]
    assert decoded(encode(spans)) == upstream(spans)


# --- requests under the receiver's limit ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(by_hand, max_size=8), st.integers(1, 3000))
def test_parts_hold_all_spans_in_order_and_keep_the_limit(spans: list[ReadableSpan], most: int) -> None:
    """Only a request of one span may be larger; each says which spans it has."""
    parts = list(encode_parts(spans, most))
    assert [span for _, inside in parts for span in inside] == spans
    assert all(len(request) <= most or len(inside) == 1 for request, inside in parts)
    assert [decoded(request) for request, _ in parts] == [upstream(inside) for _, inside in parts]


def test_parts_are_not_smaller_than_need_be() -> None:
    """The limit is nearly reached, and nothing is encoded before it is asked for."""
    asked = 0

    def one_by_one() -> Iterator[ReadableSpan]:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield made(name=f"{number:0100}")

    parts = encode_parts(one_by_one(), 10_000)  # type: ignore[arg-type]
    assert asked == 0
    first, inside = next(parts)
    assert asked == len(inside) + 1
    assert 9_700 < len(first) <= 10_000
    assert len(inside) + sum(len(spans) for _, spans in parts) == 1000


def test_no_spans_are_an_empty_request() -> None:
    """Which is no bytes at all, and no part."""
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
    """A real receiver, running."""
    reason = receivers.missing(request.param)
    if reason:
        pytest.skip(reason)
    with receivers.running(request.param, tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_real_receiver_takes_it(receiver: receivers.Receiver, protocol: str, zipped: bool) -> None:
    """Over both protocols, with and without compression: what comes out is what upstream's encoder says."""
    receiver.sink.spans.clear()
    spans = [
        made(
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
    assert arrived == spans_in(upstream(spans))
