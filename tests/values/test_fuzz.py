"""Test any names, values, settings and headers: the flow runs, its return value is unchanged, its spans are bounded.

The tests use few examples each; ``make soak`` uses many (``FUZZ_EXAMPLES``).
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
"""No value in these tests is without a limit, so each span is smaller than this."""

characters = st.characters(exclude_categories=())
texts = st.one_of(
    st.text(characters, max_size=40),
    st.sampled_from(
        ["", "\0", "\ud800", "a\udfff" * 3000, "x" * 1_000_000, "é" * 500_000, "\r\nX-Evil: 1", "{}", "%n"]
    ),
)


def exported_spans(captured: Any) -> list[Any]:
    """Return the spans as they go over the wire. Each can be encoded, and none is large."""
    spans = [run.span for run in captured.spans]
    for span in spans:
        assert len(encode([span])) < MOST_BYTES
    request = ExportTraceServiceRequest.FromString(encode(spans))
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


# --- names ------------------------------------------------------------------------------------------------------------


@fuzzed
@given(texts, texts, texts)
def test_any_text_can_be_a_name(flow_name: str, task_name: str, text: str) -> None:
    """A name is any text that is not empty; messages, keys and values may be empty, too. An empty name is refused."""

    @task(name=task_name or "task")
    def step() -> object:
        return return_value

    @flow(name=flow_name or "flow", attributes={text or "key": text})
    def work(this_flow: Any = None) -> object:
        this_flow.log_info(text, **{task_name: flow_name})
        this_flow.add_flow_artifact(text, task_name, flow_name, text)
        this_flow.add_flow_result(flow_name, text)
        current_flow()
        print(task_name)
        return step()

    return_value = object()
    if not flow_name:
        with pytest.raises(ArgumentError, match="name"):
            flow(name=flow_name)(step)
    with capture() as captured:
        assert work().execute().return_value is return_value
    assert len(exported_spans(captured)) == 2


# --- values -----------------------------------------------------------------------------------------------------------


class Strange(Exception):
    """Raised by hostile values."""


def raise_strange(*_: Any, **__: Any) -> Any:
    raise Strange


def recurse(*_: Any) -> Any:
    if sys.version_info[:3] == (3, 13, 0):  # there a plain str() of such an object never ends, also without otelflow
        raise RecursionError
    return recurse()


def endless(*_: Any) -> Iterator[int]:
    return iter(int, 1)


METHOD_BODIES: list[Callable[..., Any]] = [
    raise_strange,
    recurse,
    endless,
    lambda *_: None,
    lambda *_: -1,
    lambda *_: "x" * 100_000,
]
METHODS = [
    *("__repr__", "__str__", "__bool__", "__len__", "__iter__", "__getattr__", "__eq__", "__hash__", "__format__"),
    *("__class__", "__dict__", "__getitem__", "keys", "items", "__float__", "__int__", "__index__", "__reduce_ex__"),
]
BASES: list[type] = [object, dict, list, str, int, float, tuple, set, Exception]


def hostile_object(base: type, bodies: dict[str, Callable[..., Any]]) -> Any:
    """Return an object whose methods misbehave."""
    methods = {name: property(body) if name in ("__class__", "__dict__") else body for name, body in bodies.items()}
    instance = type("Hostile", (base,), methods)()
    if base is dict:
        dict.update(instance, traceparent="a", b=1)
    elif base is list:
        list.append(instance, 1)
    return instance


def circle_list() -> Any:
    circle: list[Any] = [1]
    circle.append(circle)
    return circle


def nested_list() -> Any:
    chain: list[Any] = []
    for _ in range(5000):
        chain = [chain]
    return chain


hostile = st.builds(
    hostile_object,
    st.sampled_from(BASES),
    st.dictionaries(st.sampled_from(METHODS), st.sampled_from(METHOD_BODIES), max_size=5),
)
leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(max_size=20)),
    *(texts, hostile, st.builds(circle_list), st.builds(nested_list), st.builds(lambda: 10**5000), st.builds(endless)),
    st.sampled_from([range(10**12), b"\xff" * 1_000_000, [0] * 1_000_000, type, ..., raise_strange]),
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
    """Holds a value, so that the report of a failure does not read it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__}>"


boxes = values.map(Box)


