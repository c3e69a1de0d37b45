"""The names that otelflow puts on the wire, each with its meaning and unit.

OpenTelemetry has no convention for workflows yet (semantic-conventions issue 1688 is open), so these stand in a
namespace of our own. Names of OpenTelemetry's own conventions that we use are at the end.
"""

from __future__ import annotations

# --- on every span of ours, at its start ------------------------------------------------------------------------

KIND = "otelflow.kind"
"""What the span stands for: ``flow`` or ``task``; ``continuation`` for one that carries events of the run above it, as
that run's own span had no room for them (setting ``OTELFLOW_OVERFLOW=spans``); ``started`` and ``running`` are markers,
which stand for no run: see ``STARTED`` and ``RUNNING``."""

FLOW_NAME = "otelflow.flow.name"
"""Name of the flow, the same for all its runs. On the flow's span and on the spans of its tasks; also in baggage."""

FLOW_RUN_ID = "otelflow.flow.run_id"
"""Identifier of one run of a flow. On the flow's span and on the spans of its tasks; also in baggage."""

TASK_NAME = "otelflow.task.name"
"""Name of the task, the same for all its runs."""

TASK_RUN_ID = "otelflow.task.run_id"
"""Identifier of one run of a task."""

TASK_ORPHAN = "otelflow.task.orphan"
"""``true`` on a task that was called outside any flow; absent otherwise."""

CODE_FUNCTION_NAME = "code.function.name"
"""Fully qualified name of the function that runs. OpenTelemetry semantic conventions, code attributes."""

# --- on every span of ours, at its end --------------------------------------------------------------------------

STATUS = "otelflow.status"
"""How the run ended: ``completed``, ``failed`` or ``cancelled``."""

ERROR_TYPE = "error.type"
"""Class of the exception that ended the run: ``ValueError``, or ``package.module.Name`` where it is not a builtin.
OpenTelemetry semantic conventions, error attributes."""

FLOW_TASKS = "otelflow.flow.tasks"
"""Number of tasks that the flow run started, at any depth (those of a nested flow are counted there)."""

FLOW_TASKS_FAILED = "otelflow.flow.tasks_failed"
"""Number of those that failed, tolerated failures included."""

DROPPED_VALUES = "otelflow.dropped.values"
"""Number of values on this span that were cut to the largest size (setting ``OTELFLOW_MAX_VALUE_BYTES``)."""

REDACTED = "otelflow.redacted"
"""Number of values on this span and its events that secrets were taken out of; absent where there were none."""

DROPPED_EVENTS = "otelflow.dropped.events"
"""Number of events of this run that are not on its span, nor on one that continues it: a span has limits in number and
bytes. On the event ``otelflow.left_out``, too."""

DROPPED_SHORT_TASKS = "otelflow.dropped.short_tasks"
"""Number of tasks of this flow run that left no span, as they were shorter than the ``min_duration`` that their
configuration gives; ``otelflow.flow.tasks`` counts them as well."""

DROPPED_TASKS = "otelflow.dropped.tasks"
"""Number of tasks that the Flow object did not keep in memory (``FlowRunConfig.max_tasks``); their spans are whole."""

DROPPED_MESSAGES = "otelflow.dropped.messages"
"""Number of messages that the Flow object did not keep in memory (``FlowRunConfig.max_messages``)."""

CONTINUATION = "otelflow.continuation"
"""On a span that carries more events of a run: its number among those of that run, from 1."""

CONTINUATIONS = "otelflow.continuations"
"""On the run's own span: how many such spans there are."""

# --- while it runs ----------------------------------------------------------------------------------------------

PROGRESS_DONE = "otelflow.progress.done"
"""How much of its work a run has done: a number, in the unit of ``otelflow.progress.total``. The last that was said."""

PROGRESS_TOTAL = "otelflow.progress.total"
"""How much work there is in all."""

# --- markers: of no length, children of a flow that has not ended, so that a backend shows it before ------------------

STARTED = "started"
"""Kind of the marker that shows when a flow began. It carries what the flow's span carries at its start."""

