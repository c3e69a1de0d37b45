"""Trace flows and tasks as OpenTelemetry spans: decorate a function, see its run in any OTLP backend, and test it.

``@flow`` marks a unit of work, ``@task`` a step in it. Each run is a span; its messages, artifacts and results are
span events.
"""

from typing import TYPE_CHECKING

from otelflow._runs.flow_and_task import Flow, Task, current_flow, current_task
from otelflow._version import __version__
from otelflow.config import FlowRunConfig
from otelflow.decorators import flow, task
from otelflow.events import FlowRunEvent, FlowRunEventData, FlowRunEventType
from otelflow.listeners import flow_events

if TYPE_CHECKING:
    from otelflow._instrument.api import Instrumentation, instrument
    from otelflow.providers import FlushReport, Stats, configure, flush, shutdown, stats

__all__ = [
    "Flow",
    "FlowRunConfig",
    "FlowRunEvent",
    "FlowRunEventData",
    "FlowRunEventType",
    "FlushReport",
    "Instrumentation",
    "Stats",
    "Task",
    "__version__",
    "configure",
    "current_flow",
    "current_task",
    "flow",
    "flow_events",
    "flush",
    "instrument",
    "shutdown",
    "stats",
    "task",
]

_LAZY_NAMES = {
    **dict.fromkeys(("FlushReport", "Stats", "configure", "flush", "shutdown", "stats"), "otelflow.providers"),
    **dict.fromkeys(("Instrumentation", "instrument"), "otelflow._instrument.api"),
}
_SUBMODULES = (
    "attributes",
    "compat",
    "config",
    "errors",
    "events",
    "listeners",
    "propagate",
    "providers",
    "records",
    "testing",
)


def __getattr__(name: str) -> object:
    """Load a name or a submodule when it is first used. Decorators do not need these, so the import stays cheap."""
    import importlib

    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(_LAZY_NAMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"otelflow.{name}")
    raise AttributeError(f"module 'otelflow' has no attribute {name!r}")
