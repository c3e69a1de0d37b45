"""Programs with an artifact store, and the files that it wrote."""

from __future__ import annotations

from pathlib import Path

ROWS = [{"id": number, "name": f"customer {number}", "tags": ["a", "b"], "share": 0.5} for number in range(3000)]


STORES = """
@flow
def makes(data, this_flow=None):
    this_flow.add_artifact("the rows", key="rows", data=data, artifact_type="table")
    return this_flow

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
rows = [{"id": n, "name": f"customer {n}", "tags": ["a", "b"], "share": 0.5} for n in range(3000)]

def event():
    return dict(exporter.get_finished_spans()[-1].events[0].attributes)
"""


def stored_files(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]