RUNNING = "running"
"""Kind of the markers that a flow leaves on its way (``OTELFLOW_HEARTBEAT``): what it was doing at that moment."""

RUNNING_FOR = "otelflow.running.for"
"""How long the flow had been running, for a person: ``2 h 05 min``."""

RUNNING_TASKS = "otelflow.running.tasks"
"""Names of the tasks that were running, the newest last. At most 10; absent where the flow does not keep its tasks
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
"""What kind of thing it is, in the words of the code that added it (``json``, ``table``, ``link``, ...)."""

ARTIFACT_DESCRIPTION = "otelflow.artifact.description"
"""One line for a person."""

ARTIFACT_DATA = "otelflow.artifact.data"
"""The artifact as JSON text. Above the largest size it is a preview: still JSON, with marks for what is left out."""

ARTIFACT_SIZE = "otelflow.artifact.size"
"""Size of the whole artifact in bytes: of its JSON text, or of the text or bytes that it is. Absent where unknown."""

ARTIFACT_SHA256 = "otelflow.artifact.sha256"
"""SHA-256, in hex, of the bytes that ``otelflow.artifact.size`` counts. Absent where unknown."""

GAP_EVENT = "otelflow.left_out"
"""Event: here events are missing, ``otelflow.dropped.events`` of them. Its time is that of the first."""

ARTIFACT_URI = "otelflow.artifact.uri"
"""Where the whole artifact is stored, where it is too large for a span (setting ``OTELFLOW_ARTIFACT_STORE``)."""

RESULT_EVENT = "otelflow.result"
"""Event: a result that the run wants to be seen."""

RESULT_KEY = "otelflow.result.key"
"""Name of the result within its run."""

RESULT_DESCRIPTION = "otelflow.result.description"
"""The result, in words."""

# --- metrics --------------------------------------------------------------------------------------------------------

FLOW_DURATION = "otelflow.flow.duration"
"""Metric: a histogram of how long flows took, in seconds, by ``otelflow.flow.name``, ``otelflow.status`` and, of those
that failed, ``error.type``."""

TASK_DURATION = "otelflow.task.duration"
"""Metric: the same of tasks, with ``otelflow.task.name``."""

FLOW_ACTIVE = "otelflow.flow.active"
"""Metric: an up-down counter of the flows that run, by ``otelflow.flow.name``."""

DROPPED = "otelflow.dropped"
"""Metric: a counter of what was left out, in items, by ``otelflow.dropped.reason``: the numbers of ``stats()``."""

DROPPED_REASON = "otelflow.dropped.reason"
"""Why something was left out, as in ``stats().dropped``."""

# --- OpenTelemetry's own ------------------------------------------------------------------------------------------

EXCEPTION_EVENT = "exception"
"""Event: the exception that ended the run, on the span where it began. OpenTelemetry semantic conventions."""

EXCEPTION_TYPE = "exception.type"
"""Class of the exception, spelled as in ``error.type``."""

EXCEPTION_MESSAGE = "exception.message"
"""``str()`` of the exception."""

EXCEPTION_STACKTRACE = "exception.stacktrace"
"""The traceback, as Python prints it; of a long one, the frames nearest to the error."""

COMPONENT_NAME = "otel.component.name"
"""Which exporter, by the name that it was asked for with."""

COMPONENT_TYPE = "otel.component.type"
"""Its kind in OpenTelemetry's words, or its class."""

SPANS_PROCESSED = "otel.sdk.processor.span.processed"
"""Metric: a counter of the spans that were handed to an exporter's queue; ``error.type`` on those that it lost."""

SPANS_WAITING = "otel.sdk.processor.span.queue.size"
"""Metric: an up-down counter of the spans that wait in it."""

SPANS_EXPORTED = "otel.sdk.exporter.span.exported"
"""Metric: a counter of the spans that an exporter answered for; ``error.type`` on those that did not arrive."""

EXPORT_DURATION = "otel.sdk.exporter.operation.duration"
"""Metric: a histogram of how long one export took, in seconds."""
