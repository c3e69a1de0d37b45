"""Test bad input: it is a clear error, or it is bounded and counted and the user's call does not fail."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelflow import Flow, Task, flow, flow_events, stats, task
from otelflow._values.attribute import to_attribute, to_json
from otelflow._values.text import MAX_VALUE_BYTES, scrub_and_truncate
from otelflow.errors import ArgumentError, OtelflowError
from otelflow.testing import Capture

LIMIT = 2048


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: flow(retries=3),
            "@flow has no argument 'retries'. It takes: attributes, cls, dependencies, flow_config",
        ),
        (lambda: flow(flow_confg=None), "Did you mean 'flow_config'?"),
        (lambda: task(raise_on_eror=False), "@task has no argument 'raise_on_eror'. Did you mean 'raise_on_error'?"),
        (lambda: task(name=3)(print), "@task(name=3): the name must be a text that is not empty."),
        (lambda: flow(3), "@flow needs a callable; got 3. Use it on a function or another callable."),
        (lambda: flow(cls=dict), "@flow(cls=<class 'dict'>): use a subclass of Flow."),
        (lambda: flow(flow_config={})(print), "@flow(flow_config={}): use a FlowRunConfig."),
        (lambda: Flow(3), "Flow(3): the target must be callable. Use Flow(function, *args, **kwargs)."),
        (lambda: task(attributes={3: 4})(print), "attribute name 3 is not a text. Use a str."),
        (lambda: flow(dependencies=[1])(print), "@flow(dependencies=[1]): use a dict of values by parameter name."),
        (lambda: flow(dependencies={"this_flow": 1})(print), "'this_flow' is filled in by otelflow. Use another name."),
        (lambda: flow_events.listen(5), "listen(5): a listener must be callable. Use a function."),
        (lambda: setattr(Flow(print), "name", 3), "Flow.name = 3: the name must be a text that is not empty."),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    """The error says what is wrong, which value, and what to do; it is a TypeError, as Python's own would be."""
    with pytest.raises(ArgumentError, match=re.escape(message)) as caught:
        make()
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, OtelflowError)


@pytest.mark.parametrize("run", [Flow(print), Task(print)], ids=["Flow", "Task"])
def test_pythons_own_errors_name_the_class_that_users_know(run: Any) -> None:
    """Flow or Task, not a base class of both."""
    name = type(run).__name__
    with pytest.raises(TypeError, match=rf"^{name}\.log_info\(\) missing 1 required positional argument: 'message'$"):
        run.log_info()
    with pytest.raises(TypeError, match=rf"^{name}\.execute\(\) takes 1 positional argument but 2 were given$"):
        run.execute(1)


