"""Whatever names, values, settings and headers there are: the flow runs, its value is its own, what is sent is bounded.

A few examples each in the tests; ``make soak`` takes many (``FUZZ_EXAMPLES``).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bad_receivers import http_server
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from programs import run

from otelflow import Flow, config, current_flow, flow, propagate, task
from otelflow._otlp.request_encoder import encode
from otelflow.context import get_current
from otelflow.errors import ArgumentError
from otelflow.testing import capture

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

MOST_BYTES = 64_000
"""No value in these tests comes without a limit, so that no span of theirs may be as large as this."""

characters = st.characters(exclude_categories=())
texts = st.one_of(
    st.text(characters, max_size=40),
    st.sampled_from(
        ["", "\0", "\ud800", "a\udfff" * 3000, "x" * 1_000_000, "é" * 500_000, "\r\nX-Evil: 1", "{}", "%n"]
    ),
)


def sent(captured: Any) -> list[Any]:
    """What would go over the wire, decoded: every span can be encoded, and none is large."""
    spans = [run.span for run in captured.spans]
    for span in spans:
        assert len(encode([span])) < MOST_BYTES
    request = ExportTraceServiceRequest.FromString(encode(spans))
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


# --- names ------------------------------------------------------------------------------------------------------------


@fuzzed
@given(texts, texts, texts)
def test_names(flow_name: str, task_name: str, said: str) -> None:
    """A text that is not empty is a name; what is said and made may be called anything. An empty name is refused where
    it is given."""

    @task(name=task_name or "task")
    def step() -> object:
        return given_back

    @flow(name=flow_name or "flow", attributes={said or "key": said})
    def work(this_flow: Any = None) -> object:
        this_flow.log_info(said, **{task_name: flow_name})
        this_flow.add_flow_artifact(said, task_name, flow_name, said)
        this_flow.add_flow_result(flow_name, said)
        current_flow()
        print(task_name)
        return step()

    given_back = object()
    if not flow_name:
        with pytest.raises(ArgumentError, match="name"):
            flow(name=flow_name)(step)
    with capture() as captured:
        assert work().execute().return_value is given_back
    assert len(sent(captured)) == 2


# --- values -----------------------------------------------------------------------------------------------------------


class Strange(Exception):
    """What a hostile value raises."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Strange


def _deep(*_: Any) -> Any:
    if sys.version_info[:3] == (3, 13, 0):  # there a plain str() of such an object never ends, with or without us
        raise RecursionError
    return _deep()


def _forever(*_: Any) -> Iterator[int]:
    return iter(int, 1)


ANSWERS: list[Callable[..., Any]] = [_raise, _deep, _forever, lambda *_: None, lambda *_: -1, lambda *_: "x" * 100_000]
METHODS = [
    *("__repr__", "__str__", "__bool__", "__len__", "__iter__", "__getattr__", "__eq__", "__hash__", "__format__"),
    *("__class__", "__dict__", "__getitem__", "keys", "items", "__float__", "__int__", "__index__", "__reduce_ex__"),
]
BASES: list[type] = [object, dict, list, str, int, float, tuple, set, Exception]


def _hostile(base: type, answers: dict[str, Callable[..., Any]]) -> Any:
    """An object whose methods are not what they should be."""
    made = {name: property(answer) if name in ("__class__", "__dict__") else answer for name, answer in answers.items()}
    instance = type("Hostile", (base,), made)()
    if base is dict:
        dict.update(instance, traceparent="a", b=1)
    elif base is list:
        list.append(instance, 1)
    return instance


def _circle() -> Any:
    circle: list[Any] = [1]
    circle.append(circle)
    return circle


def _chain() -> Any:
    chain: list[Any] = []
    for _ in range(5000):
        chain = [chain]
    return chain


