"""Nothing is captured that nobody sees, and what is captured is bounded, in size and in time, whatever it is."""

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


class Counting:
    """Counts how often somebody looks at it."""

    looked = 0

    def __repr__(self) -> str:
        type(self).looked += 1
        return "looked at"

    @property
    def name(self) -> str:
        type(self).looked += 1
        return "name"


@contextmanager
def sampled_out() -> Iterator[InMemorySpanExporter]:
    """A provider that records nothing."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with use_provider(provider):
        yield exporter


@flow(flow_config=quiet)
def makes(thing: Any, this_flow: Any = None) -> None:
    """All that a run can say."""
    this_flow.log_info("told", about=thing)
    this_flow.add_artifact("a thing", key="thing", data=thing)
    this_flow.add_artifact("things", key="things", data=[thing] * 3)
    this_flow.add_result("done", "x" * 5000)
    this_flow.log_info("y" * 5000)
    raise ValueError("z" * 5000)


def test_nothing_is_captured_for_a_span_that_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No JSON, no digest, no repr, no cut: but memory and listeners get everything, and the history a line each."""

    def never(*_: Any) -> Any:
        raise AssertionError("looked at")

    monkeypatch.setattr("otelflow._events.outputs.to_json", never)
    monkeypatch.setattr("otelflow._events.message.to_attribute", never)
    monkeypatch.setattr("otelflow._events.exception.format_error", never)
    before = dict(stats().dropped)
    heard = []
    with sampled_out(), flow_events.listen(heard.append):
        run: Any = makes(Counting()).execute()
    assert Counting.looked == 0
    assert dict(stats().dropped) == before
    assert run.messages == ["told", "y" * 5000, f"Error executing flow: {'z' * 5000}"]
    assert [type(artifact.data) for artifact in run.artifacts] == [Counting, list]
    payloads = [one for event in heard for one in event.event_data.data.values()]
    assert payloads[0]["message"] == "told"
    assert type(payloads[1]["data"]) is Counting
    history = [one for event in flow_events.history() for one in event.event_data.data.values()]
    assert [one["data"] for one in history if "data" in one] == [
        "<Counting: not recorded>",
        "<list of 3: not recorded>",
    ]
    assert max(len(one["message"]) for one in history if "message" in one) <= MAX_VALUE_BYTES


def test_without_an_sdk() -> None:
    """The same, and what stores artifacts is not even loaded."""
    done = program("""
        class Never:
            def __repr__(self):
                raise SystemExit("looked at")

        @flow
        def makes(this_flow=None):
            this_flow.add_artifact(key="thing", data=[Never()])
            this_flow.log_info("told", about=Never())

        say(messages=makes().execute().messages, loaded="otelflow._artifacts.store" in sys.modules)
        """)
    assert done.said == {"messages": ["told"], "loaded": False}, done.stderr


def test_argument_paths_of_a_call_that_is_not_recorded(tmp_path: Any) -> None:
    """Nothing of the arguments is read below a span that was sampled out."""
    (tmp_path / "work.py").write_text(
        "class Order:\n    @property\n    def id(self):\n        raise SystemExit('looked at')\n"
        "def pay(order):\n    return 1\n"
    )
    (tmp_path / "otelflow.toml").write_text('[[task]]\ntarget = "work:pay"\nattributes = {"order.id" = "order.id"}\n')
    done = program(
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
    assert done.said == {"value": 1}, done.stderr


# --- time -----------------------------------------------------------------------------------------------------------


class Slow:
    """Takes a while to be shown."""

    shown = 0

    def __repr__(self) -> str:
        type(self).shown += 1
        time.sleep(0.02)
        return "slow"


class Huge:
    """Shows far too much of itself."""

    def __repr__(self) -> str:
        return "x" * 10_000_000


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: dict(enumerate(items)), lambda items: [[items]]])
def test_the_time_for_a_preview_is_bounded(wrap: Any) -> None:
    """Of many values that are slow to show, some are shown; the rest is marked as left out."""
    Slow.shown = 0
    made = to_json(wrap([Slow() for _ in range(100)]))
    assert made.was_cut
    assert 0 < Slow.shown < 50
    assert "more" in made.text


def test_one_slow_repr_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be interrupted; nothing more of that value is shown afterwards."""
    monkeypatch.setattr(_attribute, "_SECONDS", 0.005)
    Slow.shown = 0
    assert to_json([Slow(), Slow(), [Slow()], {"a": Slow()}]).was_cut
    assert Slow.shown == 1


class Endless(dict[str, int]):
    """A mapping that never ends."""

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
    """Whatever it is: on the span are 2 kB of it at most, and no digest is worked out of what is huge."""

    @task
    def has(this_task: Any = None) -> None:
        this_task.add_artifact(key="value", data=value)
        this_task.log_info("said", value=value)

    has()
    made = captured.task("has")
    for event in made.events:
        for kept in (event.attributes or {}).values():
            assert len(str(kept).encode()) <= MAX_VALUE_BYTES
    if isinstance(value, str):
        assert "otelflow.artifact.sha256" not in (made.events[0].attributes or {})


# --- attributes of a span -------------------------------------------------------------------------------------------


def test_the_attributes_of_a_span_are_bounded(captured: Capture) -> None:
    """A hundred large ones in a decorator: the names of ours stay, the others are shortened."""

    @task(attributes={f"key {number}": "x" * 2000 for number in range(100)})
    def laden() -> None:
        """Carries much."""

    laden()
    attributes = captured.task("laden").attributes
    assert estimated_size(attributes) <= MAX_EVENT_BYTES + 1024
    assert (attributes["otelflow.task.name"], attributes["otelflow.kind"]) == ("laden", "task")
    assert 0 < len(attributes["key 0"]) <= 256


def test_the_attributes_from_arguments_are_bounded() -> None:
    """As many as a configuration may name, however large: together a quarter of what a span may have."""

    def takes(**given: str) -> None:
        """Anything."""

    paths = ArgumentPaths(takes, [(f"key {number}", f"given.key{number}") for number in range(50)], "takes")
    made, cut = paths.read((), {f"key{number}": "x" * 3000 for number in range(50)})
    assert estimated_size(made) <= MAX_EVENT_BYTES
    assert cut >= 50


def test_a_value_that_is_cut_says_so() -> None:
    """On a character boundary, with how much is missing."""
    text, was_cut = to_attribute("text", "é" * 2000)
    assert was_cut
    assert len(text.encode()) <= MAX_VALUE_BYTES
    assert text.endswith("characters left out]")
