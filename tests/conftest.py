"""Fixtures that restore what they change, by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import receiver as receivers
from hypothesis import settings
from receiver import Sink

from otelflow import FlowRunEvent, flow_events
from otelflow._export import loss_log
from otelflow._runtime import log_once
from otelflow.context import get_current
from otelflow.testing import Capture, capture

# An example may take any time: the machine may be busy. All else is as hypothesis has it, in CI as for CI.
settings.register_profile("any machine", settings(), deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def captured(nothing_left_behind: None) -> Iterator[Capture]:
    """Every test is captured. In every one listeners hear what the spans say, and each run has ended and says how."""
    with capture() as made:
        yield made
    made.assert_events_agree()
    for run in (*made.flows, *made.tasks):
        assert run.attributes.get("otelflow.status") == run.status, f"{run!r} has not ended, or does not say how"


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A receiver of OTLP over HTTP on a free port."""
    made = Sink()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["collector", "rotel"])
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real receiver, running."""
    reason = receivers.missing_reason(request.param)
    if reason:
        pytest.skip(reason)
    with receivers.running(request.param, tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No test leaves a listener, a context or a replaced standard output behind."""
    import sys

    listeners, context, stdout = list(flow_events.event_listeners), get_current(), sys.stdout
    flow_events.clear_history()
    log_once._logged_keys.clear()  # what is logged once is logged once a test
    loss_log.reset()
    yield
    assert flow_events.event_listeners == listeners
    assert get_current() is context
    assert sys.stdout is stdout


def texts(events: list[FlowRunEvent]) -> list[str]:
    """Events in a line each: the type, and the text of a message."""
    return [
        event.event_data.data["message_data"]["message_text"]
        if event.event_type.value == "flow_message"
        else event.event_type.name
        for event in events
    ]
