"""Define the settings: of one flow (:class:`FlowRunConfig`), and of a process (environment variables)."""

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
    "whole_number_from_environment",
]

OTELFLOW_MAX_VALUE_BYTES = "OTELFLOW_MAX_VALUE_BYTES"
"""Environment: largest size of one value on a span, in bytes of UTF-8. Default 2048: Grafana Tempo truncates there."""

OTELFLOW_CAPTURE_MILLIS = "OTELFLOW_CAPTURE_MILLIS"
"""Environment: longest time for the preview of one artifact or attribute, in milliseconds. Default 50. Parts that are
not read by then are marked as left out. A ``repr()`` that takes longer is not interrupted, but it is the last one."""

OTELFLOW_ARTIFACT_STORE = "OTELFLOW_ARTIFACT_STORE"
"""Environment: store for whole artifacts that are too large for a span: ``file:///…``, ``s3://…``, any URL that fsspec
supports. If unset, there is none: a preview is on the span, and the Flow object has the data."""

OTELFLOW_ARTIFACT_STORE_MAX_BYTES = "OTELFLOW_ARTIFACT_STORE_MAX_BYTES"
"""Environment: largest artifact that is stored, in bytes. Default 16 MiB. Four times as much may wait in memory."""

OTELFLOW_ARTIFACT_STORE_MILLIS = "OTELFLOW_ARTIFACT_STORE_MILLIS"
"""Environment: longest time that the program waits while one artifact is written as JSON for the store, in
milliseconds. Default 1000. Text and bytes are not written as JSON."""

OTELFLOW_MAX_SPAN_BYTES = "OTELFLOW_MAX_SPAN_BYTES"
"""Environment: largest size of the attributes and events on one span, in bytes. Default 65536. Beyond half of it,
events are shortened, then left out; the newest are kept."""

OTELFLOW_OVERFLOW = "OTELFLOW_OVERFLOW"
"""Environment: how events beyond a span's limits are handled. ``count`` (the default) keeps the first and the newest,
and counts the others. ``spans`` keeps all, in child spans."""

OTELFLOW_HISTORY_SIZE = "OTELFLOW_HISTORY_SIZE"
"""Environment: number of events in ``flow_events.history()``. Default 1000; 0 switches the history off."""

OTELFLOW_CONFIG = "OTELFLOW_CONFIG"
"""Environment: the file that lists the functions that are flows and tasks. If unset: ``otelflow.toml`` in the current
folder, then ``[tool.otelflow]`` in the ``pyproject.toml`` there."""

OTELFLOW_EVENTS = "OTELFLOW_EVENTS"
"""Environment: where events go: ``span`` (span events, the default), ``logs`` (OpenTelemetry log records), ``both``."""

OTELFLOW_METRICS = "OTELFLOW_METRICS"
"""Environment: ``true`` for metrics: durations of flows and tasks, number of running flows, dropped items. Default
``false``."""

OTELFLOW_QUEUE_SIZE = "OTELFLOW_QUEUE_SIZE"
"""Environment: number of ended spans that may wait for each exporter of ``configure()``. Default 100000.
``OTELFLOW_WHEN_FULL`` says what happens to more. If this is unset, ``OTEL_BSP_MAX_QUEUE_SIZE`` is used."""

OTELFLOW_QUEUE_BYTES = "OTELFLOW_QUEUE_BYTES"
"""Environment: number of bytes of large spans that may wait for each exporter. Large spans are those with events, and
those of other libraries. Default 256000000."""

OTELFLOW_WHEN_FULL = "OTELFLOW_WHEN_FULL"
"""Environment: how a full queue is handled. ``drop`` (the default) drops the oldest spans and counts them. ``wait``
lets the thread that ends a span wait for room, at most ``OTELFLOW_WAIT_SECONDS``. ``spool`` writes the oldest to disk,
with the exporter ``otelflow_spool``."""

OTELFLOW_WAIT_SECONDS = "OTELFLOW_WAIT_SECONDS"
"""Environment: longest time that the end of a span waits, in seconds: for room with ``OTELFLOW_WHEN_FULL=wait``, for
the disk with ``spool``. Default 1."""

OTELFLOW_MAX_REQUEST_BYTES = "OTELFLOW_MAX_REQUEST_BYTES"
"""Environment: largest OTLP request, in bytes before compression. Default 4000000: gRPC servers accept 4 MiB."""

