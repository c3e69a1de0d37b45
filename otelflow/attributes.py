"""Define the names of attributes, events and metrics that otelflow sends, each with its meaning and unit.

OpenTelemetry has no convention for workflows yet (semantic-conventions issue 1688 is open), so these names have a
namespace of their own. The names from OpenTelemetry's conventions that otelflow uses are at the end.
"""

from __future__ import annotations

# --- on every span of otelflow, at its start --------------------------------------------------------------------

KIND = "otelflow.kind"
"""Kind of the span. ``flow`` and ``task`` are runs. A ``continuation`` has events of the run above it that did not fit
on that run's own span (setting ``OTELFLOW_OVERFLOW=spans``). ``started`` and ``running`` are markers, not runs: see
``STARTED`` and ``RUNNING``."""

FLOW_NAME = "otelflow.flow.name"
"""Name of the flow, the same for all its runs. On the flow's span and on the spans of its tasks; also in baggage."""

FLOW_RUN_ID = "otelflow.flow.run_id"
"""Identifier of one run of a flow. On the flow's span and on the spans of its tasks; also in baggage."""

TASK_NAME = "otelflow.task.name"
"""Name of the task, the same for all its runs."""

TASK_RUN_ID = "otelflow.task.run_id"
"""Identifier of one run of a task."""

TASK_ORPHAN = "otelflow.task.orphan"
"""``true`` on a task that was called outside a flow; absent otherwise."""

CODE_FUNCTION_NAME = "code.function.name"
"""Fully qualified name of the function that runs. OpenTelemetry semantic conventions, code attributes."""

# --- on every span of otelflow, at its end ----------------------------------------------------------------------

STATUS = "otelflow.status"
"""Status of the run at its end: ``completed``, ``failed`` or ``cancelled``."""

ERROR_TYPE = "error.type"
"""Class of the exception that ended the run: ``ValueError``; ``package.module.Name`` if it is not a builtin.
OpenTelemetry semantic conventions, error attributes."""

FLOW_TASKS = "otelflow.flow.tasks"
"""Number of tasks that the flow run started, at any depth. A nested flow counts its own tasks."""

FLOW_TASKS_FAILED = "otelflow.flow.tasks_failed"
"""Number of tasks that failed, tolerated failures included."""

DROPPED_VALUES = "otelflow.dropped.values"
"""Number of values on this span that were truncated to the largest size (setting ``OTELFLOW_MAX_VALUE_BYTES``)."""

REDACTED = "otelflow.redacted"
"""Number of values on this span and its events from which secrets were removed; absent if there were none."""

DROPPED_EVENTS = "otelflow.dropped.events"
"""Number of events of this run that are neither on its span nor on a span that continues it: a span has limits in
number and bytes. Also on the event ``otelflow.left_out``."""

DROPPED_SHORT_TASKS = "otelflow.dropped.short_tasks"
"""Number of tasks of this flow run without a span, because they were shorter than their configured ``min_duration``.
``otelflow.flow.tasks`` counts them, too."""

DROPPED_TASKS = "otelflow.dropped.tasks"
"""Number of tasks that the Flow object did not keep (``FlowRunConfig.max_tasks``). Their spans are complete."""

DROPPED_MESSAGES = "otelflow.dropped.messages"
"""Number of messages that the Flow object did not keep in memory (``FlowRunConfig.max_messages``)."""

CONTINUATION = "otelflow.continuation"
"""On a span that continues a run's span: its number among these spans, from 1."""

CONTINUATIONS = "otelflow.continuations"
"""On the run's own span: number of spans that continue it."""

# --- during the run ---------------------------------------------------------------------------------------------

PROGRESS_DONE = "otelflow.progress.done"
"""Amount of work that the run has done, in the unit of ``otelflow.progress.total``. The last reported value."""

PROGRESS_TOTAL = "otelflow.progress.total"
"""Total amount of work of the run, in any unit."""

# --- markers: spans of zero length below a flow that has not ended, so that a backend shows it before its end ---------

STARTED = "started"
"""Kind of the marker for the start of a flow. It has the attributes that the flow's span has at its start."""

RUNNING = "running"
"""Kind of the markers that a flow sends while it runs (``OTELFLOW_HEARTBEAT``): what it was doing at that moment."""

RUNNING_FOR = "otelflow.running.for"
"""Time for which the flow had been running, as text for a person: ``2 h 05 min``."""

RUNNING_TASKS = "otelflow.running.tasks"
"""Names of the tasks that were running, the newest last, at most 10. Absent if the flow does not keep its tasks
(``FlowRunConfig.add_task_to_self``)."""

