"""Settings: what one flow may choose (:class:`FlowRunConfig`), and what a process reads from its environment."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, fields
from typing import Any

from otelflow.errors import ConfigError, unknown_argument

__all__ = [
    "DEFAULT_CONFIG",
    "EXIT_SECONDS",
    "OTELFLOW_ARTIFACT_STORE",
    "OTELFLOW_ARTIFACT_STORE_MAX_BYTES",
    "OTELFLOW_ARTIFACT_STORE_MILLIS",
    "OTELFLOW_BAGGAGE_ATTRIBUTES",
    "OTELFLOW_CAPTURE_MILLIS",
    "OTELFLOW_CONFIG",
    "OTELFLOW_EVENTS",
    "OTELFLOW_EXIT_SECONDS",
    "OTELFLOW_HEARTBEAT",
    "OTELFLOW_HISTORY_SIZE",
    "OTELFLOW_MAX_REQUEST_BYTES",
    "OTELFLOW_MAX_SPAN_BYTES",
    "OTELFLOW_MAX_VALUE_BYTES",
    "OTELFLOW_METRICS",
    "OTELFLOW_OVERFLOW",
    "OTELFLOW_QUEUE_BYTES",
    "OTELFLOW_QUEUE_SIZE",
    "OTELFLOW_SCRUB",
    "OTELFLOW_SCRUB_ALLOW",
    "OTELFLOW_SCRUB_NAMES",
    "OTELFLOW_SCRUB_PATTERNS",
    "OTELFLOW_SIGNALS",
    "OTELFLOW_STARTED_MARKER",
    "OTELFLOW_STARTED_MARKER_AFTER",
    "OTELFLOW_WAIT_SECONDS",
    "OTELFLOW_WHEN_FULL",
    "STARTED_MARKER_AFTER",
    "FlowRunConfig",
    "choice_from_environment",
    "is_true_in_environment",
    "level_number",
    "names_from_environment",
    "number_from_environment",
    "seconds_from_environment",
]

OTELFLOW_MAX_VALUE_BYTES = "OTELFLOW_MAX_VALUE_BYTES"
"""Environment: largest size of one value on a span, in bytes of UTF-8. Default 2048: Grafana Tempo cuts there."""

OTELFLOW_CAPTURE_MILLIS = "OTELFLOW_CAPTURE_MILLIS"
"""Environment: how long the preview of one artifact or attribute may take, in milliseconds. Default 50. What could
not be looked at by then is marked as left out. A ``repr()`` that takes longer is not interrupted, but the last."""

OTELFLOW_ARTIFACT_STORE = "OTELFLOW_ARTIFACT_STORE"
"""Environment: where artifacts go whole that are too large for a span: ``file:///…``, ``s3://…``, any URL that fsspec
knows. Unset: nowhere; a preview is on the span, and the Flow object has the data."""

OTELFLOW_ARTIFACT_STORE_MAX_BYTES = "OTELFLOW_ARTIFACT_STORE_MAX_BYTES"
"""Environment: largest artifact that is stored, in bytes. Default 16 MiB. Four times as much may wait in memory."""

OTELFLOW_ARTIFACT_STORE_MILLIS = "OTELFLOW_ARTIFACT_STORE_MILLIS"
"""Environment: how long the program waits while one artifact is written as JSON for the store, in milliseconds. Default
1000. Text and bytes need no such time."""

OTELFLOW_MAX_SPAN_BYTES = "OTELFLOW_MAX_SPAN_BYTES"
"""Environment: how many bytes of attributes and events otelflow puts on one span. Default 65536. Beyond half of
it events are shortened, then left out, the newest kept."""

OTELFLOW_OVERFLOW = "OTELFLOW_OVERFLOW"
"""Environment: what becomes of events beyond a span's limits: ``count`` (the first and the newest are kept, the rest is
counted; the default) or ``spans`` (all are kept, in child spans)."""

OTELFLOW_HISTORY_SIZE = "OTELFLOW_HISTORY_SIZE"
"""Environment: how many events ``flow_events.history()`` holds. Default 1000; 0 switches the history off."""

OTELFLOW_CONFIG = "OTELFLOW_CONFIG"
"""Environment: the file that says which functions are flows and tasks. Without it, ``otelflow.toml`` in the current
folder, then ``[tool.otelflow]`` in its ``pyproject.toml``."""

OTELFLOW_EVENTS = "OTELFLOW_EVENTS"
"""Environment: where events go: ``span`` (span events; the default), ``logs`` (OpenTelemetry log records), ``both``."""

OTELFLOW_METRICS = "OTELFLOW_METRICS"
"""Environment: ``true`` for metrics: how long flows and tasks take, how many flows run, what was left out. Default
``false``."""

OTELFLOW_QUEUE_SIZE = "OTELFLOW_QUEUE_SIZE"
"""Environment: how many ended spans wait for each exporter that ``configure()`` made. Default 100000. What is beyond it
``OTELFLOW_WHEN_FULL`` says. ``OTEL_BSP_MAX_QUEUE_SIZE`` is used where this is not set."""

OTELFLOW_QUEUE_BYTES = "OTELFLOW_QUEUE_BYTES"
"""Environment: how many bytes of large spans (with events, or of others' making) wait for each exporter. Default
256000000."""

OTELFLOW_WHEN_FULL = "OTELFLOW_WHEN_FULL"
"""Environment: what becomes of spans when the queue is full: ``drop`` (the oldest, counted; the default), ``wait`` (who
ends a span waits for room, ``OTELFLOW_WAIT_SECONDS`` at most), or ``spool`` (the oldest go to disk, by the exporter
``otelflow_spool``)."""

OTELFLOW_WAIT_SECONDS = "OTELFLOW_WAIT_SECONDS"
"""Environment: how long a span that ends waits for room, with ``OTELFLOW_WHEN_FULL=wait``, or for the disk, with
``spool``, in seconds. Default 1."""

OTELFLOW_MAX_REQUEST_BYTES = "OTELFLOW_MAX_REQUEST_BYTES"
"""Environment: largest OTLP request, in bytes before compression. Default 4000000: gRPC servers take 4 MiB."""

OTELFLOW_SIGNALS = "OTELFLOW_SIGNALS"
"""Environment: ``false`` to leave SIGTERM and SIGHUP alone. Otherwise ``configure()`` has what waits sent before they
end the process, where nobody else handles them."""

OTELFLOW_EXIT_SECONDS = "OTELFLOW_EXIT_SECONDS"
"""Environment: how long the end of the process waits for an exporter that makes no progress, in seconds. Default 2."""

OTELFLOW_SCRUB = "OTELFLOW_SCRUB"
"""Environment: ``false`` leaves secrets in what goes on spans, to listeners and into memory. Default ``true``."""

OTELFLOW_SCRUB_NAMES = "OTELFLOW_SCRUB_NAMES"
"""Environment: more names that hold secrets, a comma between: ``patient_id,iban``. In any spelling, or as an ending."""

OTELFLOW_SCRUB_ALLOW = "OTELFLOW_SCRUB_ALLOW"
"""Environment: names of attributes and keys that hold no secrets, whatever they look like, a comma between."""

OTELFLOW_SCRUB_PATTERNS = "OTELFLOW_SCRUB_PATTERNS"
"""Environment: regular expressions of more secrets, white space between (a space in one is ``\\s``). One that is slow
on some text holds the program up: keep repetitions out of repetitions."""

OTELFLOW_BAGGAGE_ATTRIBUTES = "OTELFLOW_BAGGAGE_ATTRIBUTES"
"""Environment: keys of incoming baggage that become attributes of a flow's span, a comma between. Default: none."""

EXIT_SECONDS = 2.0
"""Default of ``OTELFLOW_EXIT_SECONDS``."""

OTELFLOW_STARTED_MARKER = "OTELFLOW_STARTED_MARKER"
"""Environment: ``true`` to show each outermost flow at a backend from its start, by a marker span. Default ``false``.
``FlowRunConfig(started_marker=...)`` says so of one flow."""

OTELFLOW_STARTED_MARKER_AFTER = "OTELFLOW_STARTED_MARKER_AFTER"
"""Environment: flows that run for so many seconds get their marker then. Default 60; ``0`` or ``never`` for none."""

STARTED_MARKER_AFTER = 60.0
"""Default of ``OTELFLOW_STARTED_MARKER_AFTER``."""

OTELFLOW_HEARTBEAT = "OTELFLOW_HEARTBEAT"
"""Environment: every so many seconds of a flow, another marker span says what it is doing. Default ``0``, none."""

_logger = logging.getLogger("otelflow")


def number_from_environment(variable: str, default: float, least: float = 0) -> float:
    """The number in an environment variable; its default, and one log line, where it holds something else."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if least <= number < float("inf"):
        return number
    _logger.warning("%s is %r, which is no number from %g up. Using the default, %g.", variable, text, least, default)
    return default


def seconds_from_environment(variable: str, default: float) -> float | None:
    """The length of time in an environment variable, in seconds; None for ``0`` and ``never``."""
    if os.environ.get(variable, "").strip().lower() == "never":
        return None
    return number_from_environment(variable, default) or None


def choice_from_environment(variable: str, choices: tuple[str, ...]) -> str:
    """The word in an environment variable; the first of ``choices``, and one log line, where it holds another."""
    text = os.environ.get(variable, "").strip().lower()
    if not text or text in choices:
        return text or choices[0]
    _logger.warning("%s is %r. It takes: %s. Using %s.", variable, text, ", ".join(choices), choices[0])
    return choices[0]


def names_from_environment(variable: str) -> list[str]:
    """The names in an environment variable, a comma between."""
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def is_true_in_environment(variable: str) -> bool:
    """Whether an environment variable is ``true``; False, and one log line, where it is neither that nor ``false``.
    OpenTelemetry's rule for booleans; ``1`` and ``0`` are understood besides."""
    return choice_from_environment(variable, ("false", "true", "0", "1")) in ("true", "1")


_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50}


