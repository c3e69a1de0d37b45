"""``otelflow demo``: run the demonstration pipeline and show its run."""

from __future__ import annotations

import argparse
import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from otelflow._exporters import GROUP, exporter_names
from otelflow.errors import ConfigError
from otelflow.providers import configure, shutdown

__all__ = ["add_demo"]

_TREE = "otelflow_tree"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def add_demo(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="analyse a folder of Python files as a flow, and show the run as a tree",
        description="Analyse a folder of Python files as a flow: scan, parse concurrently, sum up. The run is printed "
        "as a tree; with OTEL_EXPORTER_OTLP_ENDPOINT set it is sent there as well.",
        epilog="example:  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otelflow demo src/",
    )
    parser.add_argument("folder", nargs="?", type=Path, help="default: the source of otelflow itself")
    parser.set_defaults(run=_run)


def _default_folder() -> Path:
    return Path(__file__).parent.parent


def _run(given: argparse.Namespace) -> int:
    from otelflow.demo import analyse  # asyncio and ast: not needed for --help

    folder = given.folder or _default_folder()
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is no folder. Name one that has Python files: otelflow demo FOLDER.")
    exporters = _exporters()
    configure("otelflow-demo", exporters)
    run = analyse(folder).execute()
    report = shutdown(timeout=10)
    print(f"\n{run.results['summary'].description}; trace {run.trace_id}")
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is not None and report:
        print(f"{report.delivered} spans delivered to {endpoint}")
    elif endpoint is not None:
        print(f"not everything was delivered to {endpoint}: {report.pending} pending, lost {report.lost}")
    return 0 if report else 1


def _exporters() -> list[str]:
    """The tree where it is installed, and what the environment asks for: OTLP only with an endpoint."""
    wanted = exporter_names() if os.environ.get("OTEL_TRACES_EXPORTER") or any(map(os.environ.get, _ENDPOINTS)) else []
    if any(entry.name == _TREE for entry in entry_points(group=GROUP)):
        os.environ.setdefault("OTELFLOW_EXPORTER_TREE_OUTPUT", "stdout")
        return [_TREE, *(name for name in wanted if name != _TREE)]
    print("The tree needs the distribution otelflow-exporters: pip install otelflow-exporters")
    return wanted
