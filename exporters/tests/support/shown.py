"""Spans in files, and ``otelflow show`` run on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from otelflow_exporters._trace.from_json import nanoseconds
from otelflow_exporters._trace.span import Span
from otelflow_exporters.cli.show import show

SECOND = 10**9


NOON = nanoseconds("2026-11-23T12:00:00Z")


def shown(*words: str, stdin: bytes | None = None) -> Result:
    """What the command prints, and how it ends."""
    return CliRunner().invoke(show, list(words), input=stdin)


def span(
    trace: int, number: int, parent: int | None = None, begin: float = 0, end: float | None = 1, **more: Any
) -> Span:
    """A span; times in seconds after noon."""
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{trace:08x}{number:08x}",
        parent_id=None if parent is None else f"{trace:08x}{parent:08x}",
        name=more.pop("name", f"s{number}"),
        start=NOON + int(begin * SECOND),
        end=None if end is None else NOON + int(end * SECOND),
        **more,
    )


def write(path: Path, *spans: Span) -> str:
    """A file of our own lines."""
    path.write_text("".join(json.dumps(one.to_json()) + "\n" for one in spans))
    return str(path)
