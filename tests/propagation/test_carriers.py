"""Carriers: used again, hostile, too long, or read and written with propagators that are not installed."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from programs import run

from otelflow import flow
from otelflow.propagate import attached, inject


@flow
def sends(into: dict[str, str] | None = None) -> dict[str, str]:
    """Return its context as headers."""
    return inject({} if into is None else into)


def test_a_carrier_can_be_used_again() -> None:
    """It holds the context of the newest flow once. Entries of others stay."""
    headers = {"baggage": "tenant=seven", "content-type": "text/plain"}
    sends(headers).execute()
    last = sends(headers).execute()
    assert headers["baggage"].count("otelflow.flow.run_id=") == 1
    assert headers["content-type"] == "text/plain"
    with attached(headers) as handle:
        assert handle is not None
        assert handle.run_id == last.run_id


@pytest.mark.parametrize("propagators", ["none", "b3", "tracecontex"])
def test_propagators_that_are_not_installed(propagators: str) -> None:
    """W3C headers are written and read whatever OTEL_PROPAGATORS is. A wrong name is one log line."""
    result = run(
        """
        from otelflow.propagate import inject, attached
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        headers = {}
        flow(lambda: inject(headers))().execute()
        second = flow(lambda: inject(headers), name="second")().execute()
        with attached(headers) as handle:
            same_trace = headers["traceparent"][3:35] == second.trace_id
            say(same=handle.run_id == second.run_id, name=handle.name, trace=same_trace)
        """,
        OTEL_PROPAGATORS=propagators,
    )
    assert result.facts == {"same": True, "name": "second", "trace": True}, result.stderr
    if propagators != "none":
        assert f"OTEL_PROPAGATORS cannot be used (Propagator {propagators} not found" in result.stderr


@pytest.mark.parametrize(
    "headers",
    [
        {"baggage": "x" * 10_000_000},
        {"baggage": "a=b," * 100_000},
        {"traceparent": "0" * 1_000_000},
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
        {"baggage": "otelflow.flow.name=\x00%00,otelflow.flow.run_id="},
        {f"header-{number}": "x" for number in range(10_000)},
    ],
)
def test_hostile_headers(headers: Any, caplog: pytest.LogCaptureFixture) -> None:
    """They raise nothing, name no flow, and do not fill the log."""
    caplog.set_level(logging.DEBUG)
    with attached(headers) as handle:
        assert handle is None
    assert sum(len(record.getMessage()) for record in caplog.records) < 20_000


def test_much_baggage_and_long_names() -> None:
    """The flow's identity comes first, and its name is truncated to the size that readers accept."""
    token = attach(baggage.set_baggage("first", "1"))
    try:
        for number in range(200):
            attach(baggage.set_baggage(f"entry-{number}", "x"))
        sender = flow(name="é" * 900)(sends.__wrapped__)().execute()
    finally:
        detach(token)
    with attached(sender.return_value) as handle:
        assert handle is not None
        assert handle.run_id == sender.run_id
        assert handle.name == "é" * len(handle.name)
        assert 300 < len(handle.name) < 900