@fuzzed
@given(boxes, boxes)
def test_any_value_can_be_passed(box: Box, another: Box) -> None:
    """An argument, a return value, data, a message or an attribute may be any object."""
    value, other = box.value, another.value

    @task
    def step(argument: Any, this_task: Any = None) -> Any:
        this_task.log_info(argument, extra=other)
        this_task.add_artifact("made", "key", argument)
        this_task.add_result("key", other)
        this_task.progress(argument, other)
        return argument

    @flow
    def work(this_flow: Any = None) -> Any:
        this_flow.data["value"] = other
        return step(value)

    with capture() as captured:
        flow_run = work().execute()
        assert flow_run.return_value is value
        json.dumps(flow_run.to_dict())
        repr(flow_run)
    assert len(exported_spans(captured)) == 2


@fuzzed
@given(boxes)
def test_an_exception_can_hold_any_value(box: Box) -> None:
    """The caller gets the same exception object."""
    error = Strange(box.value)

    @flow
    def work() -> None:
        raise error

    with capture() as captured:
        with pytest.raises(Strange) as caught:
            work().execute()
        assert caught.value is error
        captured.flow("work").error  # noqa: B018  # it can be read
    assert len(exported_spans(captured)) == 1


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
def test_headers_of_a_hostile_client_do_no_harm(carrier: dict[str, Box]) -> None:
    """The flow runs, and its spans have nothing of the baggage.

    Injected headers are valid header texts, and within the standard's size limits.
    """

    @flow
    def work() -> Mapping[str, str]:
        return propagate.inject()

    with capture() as captured:
        context = get_current()
        with propagate.attached({name: box.value for name, box in carrier.items()}):
            flow_run = work().execute()
        assert get_current() is context
    (span,) = exported_spans(captured)
    assert flow_run.status == "completed"
    assert "hunter2" not in str(span)
    for name, value in flow_run.return_value.items():
        assert len(value) <= 9000, name
        value.encode("ascii")
        assert not set("\r\n\0") & set(value)


@fuzzed
@given(boxes)
def test_a_wrong_carrier_works_or_is_refused(box: Box) -> None:
    """Anything else in place of a carrier works as well, or the error says what to use instead."""
    try:
        with propagate.attached(box.value):
            flow_run = Flow(lambda: 1).execute()
    except ArgumentError as error:
        flow_run, message = None, str(error)
        assert type(box.value).__mro__[-2] is not dict  # whether it is refused depends on its methods
        assert message.endswith("a carrier is a mapping of header names to texts. Use a dict.")
        assert len(message) < 200
    assert flow_run is None or flow_run.return_value == 1


# --- settings ---------------------------------------------------------------------------------------------------------

OWN_VARIABLES = sorted(
    name
    for name in vars(config)
    if name.startswith("OTELFLOW_") and name not in ("OTELFLOW_CONFIG", "OTELFLOW_ARTIFACT_STORE")
)
OPENTELEMETRY_VARIABLES = [
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
VARIABLES = [*OWN_VARIABLES, *OPENTELEMETRY_VARIABLES]
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
    if not child:  # before any import, as most settings are read only once
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
def test_a_number_setting_is_finite_and_in_range(text: str, least: int) -> None:
    """Whatever the variable holds, the setting is a finite number of its range."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBER", text)
        number = config.number_from_environment("NUMBER", 2000, least)
        seconds = config.seconds_from_environment("NUMBER", 2000)
    assert least <= int(number) < 10**400
    assert seconds is None or 0 < seconds < float("inf")


cases_of_settings = st.dictionaries(st.sampled_from(VARIABLES), settings_texts, min_size=1, max_size=4)


@settings(fuzzed, max_examples=max(1, EXAMPLES // 25), phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(cases_of_settings, min_size=5, max_size=5))
@example(
    [{name: NASTY[(number + 4 * case) % len(NASTY)] for number, name in enumerate(OWN_VARIABLES)} for case in range(6)]
)
@example([dict.fromkeys([name for name in OPENTELEMETRY_VARIABLES if name.endswith("_LIMIT")], "abc")])
def test_any_text_in_a_variable_is_survived(tmp_path: Path, cases: list[dict[str, str]]) -> None:
    """With any text in any variable, the import, configure() and each flow work."""
    file = tmp_path / "cases.json"
    with http_server() as server:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.port}"}
        file.write_text(json.dumps([{**endpoint, **case} for case in cases]))
        result = run(CHILDREN, head="", CASES=str(file), timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]  # the case is printed before its traceback
