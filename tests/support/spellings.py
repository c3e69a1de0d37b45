"""The two ways to write a flow: otelflow's own names, and the spellings of OSBot-Utils."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import otelflow
from otelflow import compat

OWN: Any = SimpleNamespace(
    name="otelflow",
    flow=otelflow.flow,
    task=otelflow.task,
    Flow=otelflow.Flow,
    Task=otelflow.Task,
    Config=otelflow.FlowRunConfig,
    EventType=otelflow.FlowRunEventType,
    flow_events=otelflow.flow_events,
    chatter=False,
)

SEED: Any = SimpleNamespace(
    name="compat",
    flow=compat.flow,
    task=compat.task,
    Flow=compat.Flow,
    Task=compat.Task,
    Config=compat.Flow_Run__Config,
    EventType=compat.Flow_Run__Event_Type,
    flow_events=compat.flow_events,
    chatter=True,
)
