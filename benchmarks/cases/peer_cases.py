"""Measure a peer's decorated function against the span by hand: ``peer_cases.py NAME``. Prints JSON.

It runs in the peer's own environment. Each peer is set up as its documentation says, to record, with a batch processor
and an exporter that does nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

import by_hand
from harness import Case, Sample, measure, row


def add(x: int) -> int:
    return x + 1


def calls(function: Callable[[int], Any], number: int) -> None:
    for x in range(number):
        function(x)


def osbot_utils() -> Sample:
    from osbot_utils.helpers.flows.decorators.flow import flow
    from osbot_utils.helpers.flows.decorators.task import task

    step = task()(add)

    def root(number: int) -> None:
        calls(step, number)

    return lambda number: flow()(root)(number).execute() and None


def logfire() -> Sample:
    import logfire

    logfire.configure(
        send_to_logfire=False,
        console=False,
        additional_span_processors=[by_hand.batch_processor(by_hand.null_exporter())],
    )
    step = logfire.instrument("add")(add)

    def root(number: int) -> None:
        with logfire.span("root"):
            calls(step, number)

    return root


def traceloop_sdk() -> Sample:
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import task, workflow

    Traceloop.init(
        processor=by_hand.batch_processor(by_hand.null_exporter()), telemetry_enabled=False, instruments=set()
    )
    step = task(name="add")(add)
    return workflow(name="root")(lambda number: calls(step, number))  # type: ignore[no-any-return]


def langfuse() -> Sample:
    from langfuse import Langfuse, observe
    from opentelemetry.sdk.trace import TracerProvider

    keys = {"public_key": "pk-1", "secret_key": "sk-1", "base_url": "http://127.0.0.1:9"}
    client = Langfuse(**keys, tracer_provider=TracerProvider(), span_exporter=by_hand.null_exporter())  # type: ignore[arg-type]
    assert client.api
    step = observe(name="add")(add)
    return observe(name="root")(lambda number: calls(step, number))  # type: ignore[no-any-return]


def mlflow_skinny() -> Sample:
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "http://127.0.0.1:9"
    import mlflow
    from mlflow.tracing.provider import provider

    step = mlflow.trace(name="add")(add)
    root = mlflow.trace(name="root")(lambda number: calls(step, number))
    root(1)
    for processor in provider.get()._active_span_processor._span_processors:
        processor._batch_processor._exporter = by_hand.null_exporter()  # its own exporter would try to send
    return root  # type: ignore[no-any-return]


PEERS = {
    "osbot-utils": osbot_utils,
    "logfire": logfire,
    "traceloop-sdk": traceloop_sdk,
    "langfuse": langfuse,
    "mlflow-skinny": mlflow_skinny,
}


def main() -> None:
    name, quick = sys.argv[1], "--quick" in sys.argv
    sample = PEERS[name]()
    rounds, number = (5, 50) if quick else (31, 200)
    by_hand.tracer = by_hand.provider_for("recording", by_hand.batch_processor(by_hand.null_exporter())).get_tracer(
        "benchmark"
    )

    def root(number: int) -> None:
        with by_hand.tracer.start_as_current_span("root"):
            calls(by_hand.add, number)

    peer = Case(name, sample, 5 if name == "osbot-utils" else number)
    hand = Case("by hand", root, number)
    measure([peer, hand], rounds)
    from importlib.metadata import version

    print(json.dumps({**row(f"{name} {version(name)}", peer, hand)}))


if __name__ == "__main__":
    main()
