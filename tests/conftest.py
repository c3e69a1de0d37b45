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
from otelflow._values import attribute as attribute_values
from otelflow.context import get_current
from otelflow.testing import Capture, capture

# No test depends on the machine's speed: an example may take any time, and so may the preview of a value (50 ms in a
# program, OTELFLOW_CAPTURE_MILLIS). Everything else in the profile is hypothesis' own, in CI its profile for CI.
settings.register_profile("any machine", settings(), deadline=None)
settings.load_profile("any machine")
attribute_values._CAPTURE_SECONDS = 60


@pytest.fixture(autouse=True)
def captured(nothing_left_behind: None) -> Iterator[Capture]:
    """Capture every test. Check that events and spans agree, and that each run ended with its status on the span."""
    with capture() as capturing:
        yield capturing
    capturing.assert_events_agree()
    for run in (*capturing.flows, *capturing.tasks):
        assert run.attributes.get("otelflow.status") == run.status, f"{run!r} has not ended, or its span has no status"


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Start a receiver of OTLP over HTTP on a free port."""
    receiving = Sink()
    yield receiving
    receiving.close()


@pytest.fixture(scope="module", params=["collector", "rotel"])
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start a real receiver."""
    reason = receivers.missing_reason(request.param)
    if reason:
        pytest.skip(reason)
    with receivers.running(request.param, tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a listener, a context or a replaced standard output behind."""
    import sys

    listeners, context, stdout = list(flow_events.event_listeners), get_current(), sys.stdout
    flow_events.clear_history()
    log_once._logged_keys.clear()  # so that each test gets the warnings that a process logs once
    loss_log.reset()
    yield
    assert flow_events.event_listeners == listeners
    assert get_current() is context
    assert sys.stdout is stdout


def texts(events: list[FlowRunEvent]) -> list[str]:
    """Return one line for each event: the text of a message, else the type."""
    return [
        event.event_data.data["message_data"]["message_text"]
        if event.event_type.value == "flow_message"
        else event.event_type.name
        for event in events
    ]
