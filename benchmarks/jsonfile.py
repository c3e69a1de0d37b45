"""``otelflow_jsonfile`` beside upstream's JSON file exporter: 100,000 spans to a file, in batches of 512. JSON.

Upstream's is a beta package that pins the SDK, so it is no requirement. Into a folder that PYTHONPATH names:
``pip install --no-deps --target FOLDER opentelemetry-exporter-otlp-json-file opentelemetry-exporter-otlp-json-common
opentelemetry-proto-json``, all of the version that goes with the SDK.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def main() -> None:
    rounds, number = (2, 5_000) if "--quick" in sys.argv else (5, SPANS)
    spans = make_spans(number)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["OTELFLOW_EXPORTER_JSONFILE_PATH"] = f"{folder}/ours.jsonl"
        os.environ["OTELFLOW_EXPORTER_JSONFILE_MAX_BYTES"] = "0"  # upstream's does not rotate
        from otelflow_exporters.jsonfile import JsonFileSpanExporter

        paths, exporters = {"ours": Path(folder, "ours.jsonl")}, {"ours": JsonFileSpanExporter()}
        cases = {"protobuf": Case("protobuf", exporting(Encoded(), spans), number)}
        missing = ""
        try:
            from opentelemetry.exporter.otlp.json.file import FileSpanExporter

            paths["upstream"] = Path(folder, "upstream.jsonl")
            exporters["upstream"] = FileSpanExporter(paths["upstream"])
        except ImportError as error:
            missing = str(error)
        cases.update({name: Case(name, exporting(exporter, spans), number) for name, exporter in exporters.items()})
        measure(list(cases.values()), rounds)
        print(json.dumps(figures(cases, paths, exporters, spans, missing)))


def figures(
    cases: dict[str, Case], paths: dict[str, Path], exporters: dict[str, Any], spans: Any, missing: str
) -> dict[str, Any]:
    """What was found; a ratio of CPU time by round, and how far it strays."""
    found: dict[str, Any] = {"spans a second": {name: round(1 / case.median) for name, case in cases.items()}}
    found["bytes a span"] = {
        name: round(bytes_a_span(paths[name], exporter, spans[:5120])) for name, exporter in exporters.items()
    }
    found["time over that of protobuf alone"] = round(ratio(cases["ours"], cases["protobuf"])[0], 2)
    if missing:
        found["time over that of upstream's"] = f"not measured: {missing}"
    else:
        middle, stray = ratio(cases["ours"], cases["upstream"])
        found["time over that of upstream's"] = f"{middle:.2f} ± {stray:.2f}"
    return found


if __name__ == "__main__":
    main()
