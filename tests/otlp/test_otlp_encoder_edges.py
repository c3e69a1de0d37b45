"""The encoder with spans that differ from the SDK's, and with values that cannot be encoded."""

from __future__ import annotations

from typing import Any

import pytest
from encoded_spans import CONTEXT, RESOURCE, ended_span, normalized_request, spans_in, upstream_request
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    Status,
    StatusCode,
)

from otelflow._otlp.request_encoder import encode, encode_parts

# --- spans that differ from the SDK's ---------------------------------------------------------------------------------


class Redacting(ReadableSpan):
    """A span whose property hides a value that its fields have."""

    @property
    def attributes(self) -> Any:
        return {"card": "hidden"}


def test_a_span_with_its_own_properties_is_read_by_them() -> None:
    """A subclass that overrides a property is encoded by its properties, not by its fields."""
    span = Redacting("hides", CONTEXT, resource=RESOURCE, attributes={"card": "4111"}, start_time=1, end_time=2)
    request = encode([span])
    assert b"4111" not in request
    assert normalized_request(request) == upstream_request([span])


class Other:
    """A span of another class: only with the attributes that OpenTelemetry's encoder reads."""

    def __init__(self, span: ReadableSpan, **changed: Any) -> None:
        self._span, self._changed = span, changed

    def __getattr__(self, name: str) -> Any:
        return self._changed[name] if name in self._changed else getattr(self._span, name)


def test_a_span_of_another_class_is_encoded() -> None:
    """It needs only the attributes that OpenTelemetry's encoder reads."""
    spans: list[Any] = [Other(ended_span(name="other", events=[Event("e", {"a": 1}, 3)])), ended_span()]
    assert normalized_request(encode(spans)) == upstream_request(spans)


def test_a_span_that_otelflow_cannot_encode_goes_through_opentelemetrys_encoder() -> None:
    """Here its time fails in otelflow's encoder and is a number for protobuf. The other spans are not affected."""

    class Time:
        def __index__(self) -> int:
            return 5

        def __bool__(self) -> bool:
            raise ValueError("no truth value")

    spans: list[Any] = [ended_span(name="a"), Other(ended_span(name="b"), start_time=Time()), ended_span(name="c")]
    request = encode(spans)
    assert [(span.name, span.start_time_unix_nano) for span in spans_in(request)] == [("a", 1), ("b", 5), ("c", 1)]
    assert normalized_request(request) == upstream_request(spans)


@pytest.mark.parametrize(
    "wrong", [{"context": None}, {"start_time": -1}, {"context": SpanContext(2**128, 1, False)}, {"kind": "internal"}]
)
def test_only_the_span_that_cannot_be_encoded_is_lost(wrong: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """OpenTelemetry's encoder raises and loses the batch. Here the others are sent, and one line is logged."""
    spans = [
        ended_span(name="a"),
        ended_span(name="lost", **wrong),
        ended_span(name="b"),
        ended_span(name="lost", **wrong),
    ]
    assert [span.name for span in spans_in(encode(spans))] == ["a", "b"]
    parts = list(encode_parts(spans, 10_000))
    assert [[span.name for span in spans_of_part] for _, spans_of_part in parts] == [["a", "b"]]
    assert [record.name for record in caplog.records if "cannot be encoded" in record.message] == ["otelflow"]


def test_halves_of_surrogate_pairs_are_replaced_everywhere() -> None:
    """They come from file names. Protobuf refuses them in a name, which loses the batch; here U+FFFD replaces them."""
    half = "a\udcff"
    spans = [
        ended_span(
            name=half,
            attributes={half: half, "list": [half], "map": {half: half}},
            events=[Event(half, {half: half}, 1)],
            links=[Link(CONTEXT, {half: half})],
            status=Status(StatusCode.ERROR, half),
            resource=Resource({"service.name": half}, half),
            instrumentation_scope=InstrumentationScope(half, half, half, {half: half}),
        ),
        ended_span(name="another"),
    ]
    with pytest.raises(UnicodeEncodeError):
        upstream_request(spans)
    request = encode(spans)
    assert [span.name for span in spans_in(request)] == ["a\ufffd", "another"]
    assert request.count("\ufffd".encode()) == 19


def test_a_pair_of_surrogates_is_encoded_as_its_character() -> None:
    """Some JSON decoders return both halves."""
    assert [span.name for span in spans_in(encode([ended_span(name="\ud83d\ude00")]))] == ["\U0001f600"]


def test_a_value_that_is_nested_too_deep_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """Decoders would refuse the whole request: their limit is 100 levels of messages."""
    deep: Any = "end"
    for _ in range(60):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    spans = [ended_span(attributes={"deep": deep, "endless": endless, "flat": {"a": [1, {"b": "c"}]}})]
    assert [pair.key for span in spans_in(encode(spans)) for pair in span.attributes] == ["flat"]
    assert "'deep'" in caplog.text


class Hostile(str):
    """A text whose methods raise."""

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no")


def test_a_subclass_of_a_known_type_is_encoded_as_that_type() -> None:
    """Their overridden methods are not called."""
    spans = [ended_span(attributes={"a": Hostile("text"), "b": StatusCode.OK, "c": True})]
    assert normalized_request(encode(spans)) == upstream_request(spans)


def test_full_caches_mix_nothing_up() -> None:
    """Here with thousands of names, traces, keys, values and attribute mappings."""
    spans = [
        ended_span(
            name=f"name {number % 1500}",
            context=SpanContext(number % 1300 + 1, number + 1, False),
            attributes={f"key {number % 1100}": f"value {number % 90}", "same": f"{number % 70}", "number": number},
            resource=Resource({"service.name": f"{number % 3}"}),
        )
        for number in range(4000)
    ]
    assert normalized_request(encode(spans)) == upstream_request(spans)


def test_attributes_that_a_property_creates_are_not_mixed_up() -> None:
    """The cache identifies a dict by id() and holds it: else a new dict could get the id of an old one."""

    class Fresh(ReadableSpan):
        attributes = property(lambda self: {"name": self.name})  # type: ignore[assignment]

    spans = [Fresh(f"{number}", CONTEXT, resource=RESOURCE, start_time=1, end_time=2) for number in range(200)]
    assert normalized_request(encode(spans)) == upstream_request(spans)
