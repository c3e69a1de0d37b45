"""Flows and tasks as OpenTelemetry spans."""

from otelflow._flow import Flow, Task, current_flow, current_task
from otelflow._version import __version__
from otelflow.config import FlowRunConfig
from otelflow.decorators import flow, task
from otelflow.events import FlowRunEvent, FlowRunEventData, FlowRunEventType
from otelflow.listeners import flow_events