RUNNING_MESSAGE = "otelflow.running.message"
"""The last message of the flow or its tasks."""

# --- events -----------------------------------------------------------------------------------------------------

MESSAGE_EVENT = "otelflow.message"
"""Event: a log message, or a line that the run printed."""

MESSAGE_TEXT = "otelflow.message.text"
"""The message, without terminal colours."""

MESSAGE_SEVERITY = "otelflow.message.severity"
"""``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``."""

ARTIFACT_EVENT = "otelflow.artifact"
"""Event: something that the run produced."""

ARTIFACT_KEY = "otelflow.artifact.key"
"""Name of the artifact within its run."""

ARTIFACT_TYPE = "otelflow.artifact.type"
"""Kind of the artifact, as the code that added it calls it (``json``, ``table``, ``link``, ...)."""

ARTIFACT_DESCRIPTION = "otelflow.artifact.description"
"""Description of the artifact: one line for a person."""

ARTIFACT_DATA = "otelflow.artifact.data"
"""The artifact as JSON text. Above the largest size it is a preview: also JSON, with marks where parts are left out."""

ARTIFACT_SIZE = "otelflow.artifact.size"
"""Size of the whole artifact in bytes: of its JSON text, or of the artifact itself if it is text or bytes. Absent if
unknown."""

ARTIFACT_SHA256 = "otelflow.artifact.sha256"
"""SHA-256, in hex, of the bytes that ``otelflow.artifact.size`` counts. Absent if unknown."""

GAP_EVENT = "otelflow.left_out"
"""Event: events are missing here; ``otelflow.dropped.events`` is their number. Its time is that of the first one."""

ARTIFACT_URI = "otelflow.artifact.uri"
"""Address of the whole artifact in the store, if it is too large for a span (setting ``OTELFLOW_ARTIFACT_STORE``)."""

RESULT_EVENT = "otelflow.result"
"""Event: a result of the run, for people to read."""

RESULT_KEY = "otelflow.result.key"
"""Name of the result within its run."""

RESULT_DESCRIPTION = "otelflow.result.description"
"""The result, in words."""

# --- metrics --------------------------------------------------------------------------------------------------------

FLOW_DURATION = "otelflow.flow.duration"
"""Metric: a histogram of the durations of flows, in seconds, by ``otelflow.flow.name``, ``otelflow.status`` and, for
failed flows, ``error.type``."""

TASK_DURATION = "otelflow.task.duration"
"""Metric: a histogram of the durations of tasks, in seconds, by the same attributes and ``otelflow.task.name``."""

FLOW_ACTIVE = "otelflow.flow.active"
"""Metric: an up-down counter of the running flows, by ``otelflow.flow.name``."""

DROPPED = "otelflow.dropped"
"""Metric: a counter of dropped items, by ``otelflow.dropped.reason``: the numbers of ``stats().dropped``."""

DROPPED_REASON = "otelflow.dropped.reason"
"""Reason why items were dropped: a key of ``stats().dropped``."""

# --- OpenTelemetry's own ------------------------------------------------------------------------------------------

EXCEPTION_EVENT = "exception"
"""Event: the exception that ended a run, on the span of the run where it began. OpenTelemetry semantic conventions."""

EXCEPTION_TYPE = "exception.type"
"""Class of the exception, in the form of ``error.type``."""

EXCEPTION_MESSAGE = "exception.message"
"""``str()`` of the exception."""

EXCEPTION_STACKTRACE = "exception.stacktrace"
"""The traceback, as Python prints it; if it is too long, the frames nearest to the error."""

COMPONENT_NAME = "otel.component.name"
"""Name of the exporter, as it was configured."""

COMPONENT_TYPE = "otel.component.type"
"""Type of the exporter in OpenTelemetry's terms, or its class."""

SPANS_PROCESSED = "otel.sdk.processor.span.processed"
"""Metric: a counter of the spans that an exporter's queue received; with ``error.type`` for those that it lost."""

SPANS_WAITING = "otel.sdk.processor.span.queue.size"
"""Metric: an up-down counter of the spans that wait in an exporter's queue."""

SPANS_EXPORTED = "otel.sdk.exporter.span.exported"
"""Metric: a counter of the spans whose export has ended; with ``error.type`` for those that did not arrive."""

EXPORT_DURATION = "otel.sdk.exporter.operation.duration"
"""Metric: a histogram of the durations of exports, in seconds."""