class Unprintable:
    """An object whose repr() and str() raise."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


@dataclass
class Row:
    """A dataclass of the user."""

    name: str
    count: int


def cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


ARTIFACTS: list[tuple[Any, Any]] = [
    (cycle(), [1, "<cycle: list>"]),
    (b"\x00\xff" * 50, "<100 bytes: " + "00ff" * 16 + "…>"),
    (math.nan, "nan"),
    ([math.inf, 1.5], ["inf", 1.5]),
    (Unprintable(), "<Unprintable: repr() raised RuntimeError>"),
    ({(1, 2): {3}}, {"(1, 2)": [3]}),
    (Row("a", 1), {"name": "a", "count": 1}),
    ("lone \udc80 surrogate", "lone \\udc80 surrogate"),
    ({"\ud800": 1}, {"\\ud800": 1}),
    (10**5000, "<int of 16610 bits>"),
    (None, None),
]


@pytest.mark.parametrize(("data", "shown"), ARTIFACTS, ids=lambda value: type(value).__name__)
def test_artifacts_that_are_not_json(data: Any, shown: Any, captured: Capture) -> None:
    """Values that JSON does not have are described in words; the flow keeps the object itself."""

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact("d", "k", data)

    run = makes().execute()
    assert run.artifacts["k"].data is data
    attributes = dict(captured.flow("makes").events[0].attributes or {})
    assert json.loads(str(attributes["otelflow.artifact.data"])) == shown


@pytest.mark.parametrize(
    "data",
    [
        "x" * 10_000_000,
        "é" * 5_000_000,
        {"rows": list(range(5_000_000))},
        b"x" * 10_000_000,
        [["x" * 1000] * 10] * 1000,
    ],
    ids=["text", "text not ascii", "list", "bytes", "nested"],
)
def test_a_10_mb_artifact(data: Any, captured: Capture) -> None:
    """The span has a preview: at most 2 kB, JSON, marked and counted. The size of texts and bytes is known."""
    before = stats().dropped.get("values_cut", 0)

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact("d", "k", data)

    makes().execute()
    root = captured.flow("makes")
    attributes = dict(root.events[0].attributes or {})
    text = str(attributes["otelflow.artifact.data"])
    assert len(text.encode()) <= LIMIT
    json.loads(text)
    assert any(mark in text for mark in ("left out", "more", "10000000 bytes"))
    assert root.attributes["otelflow.dropped.values"] == 1
    assert stats().dropped["values_cut"] == before + 1
    if isinstance(data, str | bytes):
        assert attributes["otelflow.artifact.size"] == 10_000_000


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (42, "42"),
        (None, "None"),
        (Unprintable(), "<Unprintable: str() raised RuntimeError>"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("\x1b[31mred\x1b[0m", "red"),
        (b"bytes", "b'bytes'"),
    ],
)
def test_messages_that_are_not_plain_text(message: Any, text: str, captured: Capture) -> None:
    """They become text; the run goes on."""

    @flow
    def says(this_flow: Any = None) -> None:
        this_flow.log_info(message)

    says().execute()
    (event,) = captured.flow("says").events
    assert (event.attributes or {})["otelflow.message.text"] == text


def test_every_value_on_a_span_is_truncated(captured: Capture) -> None:
    """Names, attributes, messages, keys and errors have at most 2 kB each, are marked, and counted on the span."""
    long = "ü" * 5000

    @task(name=long, attributes={"given": long, "list": [long, "short"]})
    def speaks(this_task: Any = None) -> None:
        this_task.log_info(long, extra=long)
        this_task.add_artifact(long, long, long, long)
        this_task.add_result(long, long)
        raise ValueError(long)

    with pytest.raises(ValueError, match="ü"):
        speaks()
    span = captured.span("*").span
    values = [span.name, span.status.description, *(span.attributes or {}).values()]
    values += [value for event in span.events for value in (event.attributes or {}).values()]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else [value])]
    texts = [value for value in flat if isinstance(value, str)]
    assert max(len(text.encode()) for text in texts) <= LIMIT
    assert sum("left out]" in text for text in texts) >= 12
    assert int(str((span.attributes or {})["otelflow.dropped.values"])) >= 9


@given(st.text(max_size=6000) | st.text(alphabet="aé€😀\ud800", max_size=6000), st.integers(64, 4096))
def test_text_is_truncated_at_a_character_boundary(text: str, limit: int) -> None:
    """The result always fits, always encodes, and is the text itself if that fits."""
    result, was_truncated = scrub_and_truncate(text, limit)
    assert len(result.encode()) <= limit
    if not was_truncated:
        assert result == text.encode("utf-8", "backslashreplace").decode()
    else:
        assert result.endswith("characters left out]")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet="aé\x00\ud800") | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=60,
)


@given(JSON)
def test_json_is_always_json_and_always_fits(value: Any) -> None:
    """For any value, the text is JSON of at most the largest size."""
    preview = to_json(value)
    assert len(preview.text.encode()) <= MAX_VALUE_BYTES
    json.loads(preview.text)
    assert (preview.sha256 is None) == (preview.size is None)


@given(JSON)
def test_attributes_have_types_that_opentelemetry_accepts(value: Any) -> None:
    """bool, int, float, str, and lists of one of them; integers have 64 bits."""
    attribute, _ = to_attribute("value", value)
    parts = attribute if isinstance(attribute, tuple) else (attribute,)
    assert len({type(part) for part in parts}) == 1
    assert all(isinstance(part, bool | int | float | str) for part in parts)
    assert all(-(2**63) <= part < 2**63 for part in parts if type(part) is int)


def test_a_mapping_that_raises_when_it_is_read(captured: Capture) -> None:
    """The user's own container may raise; the run goes on."""

    class Lazy(dict[str, int]):
        def items(self) -> Any:
            raise ConnectionError("gone")

    @flow
    def makes(this_flow: Any = None) -> None:
        this_flow.add_flow_artifact("d", "k", Lazy(a=1))
        this_flow.log_info("x", value=Lazy(a=1))

    makes().execute()
    artifact, message = captured.flow("makes").events
    assert (artifact.attributes or {})["otelflow.artifact.data"] == '"<Lazy: reading it raised ConnectionError>"'
    assert "ConnectionError" in str((message.attributes or {})["value"])


def test_arguments_are_never_read(captured: Capture) -> None:
    """An argument whose __repr__ raises and a list of five million items reach the function, and are not read."""

    @task
    def takes(first: Any, second: Any) -> int:
        return len(second)

    assert takes(Unprintable(), list(range(5_000_000))) == 5_000_000
    assert all("5_000_000" not in str(value) for value in captured.task("takes").attributes.values())


def test_a_secret_in_the_arguments_is_on_no_span(captured: Capture) -> None:
    """The arguments of a function are not captured."""

    @task
    def login(user: str, password: str) -> str:
        return "token-4711"

    @flow
    def signs_in(password: str) -> str:
        return login("ada", password)

    signs_in("hunter2").execute()
    wire = "".join(run.span.to_json() for run in captured.spans)
    assert "hunter2" not in wire
    assert "token-4711" not in wire
