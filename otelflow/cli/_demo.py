"""``otelflow demo``: run an example flow and show its run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from otelflow._providers.exporters import exporter_names
from otelflow.cli._outputs import is_exporter_installed, write_page
from otelflow.errors import ConfigError
from otelflow.providers import configure, shutdown

__all__ = ["demo"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@click.command(
    epilog="""\b
Example:
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otelflow demo src/

Exit status: 0 success; 1 the spans were not delivered to the endpoint, or no such folder; 2 wrong usage."""
)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--html", metavar="FILE", help="File for the HTML page. Default: in a new temporary folder.")
def demo(folder: Path | None, html: str | None) -> int:
    """Analyse a folder of Python files as a flow, and show the run.

    Finds the Python files of FOLDER (default: otelflow's own), parses them concurrently, and prints totals. The run
    is printed as a tree and written as an HTML page. If OTEL_EXPORTER_OTLP_ENDPOINT is set, it is also sent there.
    """
    from otelflow.cli._demo_flow import analyse  # asyncio and ast: not needed for --help

    folder = folder or Path(__file__).parent.parent
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is not a folder. Use a folder with Python files: otelflow demo FOLDER.")
    output_folder = tempfile.mkdtemp(prefix="otelflow-demo-") if is_exporter_installed() else None
    spans_file = f"{output_folder}/run.jsonl"
    configure("otelflow-demo", _exporter_names(spans_file))
    run = analyse(folder).execute()
    report = shutdown(timeout=10)
    print(f"\n{run.results['summary'].description}; trace {run.trace_id}")
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is not None and report:
        print(f"{report.delivered} spans delivered to {endpoint}")
    elif endpoint is not None:
        print(f"some spans were not delivered to {endpoint}: {report.pending} pending, lost {report.lost}")
    if output_folder is not None:
        page = html or f"{output_folder}/run.html"
        write_page(spans_file, page)
        print(f"page: {page}")
    return 0 if report else 1


def _exporter_names(spans_file: str) -> list[str]:
    """Return the tree and file exporters, if installed, and those of the environment: OTLP only with an endpoint."""
    names = exporter_names() if os.environ.get("OTEL_TRACES_EXPORTER") or any(map(os.environ.get, _ENDPOINTS)) else []
    if is_exporter_installed():
        os.environ.setdefault("OTELFLOW_EXPORTER_TREE_OUTPUT", "stdout")
        os.environ["OTELFLOW_EXPORTER_JSONFILE_PATH"] = spans_file
        return list(dict.fromkeys(["otelflow_tree", "otelflow_jsonfile", *names]))
    print("The tree and the page need otelflow-exporters. Install it: pip install 'otelflow-exporters[cli]'")
    return names
