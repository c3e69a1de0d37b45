"""Run programs for tests of pools: each in its own process, with its spans in memory there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pool_work
from programs import run

HEAD = f"""
import json, sys
sys.path.insert(0, {str(Path(pool_work.__file__).parent)!r})
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import otelflow
from otelflow import flow, task, stats, flow_events
from otelflow.propagate import propagating
from pool_work import *

exporter = InMemorySpanExporter()

def provide(**settings):
    provider = TracerProvider(**settings)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

def say(**facts):
    print("FACTS " + json.dumps(facts), flush=True)
"""


def program(source: str, **environment: str) -> Any:
    """Run ``source`` in its own process, as spawned workers require it: guarded, and with an importable main module."""
    result = run("if __name__ == '__main__':\n" + _indented(source), head=HEAD, timeout=120, **environment)
    assert result.returncode == 0, result.stderr
    return result


def _indented(source: str) -> str:
    from textwrap import dedent, indent

    return indent(dedent(source), "    ")
