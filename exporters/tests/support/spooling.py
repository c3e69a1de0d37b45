"""Helpers for tests of the spool: make spans, list its files and its log messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


def span(name: str, number: int = 1, **attributes: Any) -> ReadableSpan:
    return ReadableSpan(
        name,
        SpanContext(1, number, False, TraceFlags(1)),
        attributes=attributes,
        start_time=1,
        end_time=2,
        resource=Resource({"service.name": "shop"}),
    )


def log_messages(caplog: Any) -> list[str]:
    return [record.message for record in caplog.records if record.name == "otelflow"]


def files(folder: Path, ending: str = "") -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending))
