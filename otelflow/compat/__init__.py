"""The names of OSBot-Utils' flow system. Code written for it runs on otelflow once its imports are changed.

Only the names come from the original. Flows and tasks are those of otelflow, with their spans. The README lists the
defects of the original and how otelflow behaves instead.
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
