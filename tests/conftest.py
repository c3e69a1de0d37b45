"""Fixtures that restore what they change, by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from receiver import Sink

from otelflow import FlowRunEvent, flow_events
from otelflow.context import get_current
from otelflow.testing import Capture, capture


class Spans:
    """What a test's capture has, as an exporter gets it: for tests of the very things that the kit is made of."""

    def __init__(self, captured: Capture) -> None:
        self.captured = captured

    @property
    def all(self) -> list[ReadableSpan]:
        """All ended spans, in the order in which they began."""
        return [run.span for run in self.captured.spans if not run.is_open]

    def clear(self) -> None:
        """Forget what ran so far."""
        self.captured.clear()

    def named(self, name: str) -> ReadableSpan:
        """The only span of that name."""
        (span,) = [span for span in self.all if span.name == name]
        return span

    def texts(self, name: str) -> list[object]:
        """The texts of the messages on a span."""
        return [
            event.attributes["otelflow.message.text"]
            for event in self.named(name).events
            if event.name == "otelflow.message" and event.attributes
        ]


@pytest.fixture(autouse=True)
def captured(nothing_left_behind: None) -> Iterator[Capture]:
    """Every test is captured, and in every one listeners hear what the spans say."""
    with capture() as made:
        yield made
    made.assert_events_agree()


@pytest.fixture
def spans(captured: Capture) -> Spans:
    """What the test's capture has, as an exporter gets it."""
    return Spans(captured)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A receiver of OTLP over HTTP on a free port."""
    made = Sink()
    yield made
    made.close()


@pytest.fixture
def heard() -> Iterator[list[FlowRunEvent]]:
    """Every event of this test."""
    events: list[FlowRunEvent] = []
    with flow_events.listen(events.append):
        yield events


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No test leaves a listener, a context or a replaced standard output behind."""
    import sys

    listeners, context, stdout = list(flow_events.event_listeners), get_current(), sys.stdout
    flow_events.clear_history()
    yield
    assert flow_events.event_listeners == listeners
    assert get_current() is context
    assert sys.stdout is stdout


def parent_of(span: ReadableSpan) -> int | None:
    """The id of the span above."""
    return span.parent.span_id if span.parent else None


def id_of(span: ReadableSpan) -> int:
    """The span's own id."""
    assert span.context is not None
    return span.context.span_id


def texts(events: list[FlowRunEvent]) -> list[str]:
    """Events in a line each: the type, and the text of a message."""
    return [
        event.event_data.data["message_data"]["message_text"]
        if event.event_type.value == "flow_message"
        else event.event_type.name
        for event in events
    ]


Run = Callable[[str], "dict[str, object]"]
