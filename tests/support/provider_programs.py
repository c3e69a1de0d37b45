"""Run programs that configure a provider, each in its own process."""

from __future__ import annotations

from typing import Any

import programs

MEMORY = """
from opentelemetry.sdk.trace.export import SpanExportResult, SpanExporter
class Memory(SpanExporter):
    def __init__(self, result=SpanExportResult.SUCCESS, wait=0):
        self.spans, self.result, self.wait, self.downs = [], result, wait, 0
    def export(self, spans):
        time.sleep(self.wait)
        self.spans.extend(spans)
        return self.result
    def shutdown(self):
        self.downs += 1
memory = Memory()
"""


def reported_values(source: str, **environment: str) -> dict[str, Any]:
    """Run a program with an exporter ``memory``. Return its reported values; it must succeed."""
    result = programs.run(source, head=programs.HEAD + MEMORY, **environment)
    assert result.returncode == 0, result.stderr
    return {**result.facts, "stderr": result.stderr}
