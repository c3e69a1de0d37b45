"""Test that values are captured only for recorded spans, and that each capture is bounded in size and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from programs import run as program

from otelflow import FlowRunConfig, flow, flow_events, stats, task
from otelflow._instrument.argument_attributes import ArgumentPaths
from otelflow._spans.span_limits import MAX_EVENT_BYTES, estimated_size
from otelflow._spans.tracer import use_provider
from otelflow._values import attribute as _attribute
from otelflow._values.attribute import to_attribute, to_json
from otelflow._values.text import MAX_VALUE_BYTES
from otelflow.testing import Capture

quiet = FlowRunConfig(capture_output=False, raise_flow_error=False)


class CountsReads:
    """Counts how often it is read."""

    read_count = 0

    def __repr__(self) -> str:
        type(self).read_count += 1
        return "a repr"

    @property
    def name(self) -> str:
        type(self).read_count += 1
        return "name"


@contextmanager
def unsampled() -> Iterator[InMemorySpanExporter]:
    """Use a provider that records nothing."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        yield exporter


@flow(flow_config=quiet)
def makes(thing: Any, this_flow: Any = None) -> None:
    """Record every kind of event."""
    this_flow.log_info("a message", about=thing)
    this_flow.add_artifact("a thing", key="thing", data=thing)
    this_flow.add_artifact("things", key="things", data=[thing] * 3)
    this_flow.add_result("result", "x" * 5000)
    this_flow.log_info("y" * 5000)
    raise ValueError("z" * 5000)


def test_nothing_is_captured_for_a_span_that_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No JSON, digest, repr or cut is made. Memory and listeners get everything, and the history gets one line each."""

    def never(*_: Any) -> Any:
        raise AssertionError("a value was read")

    monkeypatch.setattr("otelflow._events.outputs.to_json", never)
    monkeypatch.setattr("otelflow._events.message.to_attribute", never)
    monkeypatch.setattr("otelflow._events.exception.format_error", never)
    before = dict(stats().dropped)
    events = []
    with unsampled(), flow_events.listen(events.append):
        run: Any = makes(CountsReads()).execute()
    assert CountsReads.read_count == 0
    assert dict(stats().dropped) == before
    assert run.messages == ["a message", "y" * 5000, f"Error executing flow: {'z' * 5000}"]
    assert [type(artifact.data) for artifact in run.artifacts] == [CountsReads, list]
    payloads = [value for event in events for value in event.event_data.data.values()]
    assert payloads[0]["message"] == "a message"
    assert type(payloads[1]["data"]) is CountsReads
    history = [value for event in flow_events.history() for value in event.event_data.data.values()]
    assert [value["data"] for value in history if "data" in value] == [
        "<CountsReads: not recorded>",
        "<list of 3: not recorded>",
    ]
    assert max(len(value["message"]) for value in history if "message" in value) <= MAX_VALUE_BYTES


def test_nothing_is_captured_without_an_sdk() -> None:
    """Nothing is captured, and the artifact store is not even imported."""
    result = program("""
        class Never:
            def __repr__(self):
                raise SystemExit("a value was read")

        @flow
        def makes(this_flow=None):
            this_flow.add_artifact(key="thing", data=[Never()])
            this_flow.log_info("a message", about=Never())

        say(messages=makes().execute().messages, loaded="otelflow._artifacts.store" in sys.modules)
        """)
    assert result.facts == {"messages": ["a message"], "loaded": False}, result.stderr


def test_arguments_of_an_unsampled_call_are_not_read(tmp_path: Any) -> None:
    """No argument is read below a span that was sampled out."""
    (tmp_path / "work.py").write_text(
        "class Order:\n    @property\n    def id(self):\n        raise SystemExit('an argument was read')\n"
        "def pay(order):\n    return 1\n"
    )
    (tmp_path / "otelflow.toml").write_text('[[task]]\ntarget = "work:pay"\nattributes = {"order.id" = "order.id"}\n')
    result = program(
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
        trace.set_tracer_provider(TracerProvider(sampler=ALWAYS_OFF))
        otelflow.instrument()
        import work
        with trace.get_tracer("t").start_as_current_span("above"):
            say(value=work.pay(work.Order()))
        """,
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert result.facts == {"value": 1}, result.stderr


