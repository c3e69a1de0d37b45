"""The command ``otelflow``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from otelflow._version import __version__
from otelflow.cli._check import add_check
from otelflow.cli._demo import add_demo
from otelflow.cli._run import add_run, split_at_program
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
    add_check(commands)
    add_demo(commands)
    add_run(commands)
    own, program = _split(sys.argv[1:] if arguments is None else list(arguments))
    given = parser.parse_args(own)
    given.program = program
    try:
        done = given.run(given)
    except OtelflowError as error:
        print(f"otelflow: {error}", file=sys.stderr)
        return 1
    if callable(done):  # a program: what it raises is its own
        done()
        return 0
    return int(done)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and those of a program that it is to run."""
    if arguments[:1] == ["run"]:
        return split_at_program(arguments)
    if arguments[:1] == ["check"] and "--" in arguments:
        position = arguments.index("--")
        return arguments[:position], arguments[position + 1 :]
    return arguments, []
