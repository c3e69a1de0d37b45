"""Start programs with a spool in other processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from programs import clean_environment

HEAD = """
import os, signal, sys, time, threading
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from otelflow_exporters.spool import SpoolSpanExporter
exporter = SpoolSpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(exporter.span_processor())
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("any")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def start_flow(name, **attributes):
    return tracer.start_span(name, attributes={"otelflow.kind": "flow", **attributes})
"""


def start(source: str, settings: dict[str, str], head: str = HEAD) -> subprocess.Popen[str]:
    """Start a program and do not wait for it."""
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(source)],
        env=clean_environment(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
