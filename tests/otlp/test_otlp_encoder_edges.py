"""What the encoder does with spans unlike the SDK's, and with values that cannot be encoded."""

from __future__ import annotations

from typing import Any

import pytest
from encoded_spans import CONTEXT, RESOURCE, decoded, made, spans_in, upstream
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
