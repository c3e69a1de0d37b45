"""The command ``otelflow``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from otelflow._version import __version__
from otelflow.cli._demo import add_demo
from otelflow.errors import OtelflowError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit status: 0 done, 1 the command failed, 2 it was called wrongly."""
    parser = argparse.ArgumentParser(
        prog="otelflow",
        description="Flows and tasks as OpenTelemetry spans.",
        epilog="example:  otelflow demo .",
    )
    parser.add_argument("--version", action="version", version=f"otelflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo(commands)
    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except OtelflowError as error:
        print(f"otelflow: {error}", file=sys.stderr)
        return 1
