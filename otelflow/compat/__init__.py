"""The spellings of OSBot-Utils' flow system: its code runs here after its import lines change.

Only the names are the original's. Flows and tasks are otelflow's own, with their spans; see the README for what the
original got wrong and what happens instead.
"""

from otelflow.compat._config import Flow_Run__Config
from otelflow.compat._decorators import flow, task
from otelflow.compat._events import (
    Flow_Events,
    Flow_Run__Event,
    Flow_Run__Event_Data,
    Flow_Run__Event_Type,
    flow_events,
)
from otelflow.compat._flow import (
    FLOW__RANDOM_ID__PREFIX,
    FLOW__RANDOM_NAME__PREFIX,
    TASK__RANDOM_ID__PREFIX,
    Flow,
    Task,
)

__all__ = [
    "FLOW__RANDOM_ID__PREFIX",
    "FLOW__RANDOM_NAME__PREFIX",
    "TASK__RANDOM_ID__PREFIX",
    "Flow",
    "Flow_Events",
    "Flow_Run__Config",
    "Flow_Run__Event",
    "Flow_Run__Event_Data",
    "Flow_Run__Event_Type",
    "Task",
    "flow",
    "flow_events",
    "task",
]
