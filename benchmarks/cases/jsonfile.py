"""Measure ``otelflow_jsonfile`` against upstream's JSON file exporter: 100,000 spans in batches of 512. Prints JSON.

Upstream's exporter is a beta package that pins the SDK. So it is not a requirement: the run installs it into a
temporary folder.
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
    """Return spans like those of a web service: six attributes each, and an event on every other one."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "host.name": "a"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
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
    return memory.get_finished_spans()


def exporting(exporter: Any, spans: Sequence[ReadableSpan]) -> Any:
    """Return a sample that exports the first ``number`` spans."""

    def sample(number: int) -> None:
        for start in range(0, number, BATCH):
            assert exporter.export(spans[start : min(start + BATCH, number)]).name == "SUCCESS"

    return sample


class ProtobufEncoder(SpanExporter):
    """Exporter that only runs upstream's protobuf encoder, which otelflow's exporter needs as well."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans)
        return SpanExportResult.SUCCESS


def bytes_a_span(path: Path, exporter: Any, spans: Sequence[ReadableSpan]) -> float:
    before = path.stat().st_size
    exporting(exporter, spans)(len(spans))
    return (path.stat().st_size - before) / len(spans)


def install_upstream(folder: str) -> None:
    """Install upstream's exporter into ``folder``, in the version for the SDK, and make it importable."""
    beta_version = version("opentelemetry-semantic-conventions")
    names = (
        "opentelemetry-exporter-otlp-json-file",
        "opentelemetry-exporter-otlp-json-common",
        "opentelemetry-proto-json",
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    subprocess.run([*pip, *(f"{name}=={beta_version}" for name in names)], check=True, stdout=sys.stderr)
    sys.path.append(folder)
    # Its parent namespace packages are imported already, and their paths do not have the new folder.
    import opentelemetry.exporter.otlp

    for package, subfolder in (
        (opentelemetry, ""),
        (opentelemetry.exporter, "exporter"),
        (opentelemetry.exporter.otlp, "exporter/otlp"),
    ):
        package.__path__ = [*package.__path__, f"{folder}/opentelemetry/{subfolder}"]


def main() -> None:
    rounds, number = (2, 5_000) if "--quick" in sys.argv else (5, SPANS)
    spans = make_spans(number)
    with tempfile.TemporaryDirectory() as folder:
        install_upstream(f"{folder}/packages")
        os.environ["OTELFLOW_EXPORTER_JSONFILE_PATH"] = f"{folder}/ours.jsonl"
        os.environ["OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES"] = "0"  # upstream's exporter does not rotate
        from opentelemetry.exporter.otlp.json.file import FileSpanExporter
        from otelflow_exporters.jsonfile import JsonFileSpanExporter

        paths = {"ours": Path(folder, "ours.jsonl"), "upstream": Path(folder, "upstream.jsonl")}
        exporters = {"ours": JsonFileSpanExporter(), "upstream": FileSpanExporter(paths["upstream"])}
        cases = {
            name: Case(name, exporting(exporter, spans), number)
            for name, exporter in {"protobuf": ProtobufEncoder(), **exporters}.items()
        }
        measure(list(cases.values()), rounds)
        print(json.dumps(figures(cases, paths, exporters, spans)))


def figures(cases: dict[str, Case], paths: dict[str, Path], exporters: dict[str, Any], spans: Any) -> dict[str, str]:
    """Return the results by title: speed and size, and ratios of CPU time with their spread."""
    results = {}
    for name, title in {"ours": "otelflow_jsonfile", "upstream": "upstream's file exporter"}.items():
        size = bytes_a_span(paths[name], exporters[name], spans[:5120])
        results[f"{title}: spans a second, bytes a span"] = f"{round(1 / cases[name].median, -2):,.0f}, {size:.0f}"
    for name, title in {
        "upstream": "upstream's file exporter",
        "protobuf": "upstream's protobuf encoder alone",
    }.items():
        median, spread = ratio(cases["ours"], cases[name])
        results[f"CPU: otelflow_jsonfile, to {title}"] = f"{median:.2f} ±{spread:.2f}"
    return results


if __name__ == "__main__":
    main()