hostile = st.builds(
    _hostile, st.sampled_from(BASES), st.dictionaries(st.sampled_from(METHODS), st.sampled_from(ANSWERS), max_size=5)
)
leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(max_size=20)),
    *(texts, hostile, st.builds(_circle), st.builds(_chain), st.builds(lambda: 10**5000), st.builds(_forever)),
    st.sampled_from([range(10**12), b"\xff" * 1_000_000, [0] * 1_000_000, type, ..., _raise]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers(), st.none()), inner, max_size=4),
    ),
    max_leaves=12,
)


class Box:
    """Holds a value that a report of a failure must not look into."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__}>"


boxes = values.map(Box)


@fuzzed
@given(boxes, boxes)
def test_values(box: Box, another: Box) -> None:
    """An argument, a value that is returned, data, a message or an attribute may be anything."""
    value, other = box.value, another.value

    @task
    def step(given: Any, this_task: Any = None) -> Any:
        this_task.log_info(given, extra=other)
        this_task.add_artifact("made", "key", given)
        this_task.add_result("key", other)
        this_task.progress(given, other)
        return given

    @flow
    def work(this_flow: Any = None) -> Any:
        this_flow.data["value"] = other
        return step(value)

    with capture() as captured:
        made = work().execute()
        assert made.return_value is value
        json.dumps(made.to_dict())
        repr(made)
    assert len(sent(captured)) == 2


@fuzzed
@given(boxes)
def test_errors(box: Box) -> None:
    """An exception may hold anything; it is the one that arrives."""
    error = Strange(box.value)

    @flow
    def work() -> None:
        raise error

    with capture() as captured:
        with pytest.raises(Strange) as caught:
            work().execute()
        assert caught.value is error
        captured.flow("work").error  # noqa: B018  # it was looked at
    assert len(sent(captured)) == 1


# --- headers ----------------------------------------------------------------------------------------------------------

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
headers = st.one_of(
    texts.map(Box),
    boxes,
    st.sampled_from(
        [
            TRACE,
            TRACE + "-extra",
            TRACE.replace("00-", "ff-"),
            TRACE.upper(),
            "00-" + "0" * 32 + "-" + "0" * 16 + "-01",
            f"{TRACE},{TRACE}",
            [TRACE],
            [TRACE, TRACE],
            TRACE.encode(),
            "a=1," * 10_000,
            "a=1",
            f"a={'x' * 100_000}",
            "otelflow.flow.run_id=flow_1,otelflow.flow.name=" + "%41" * 30_000,
            "password=hunter2,=,;;,a=b=c,%zz=%zz",
            ",".join(f"k{number}={'v' * 50}" for number in range(500)),
        ]
    ).map(Box),
)
names = st.sampled_from(["traceparent", "tracestate", "baggage", "Traceparent", "BAGGAGE", "x"])


@fuzzed
@given(st.dictionaries(names, headers, max_size=5))
@example({"traceparent": Box(TRACE), "tracestate": Box("a=1," * 10_000), "baggage": Box("password=hunter2,a=1")})
def test_headers_from_anybody(boxed: dict[str, Box]) -> None:
    """Headers of a hostile client: the flow runs; of the baggage nothing is on its spans; what is sent on is text that
    fits a header, and no larger than the standard's limits."""

    @flow
    def work() -> Mapping[str, str]:
        return propagate.inject()

    with capture() as captured:
        context = get_current()
        with propagate.attached({name: box.value for name, box in boxed.items()}):
            made = work().execute()
        assert get_current() is context
    (span,) = sent(captured)
    assert made.status == "completed"
    assert "hunter2" not in str(span)
    for name, value in made.return_value.items():
        assert len(value) <= 9000, name
        value.encode("ascii")
        assert not set("\r\n\0") & set(value)


@fuzzed
@given(boxes)
def test_what_is_no_carrier(box: Box) -> None:
    """Anything else in a carrier's place runs as well, or is refused with what to use instead."""
    try:
        with propagate.attached(box.value):
            made = Flow(lambda: 1).execute()
    except ArgumentError as error:
        made, said = None, str(error)
        assert type(box.value).__mro__[-2] is not dict  # whether it is refused depends on what it says of itself
        assert said.endswith("a carrier is a mapping of header names to texts. Use a dict.")
        assert len(said) < 200
    assert made is None or made.return_value == 1