OTELFLOW_SIGNALS = "OTELFLOW_SIGNALS"
"""Environment: ``false`` if otelflow shall not handle SIGTERM and SIGHUP. Otherwise, if the program does not handle
them, ``configure()`` sends the waiting spans before they end the process."""

OTELFLOW_EXIT_SECONDS = "OTELFLOW_EXIT_SECONDS"
"""Environment: longest wait for an exporter without progress at the end of the process, in seconds. Default 2."""

OTELFLOW_SCRUB = "OTELFLOW_SCRUB"
"""Environment: ``false`` if secrets shall stay in spans, events and memory. Default ``true``."""

OTELFLOW_SCRUB_NAMES = "OTELFLOW_SCRUB_NAMES"
"""Environment: more names of secret values, separated by commas: ``patient_id,iban``. They match in any spelling, and
as the end of a name."""

OTELFLOW_SCRUB_ALLOW = "OTELFLOW_SCRUB_ALLOW"
"""Environment: names of attributes and keys whose values are not secret although they look so, separated by commas."""

OTELFLOW_SCRUB_PATTERNS = "OTELFLOW_SCRUB_PATTERNS"
"""Environment: regular expressions of more secrets, separated by white space (write a space as ``\\s``). A pattern that
is slow on some text delays the program: do not nest repetitions."""

OTELFLOW_BAGGAGE_ATTRIBUTES = "OTELFLOW_BAGGAGE_ATTRIBUTES"
"""Environment: keys of incoming baggage that become attributes of a flow's span, separated by commas. Default: none."""

EXIT_SECONDS = 2.0
"""Default of ``OTELFLOW_EXIT_SECONDS``."""

OTELFLOW_STARTED_MARKER = "OTELFLOW_STARTED_MARKER"
"""Environment: ``true`` to show each outermost flow in a backend from its start, by a marker span. Default ``false``.
``FlowRunConfig(started_marker=...)`` sets this for one flow."""

OTELFLOW_STARTED_MARKER_AFTER = "OTELFLOW_STARTED_MARKER_AFTER"
"""Environment: seconds after which a running flow gets its marker span. Default 60; ``0`` or ``never`` for none."""

STARTED_MARKER_AFTER = 60.0
"""Default of ``OTELFLOW_STARTED_MARKER_AFTER``."""

OTELFLOW_HEARTBEAT = "OTELFLOW_HEARTBEAT"
"""Environment: interval of the marker spans that show what a running flow is doing, in seconds. Default ``0``, none."""

_logger = logging.getLogger("otelflow")


def number_from_environment(variable: str, default: float, least: float = 0) -> float:
    """Return the number in an environment variable. Log a warning if it has another value.

    Args:
        variable: name of the environment variable.
        default: the number if the variable is empty, unset or wrong.
        least: the smallest number that is allowed.

    Returns:
        The number, or ``default``.
    """
    return _read_number(variable, default, least, "number")


def whole_number_from_environment(variable: str, default: int, least: int = 0) -> int:
    """Return the whole number in an environment variable. Log a warning if it has another value.

    Args:
        variable: name of the environment variable.
        default: the number if the variable is empty, unset or wrong.
        least: the smallest number that is allowed.

    Returns:
        The number without a fraction, or ``default``.
    """
    return int(_read_number(variable, default, least, "whole number"))


def _read_number(variable: str, default: float, least: float, kind: str) -> float:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = least - 1
    if least <= number < float("inf"):
        return number
    _logger.warning("%s must be a %s, at least %s; got %r. Using %s.", variable, kind, least, text, default)
    return default


def seconds_from_environment(variable: str, default: float) -> float | None:
    """Return the time in an environment variable. Log a warning if it has another value.

    Args:
        variable: name of the environment variable.
        default: the time in seconds if the variable is empty, unset or wrong.

    Returns:
        The time in seconds; None for ``0`` and ``never``.
    """
    if os.environ.get(variable, "").strip().lower() == "never":
        return None
    return number_from_environment(variable, default) or None


def choice_from_environment(variable: str, choices: tuple[str, ...]) -> str:
    """Return the word in an environment variable, in lower case. Log a warning if it has another value.

    Args:
        variable: name of the environment variable.
        choices: the words that are allowed. The first is the default.

    Returns:
        One of ``choices``.
    """
    text = os.environ.get(variable, "").strip().lower()
    if not text or text in choices:
        return text or choices[0]
    _logger.warning("%s must be one of %s; got %r. Using %s.", variable, ", ".join(choices), text, choices[0])
    return choices[0]