def level_number(level: object, setting: str = "log_level") -> int:
    """A log level as a number: ``20``, ``"INFO"`` and ``"info"`` are the same."""
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return level
    if isinstance(level, str) and level.upper() in _LEVELS:
        return _LEVELS[level.upper()]
    names = ", ".join(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    raise ConfigError(f"{setting} is {level!r}. Use a number from 0 up or one of: {names}.", setting=setting)


@dataclass(frozen=True)
class FlowRunConfig:
    """How a flow behaves. It cannot be changed once made: one object may serve any number of flows.

    Raises :class:`otelflow.errors.ArgumentError` for a field that does not exist and
    :class:`otelflow.errors.ConfigError` for a value of the wrong kind.
    """

    add_task_to_self: bool = True
    """Keep the tasks that ran in ``flow.tasks``. When False, a finished task leaves nothing behind in memory."""

    log_to_console: bool = False
    """Print each message as it comes, to the standard output."""

    log_to_memory: bool = True
    """Keep messages in ``flow.messages``."""

    logging_enabled: bool = True
    """Master switch: when False there are no messages at all, in memory, on spans, or for listeners."""

    print_logs: bool = False
    """Print all messages of the run when it has ended, to the standard output."""

    print_none_return_value: bool = False
    """Send a message when a task or the flow returns None."""

    print_finished_message: bool = False
    """Send a message when a task or the flow ends."""

    raise_flow_error: bool = True
    """Let the exception that ended the flow reach the caller. When False, ``execute()`` returns the flow, and the
    exception is in ``flow.error``."""

    log_level: int | str = logging.INFO
    """Messages below this level reach nobody. A number or a name; read back as a number."""

    capture_output: bool | None = None
    """Turn each printed line into a message of the run that printed it; it still reaches the terminal. None: True for
    deferred flows, False for transparent ones."""

    print_error_stack_trace: bool = False
    """Print the traceback of a run that fails, to the standard error."""

    started_marker: bool | None = None
    """Show the flow at a backend from its start, by a marker span: True at once, False never. None: as
    ``OTELFLOW_STARTED_MARKER`` says, and once it has run for ``OTELFLOW_STARTED_MARKER_AFTER`` seconds."""

    max_messages: int = 10_000
    """How many messages a Flow object keeps; beyond it the oldest go, counted."""

    max_tasks: int = 10_000
    """How many tasks a Flow object keeps; beyond it the oldest go, counted."""

    def __new__(cls, *_: Any, **given: Any) -> FlowRunConfig:
        known = cls.__dataclass_fields__.keys()
        if not given.keys() <= known:
            raise unknown_argument(f"{cls.__name__}()", given, known)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_level", level_number(self.log_level))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("max_messages", "max_tasks"):
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise ConfigError(f"{field.name} is {value!r}. Use a whole number from 0 up.", setting=field.name)
            elif field.name != "log_level" and not isinstance(value, bool):
                may_be_left_open = field.default is None
                if value is not None or not may_be_left_open:
                    choices = "True, False or None" if may_be_left_open else "True or False"
                    raise ConfigError(f"{field.name} is {value!r}. Use {choices}.", setting=field.name)


DEFAULT_CONFIG = FlowRunConfig()
"""What holds for a flow that was given no configuration, and for a task outside any flow."""
