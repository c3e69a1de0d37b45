"""``otelflow demo``: run the demonstration pipeline and show its run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from otelflow._providers.exporters import exporter_names
from otelflow.cli._outputs import is_installed, write_page
from otelflow.errors import ConfigError
from otelflow.providers import configure, shutdown

__all__ = ["demo"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@click.command(
    epilog="""\b
Example:
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otelflow demo src/

Exit status: 0 done, and delivered where there is an endpoint; 1 not delivered, or no such folder; 2 called wrongly."""
)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--html", metavar="FILE", help="Where to write the page. Default: a new temporary folder.")
def demo(folder: Path | None, html: str | None) -> int:
    """Analyse a folder of Python files as a flow, and show the run.

    Scans, parses concurrently and sums up the Python files of FOLDER (default: otelflow's own). The run is printed as
    a tree and written as a page; with OTEL_EXPORTER_OTLP_ENDPOINT set it is sent there as well.
    """
    from otelflow.cli._demo_flow import analyse  # asyncio and ast: not needed for --help

    folder = folder or Path(__file__).parent.parent
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is no folder. Name one that has Python files: otelflow demo FOLDER.")
    made = tempfile.mkdtemp(prefix="otelflow-demo-") if is_installed() else None
    lines = f"{made}/run.jsonl"
    configure("otelflow-demo", _exporters(lines))
    run = analyse(folder).execute()
    report = shutdown(timeout=10)
    print(f"\n{run.results['summary'].description}; trace {run.trace_id}")
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is not None and report:
        print(f"{report.delivered} spans delivered to {endpoint}")
    elif endpoint is not None:
        print(f"not everything was delivered to {endpoint}: {report.pending} pending, lost {report.lost}")
    if made is not None:
        page = html or f"{made}/run.html"
        write_page(lines, page)
        print(f"page: {page}")
    return 0 if report else 1


def _exporters(lines: str) -> list[str]:
    """The tree and the file where they are installed, and what the environment asks for: OTLP only with an endpoint."""
    wanted = exporter_names() if os.environ.get("OTEL_TRACES_EXPORTER") or any(map(os.environ.get, _ENDPOINTS)) else []
    if is_installed():
        os.environ.setdefault("OTELFLOW_EXPORTER_TREE_OUTPUT", "stdout")
        os.environ["OTELFLOW_EXPORTER_JSONFILE_PATH"] = lines
        return list(dict.fromkeys(["otelflow_tree", "otelflow_jsonfile", *wanted]))
    print("The tree and the page need the distribution otelflow-exporters: pip install 'otelflow-exporters[cli]'")
    return wanted