def names_from_environment(variable: str) -> list[str]:
    """Return the names in an environment variable, which are separated by commas.

    Args:
        variable: name of the environment variable.

    Returns:
        The names, without white space around them and without empty ones.
    """
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def is_true_in_environment(variable: str) -> bool:
    """Return whether an environment variable is ``true``. Log a warning if it has another value than ``false``.

    This is OpenTelemetry's rule for booleans; ``1`` and ``0`` are accepted, too.

    Args:
        variable: name of the environment variable.

    Returns:
        True for ``true`` and ``1``; False for any other value.
    """
    return choice_from_environment(variable, ("false", "true", "0", "1")) in ("true", "1")


_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50}


def level_number(level: object, setting: str = "log_level") -> int:
    """Return a log level as a number: ``20`` for ``20``, ``"INFO"`` and ``"info"``.

    Args:
        level: a number as in :mod:`logging`, or a name.
        setting: name of the setting, for the error.

    Returns:
        The number.

    Raises:
        ConfigError: ``level`` is neither.
    """
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return level
    if isinstance(level, str) and level.upper() in _LEVELS:
        return _LEVELS[level.upper()]
    names = ", ".join(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
    raise ConfigError(f"{setting} must be a number, at least 0, or one of {names}; got {level!r}.", setting=setting)


@dataclass(frozen=True)
class FlowRunConfig:
    """The configuration of a flow. It is immutable: one object may serve any number of flows.

    Raises:
        ArgumentError: a field does not exist.
        ConfigError: a value is of the wrong kind.
    """

    add_task_to_self: bool = True
    """Keep the tasks of the run in ``flow.tasks``. If False, nothing of a finished task stays in memory."""

    log_to_console: bool = False
    """Print each message to the standard output when it is sent."""

    log_to_memory: bool = True
    """Keep messages in ``flow.messages``."""

    logging_enabled: bool = True
    """Main switch: if False, there are no messages: not in memory, not on spans, not for listeners."""

    print_logs: bool = False
    """Print all messages of the run to the standard output when it has ended."""

    print_none_return_value: bool = False
    """Send a message when a task or the flow returns None."""

    print_finished_message: bool = False
    """Send a message when a task or the flow ends."""

    raise_flow_error: bool = True
    """Raise the exception that ended the flow to the caller. If False, ``execute()`` returns the flow, and the
    exception is in ``flow.error``."""

    log_level: int | str = logging.INFO
    """Lowest level of messages that are sent. A number or a name; the attribute is always a number."""

    capture_output: bool | None = None
    """Send each printed line as a message of the run that printed it. The line still goes to the terminal. None: True
    for deferred flows, False for transparent ones."""

    print_error_stack_trace: bool = False
    """Print the traceback of a run that fails to the standard error."""

    started_marker: bool | None = None
    """Show the flow in a backend before its end, by a marker span: True from its start, False never. None: as
    ``OTELFLOW_STARTED_MARKER`` says, or when it has run for ``OTELFLOW_STARTED_MARKER_AFTER`` seconds."""

    max_messages: int = 10_000
    """Number of messages that a Flow object keeps. Beyond it, the oldest are dropped and counted."""

    max_tasks: int = 10_000
    """Number of tasks that a Flow object keeps. Beyond it, the oldest are dropped and counted."""

    def __new__(cls, *_: Any, **kwargs: Any) -> FlowRunConfig:
        field_names = cls.__dataclass_fields__.keys()
        if not kwargs.keys() <= field_names:
            raise unknown_argument(f"{cls.__name__}()", kwargs, field_names)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_level", level_number(self.log_level))
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("max_messages", "max_tasks"):
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise ConfigError(
                        f"{field.name} must be a whole number, at least 0; got {value!r}.", setting=field.name
                    )
            elif field.name != "log_level" and not isinstance(value, bool):
                may_be_none = field.default is None
                if value is not None or not may_be_none:
                    choices = "True, False or None" if may_be_none else "True or False"
                    raise ConfigError(f"{field.name} must be {choices}; got {value!r}.", setting=field.name)


DEFAULT_CONFIG = FlowRunConfig()
"""The configuration of a flow without one of its own, and of a task outside a flow."""