# --- time -----------------------------------------------------------------------------------------------------------


class Slow:
    """Its repr is slow."""

    repr_count = 0

    def __repr__(self) -> str:
        type(self).repr_count += 1
        time.sleep(0.02)
        return "slow"


class Huge:
    """Its repr is much too large."""

    def __repr__(self) -> str:
        return "x" * 10_000_000


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: dict(enumerate(items)), lambda items: [[items]]])
def test_the_time_for_a_preview_is_bounded(wrap: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many values with a slow repr, some are shown. A mark says that the rest is left out."""
    monkeypatch.setattr(_attribute, "_CAPTURE_SECONDS", 0.05)
    Slow.repr_count = 0
    json_text = to_json(wrap([Slow() for _ in range(100)]))
    assert json_text.was_cut
    assert 0 < Slow.repr_count < 50
    assert "more" in json_text.text


def test_after_one_slow_repr_no_other_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repr cannot be interrupted. After it no other part of the value is read."""
    monkeypatch.setattr(_attribute, "_CAPTURE_SECONDS", 0.005)
    Slow.repr_count = 0
    assert to_json([Slow(), Slow(), [Slow()], {"a": Slow()}]).was_cut
    assert Slow.repr_count == 1


class Endless(dict[str, int]):
    """A mapping with endless items."""

    def items(self) -> Any:
        number = 0
        while True:
            number += 1
            yield f"key {number}", number


@pytest.mark.parametrize(
    "value",
    [
        Huge(),
        [Huge()] * 3,
        {"a": Huge()},
        list(range(5_000_000)),
        Endless({"a": 1}),
        "x" * 50_000_000,
        [[["deep"]] * 99],
    ],
    ids=["huge", "some huge", "huge in a dict", "five million", "endless", "a long text", "deep"],
)
def test_the_size_of_a_preview_is_bounded(value: Any, captured: Capture) -> None:
    """The span gets at most 2 kB of any value, and huge values are not hashed."""

    @task
    def has(this_task: Any = None) -> None:
        this_task.add_artifact(key="value", data=value)
        this_task.log_info("a message", value=value)

    has()
    run = captured.task("has")
    for event in run.events:
        for attribute in (event.attributes or {}).values():
            assert len(str(attribute).encode()) <= MAX_VALUE_BYTES
    if isinstance(value, str):
        assert "otelflow.artifact.sha256" not in (run.events[0].attributes or {})


# --- attributes of a span -------------------------------------------------------------------------------------------


def test_the_attributes_of_a_span_are_bounded(captured: Capture) -> None:
    """Of a hundred large attributes, otelflow's names stay whole, and the others are cut."""

    @task(attributes={f"key {number}": "x" * 2000 for number in range(100)})
    def laden() -> None:
        """Has many attributes."""

    laden()
    attributes = captured.task("laden").attributes
    assert estimated_size(attributes) <= MAX_EVENT_BYTES + 1024
    assert (attributes["otelflow.task.name"], attributes["otelflow.kind"]) == ("laden", "task")
    assert 0 < len(attributes["key 0"]) <= 256


def test_the_attributes_from_arguments_are_bounded() -> None:
    """However many and large they are, they take at most a quarter of a span's room."""

    def takes(**values: str) -> None:
        """Accept any argument."""

    paths = ArgumentPaths(takes, [(f"key {number}", f"values.key{number}") for number in range(50)], "takes")
    attributes, cut_count = paths.read((), {f"key{number}": "x" * 3000 for number in range(50)})
    assert estimated_size(attributes) <= MAX_EVENT_BYTES
    assert cut_count >= 50


def test_a_cut_value_ends_in_a_mark() -> None:
    """The cut is at a character boundary, and the mark says how much is missing."""
    text, was_cut = to_attribute("text", "é" * 2000)
    assert was_cut
    assert len(text.encode()) <= MAX_VALUE_BYTES
    assert text.endswith("characters left out]")
