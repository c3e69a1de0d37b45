"""Write spans to files, and run ``otelflow show`` on them."""

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


def run_show(*words: str, stdin: bytes | None = None) -> Result:
    """Run ``otelflow show`` with these arguments."""
    return CliRunner().invoke(show, list(words), input=stdin)


def span(
    trace: int, number: int, parent: int | None = None, begin: float = 0, end: float | None = 1, **more: Any
) -> Span:
    """Create a span. Times are in seconds after noon."""
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
    """Write spans as lines of ``otelflow show --json``. Return the path."""
    path.write_text("".join(json.dumps(span.to_json()) + "\n" for span in spans))
    return str(path)
