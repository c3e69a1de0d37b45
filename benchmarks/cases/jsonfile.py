"""``otelflow_jsonfile`` beside upstream's JSON file exporter: 100,000 spans to a file, in batches of 512. JSON.

Upstream's is a beta package that pins the SDK: it is no requirement, and is put into a folder for the time of the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from harness import Case, measure, ratio
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SPANS = 100_000
BATCH = 512


def make_spans(number: int) -> Sequence[ReadableSpan]:
    """Spans as a web service has them: six attributes, and an event on every other one."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "host.name": "a"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("benchmark", "1.0")
    with tracer.start_as_current_span("root"):
        for count in range(number - 1):
            attributes = {
                "http.request.method": "GET",
                "url.path": f"/items/{count}",
                "http.response.status_code": 200,
                "server.address": "shop.example",
                "duration": 1.5,
                "cached": False,
            }
            with tracer.start_as_current_span("GET /items", attributes=attributes) as span:
                if count % 2:
                    span.add_event("otelflow.message", {"otelflow.message.text": f"working on {count}"})
    return kept.get_finished_spans()


def exporting(exporter: Any, spans: Sequence[ReadableSpan]) -> Any:
    """A sample that exports the first ``number`` spans."""

    def sample(number: int) -> None:
        for start in range(0, number, BATCH):
            assert exporter.export(spans[start : min(start + BATCH, number)]).name == "SUCCESS"

    return sample


class Encoded(SpanExporter):
    """Upstream's protobuf encoder alone: what ours cannot do without."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans)
        return SpanExportResult.SUCCESS


def bytes_a_span(path: Path, exporter: Any, spans: Sequence[ReadableSpan]) -> float:
    before = path.stat().st_size
    exporting(exporter, spans)(len(spans))
    return (path.stat().st_size - before) / len(spans)


def upstream(folder: str) -> None:
    """Install upstream's exporter there, of the version that goes with the SDK, and make it importable."""
    of_sdk = version("opentelemetry-semantic-conventions")
    names = (
        "opentelemetry-exporter-otlp-json-file",
        "opentelemetry-exporter-otlp-json-common",
        "opentelemetry-proto-json",
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    subprocess.run([*pip, *(f"{name}=={of_sdk}" for name in names)], check=True, stdout=sys.stderr)
    sys.path.append(folder)
    # The namespace packages above it have been imported, and know only the folders of before.
    import opentelemetry.exporter.otlp

    for package, within in (
        (opentelemetry, ""),
        (opentelemetry.exporter, "exporter"),
        (opentelemetry.exporter.otlp, "exporter/otlp"),
    ):
        package.__path__ = [*package.__path__, f"{folder}/opentelemetry/{within}"]


def main() -> None:
    rounds, number = (2, 5_000) if "--quick" in sys.argv else (5, SPANS)
    spans = make_spans(number)
    with tempfile.TemporaryDirectory() as folder:
        upstream(f"{folder}/packages")
        os.environ["OTELFLOW_EXPORTER_JSONFILE_PATH"] = f"{folder}/ours.jsonl"
        os.environ["OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES"] = "0"  # upstream's does not rotate
        from opentelemetry.exporter.otlp.json.file import FileSpanExporter
        from otelflow_exporters.jsonfile import JsonFileSpanExporter

        paths = {"ours": Path(folder, "ours.jsonl"), "upstream": Path(folder, "upstream.jsonl")}
        exporters = {"ours": JsonFileSpanExporter(), "upstream": FileSpanExporter(paths["upstream"])}
        cases = {
            name: Case(name, exporting(exporter, spans), number)
            for name, exporter in {"protobuf": Encoded(), **exporters}.items()
        }
        measure(list(cases.values()), rounds)
        print(json.dumps(figures(cases, paths, exporters, spans)))


def figures(cases: dict[str, Case], paths: dict[str, Path], exporters: dict[str, Any], spans: Any) -> dict[str, str]:
    """What was found; a ratio of CPU time by round, and how far it strays."""
    found = {}
    for name, what in {"ours": "otelflow_jsonfile", "upstream": "upstream's file exporter"}.items():
        size = bytes_a_span(paths[name], exporters[name], spans[:5120])
        found[f"{what}: spans a second, bytes a span"] = f"{round(1 / cases[name].median, -2):,.0f}, {size:.0f}"
    for name, what in {"upstream": "upstream's file exporter", "protobuf": "upstream's protobuf encoder alone"}.items():
        middle, stray = ratio(cases["ours"], cases[name])
        found[f"CPU: otelflow_jsonfile, to {what}"] = f"{middle:.2f} ±{stray:.2f}"
    return found


if __name__ == "__main__":
    main()