# --- settings ---------------------------------------------------------------------------------------------------------

OWN = sorted(
    name
    for name in vars(config)
    if name.startswith("OTELFLOW_") and name not in ("OTELFLOW_CONFIG", "OTELFLOW_ARTIFACT_STORE")
)
OPENTELEMETRYS = [
    *(f"OTEL_BSP_{name}" for name in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")),
    *(f"OTEL_SPAN_{name}_LIMIT" for name in ("ATTRIBUTE_VALUE_LENGTH", "ATTRIBUTE_COUNT", "EVENT_COUNT", "LINK_COUNT")),
    *("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"),
    *("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SDK_DISABLED"),
    *(f"OTEL_EXPORTER_OTLP_{name}" for name in ("TIMEOUT", "COMPRESSION", "PROTOCOL", "HEADERS", "INSECURE")),
    *("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_METRICS_EXEMPLAR_FILTER"),
    *("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_PROPAGATORS", "OTEL_LOG_LEVEL"),
    *("OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"),
    *("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"),
]
VARIABLES = [*OWN, *OPENTELEMETRYS]
NASTY = [
    "",
    "  ",
    "abc",
    "-1",
    "0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 400,
    "0x10",
    "1_000",
    "１２",
    "1e-320",
    "true",
]
NASTY += ["never", "\udcff", "💥", "a" * 10_000, "none", "=", "a,b,,", "NaN", "1.5", "\r\n"]
settings_texts = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)

CHILDREN = """
import json, os, signal, sys, traceback

for case in json.load(open(os.environ.pop("CASES"))):
    child = os.fork()
    if not child:  # before anything is imported: most settings are read once
        signal.alarm(30)
        try:
            os.environ.update(case)
            import otelflow
            @otelflow.task
            def step(this_task=None):
                this_task.log_info("working")
                this_task.add_artifact("made", "key", {"a": 1})
                return 7
            @otelflow.flow
            def work():
                return step()
            assert work().execute().return_value == 7
            otelflow.configure()
            assert work().execute().return_value == 7
            otelflow.flush(0.2)
            otelflow.stats()
            otelflow.shutdown(0.2)
            assert work().execute().return_value == 7
        except BaseException:
            print(json.dumps(case), file=sys.stderr)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, (status, case)
"""


@fuzzed
@given(settings_texts, st.sampled_from([0, 1, 64, 1000]))
def test_numbers(text: str, least: int) -> None:
    """A number setting is a finite number of its range, whatever the variable holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBER", text)
        number = config.number_from_environment("NUMBER", 2000, least)
        seconds = config.seconds_from_environment("NUMBER", 2000)
    assert least <= int(number) < 10**400
    assert seconds is None or 0 < seconds < float("inf")


cases_of_settings = st.dictionaries(st.sampled_from(VARIABLES), settings_texts, min_size=1, max_size=4)


@settings(fuzzed, max_examples=max(1, EXAMPLES // 25), phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(cases_of_settings, min_size=5, max_size=5))
@example([{name: NASTY[(number + 4 * case) % len(NASTY)] for number, name in enumerate(OWN)} for case in range(6)])
@example([dict.fromkeys([name for name in OPENTELEMETRYS if name.endswith("_LIMIT")], "abc")])
def test_settings(tmp_path: Path, cases: list[dict[str, str]]) -> None:
    """Any text in any variable: the import, configure() and each flow go on."""
    file = tmp_path / "cases.json"
    with http_server() as taken:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{taken.port}"}
        file.write_text(json.dumps([{**endpoint, **case} for case in cases]))
        done = run(CHILDREN, head="", CASES=str(file), timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]  # the case stands before its traceback
