"""Events as OpenTelemetry log records, where ``OTELFLOW_EVENTS`` asks for them: where the span-event API is heading.

The logs API is still private-named in Python (``opentelemetry._logs``): it is loaded only when it is asked for.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import Span, set_span_in_context

from otelflow._spans.tracer import SCOPE
from otelflow._version import __version__
from otelflow.config import OTELFLOW_EVENTS, choice_from_environment

__all__ = ["ON_LOGS", "ON_SPANS", "log_event"]

_WHERE = choice_from_environment(OTELFLOW_EVENTS, ("span", "logs", "both"))
ON_SPANS = _WHERE != "logs"
ON_LOGS = _WHERE != "span"


def log_event(span: Span | None, name: str, body: object, attributes: dict[str, Any], severity: int, ns: int) -> None:
    """Emit a log record with the event's name, of the trace and span of ``span``; ``severity`` as in :mod:`logging`."""
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger

    number = max((known for known in _SEVERITIES if known <= severity), default=10)
    record = LogRecord(
        timestamp=ns,
        context=None if span is None else set_span_in_context(span),
        severity_number=SeverityNumber(_SEVERITIES[number][0]),
        severity_text=_SEVERITIES[number][1],
        body=str(body),
        attributes=attributes,
        event_name=name,
    )
    get_logger(SCOPE, __version__).emit(record)


_SEVERITIES = {10: (5, "DEBUG"), 20: (9, "INFO"), 30: (13, "WARN"), 40: (17, "ERROR"), 50: (21, "FATAL")}
"""OpenTelemetry's severity numbers and short names for the levels of :mod:`logging`. Logs data model, severity."""
