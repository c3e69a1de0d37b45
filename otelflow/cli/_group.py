"""Command group ``otelflow``: commands of this distribution, and those that other distributions register."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from otelflow._version import __version__

__all__ = ["COMMANDS", "otelflow"]

COMMANDS = "otelflow_commands"
"""Entry-point group of commands. Each entry is a ``click.Command``."""

_OWN_COMMANDS = ("check", "completion", "demo", "doctor", "run")
_DISTRIBUTION_OF = {"show": "otelflow-exporters", "spool": "otelflow-exporters"}
"""Commands of other distributions, for the error message if one is not installed."""


class _Commands(click.Group):
    """Command group that loads a command only when it is needed: ``otelflow run`` delays the start of a service."""

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=COMMANDS)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_OWN_COMMANDS, *self._entry_points()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _OWN_COMMANDS:
            command: Any = getattr(import_module(f"otelflow.cli._{cmd_name}"), cmd_name)
            return command  # type: ignore[no-any-return]
        entry = self._entry_points().get(cmd_name)
        if entry is None:
            return None
        try:
            return entry.load()  # type: ignore[no-any-return]
        except Exception as error:
            return _failing_command(cmd_name, f"{cmd_name!r} of {entry.value} cannot be loaded: {error}")

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        distribution = _DISTRIBUTION_OF.get(args[0])
        if distribution is not None and self.get_command(ctx, args[0]) is None:
            raise click.ClickException(
                f"{args[0]!r} is part of {distribution}. Install it: pip install '{distribution}[cli]'"
            )
        return super().resolve_command(ctx, args)


def _failing_command(name: str, reason: str) -> click.Command:
    """Return a placeholder for a command that cannot be loaded, so that ``--help`` and other commands work."""

    def fail() -> None:
        raise click.ClickException(reason)

    return click.Command(name, callback=fail, help=f"({reason})", context_settings={"ignore_unknown_options": True})


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  otelflow demo .                            analyse this folder as a flow; show its tree and page
  otelflow run nightly.py --days 30          run a program; instrument the functions in otelflow.toml
  otelflow show run.jsonl --status error     show the failed runs in a file
  otelflow doctor                            find out why no spans arrive

Exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted.""",
)
@click.version_option(__version__, message="otelflow %(version)s")
def otelflow() -> None:
    """Run programs with flows and tasks as OpenTelemetry spans, show their runs, and check the setup."""
