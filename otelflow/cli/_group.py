"""The group of all commands: those of this distribution, and those that others register."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from otelflow._version import __version__

__all__ = ["COMMANDS", "otelflow"]

COMMANDS = "otelflow_commands"
"""Entry-point group: each entry is a command of click's."""

_OWN = ("check", "completion", "demo", "doctor", "run")
_ELSEWHERE = {"show": "otelflow-exporters", "spool": "otelflow-exporters"}
"""Commands that another distribution brings."""


class _Commands(click.Group):
    """Loads a command when it is asked for: ``otelflow run`` stands between a service and its start."""

    def _registered(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=COMMANDS)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_OWN, *self._registered()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _OWN:
            loaded: Any = getattr(import_module(f"otelflow.cli._{cmd_name}"), cmd_name)
            return loaded  # type: ignore[no-any-return]
        entry = self._registered().get(cmd_name)
        if entry is None:
            return None
        try:
            return entry.load()  # type: ignore[no-any-return]
        except Exception as error:
            return _broken(cmd_name, f"{cmd_name!r} of {entry.value} cannot be loaded: {error}")

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        missing = _ELSEWHERE.get(args[0])
        if missing is not None and self.get_command(ctx, args[0]) is None:
            raise click.ClickException(f"{args[0]!r} comes with {missing}. Install it: pip install '{missing}[cli]'")
        return super().resolve_command(ctx, args)


def _broken(name: str, why: str) -> click.Command:
    """Stands for a command that cannot be loaded: the others have to work, and ``--help`` to list it."""

    def fail() -> None:
        raise click.ClickException(why)

    return click.Command(name, callback=fail, help=f"({why})", context_settings={"ignore_unknown_options": True})


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  otelflow demo .                            a flow over this folder, as a tree and as a page
  otelflow run nightly.py --days 30          a program, its functions instrumented by otelflow.toml
  otelflow show run.jsonl --status error     the failed runs of a file
  otelflow doctor                            why does nothing arrive?

Exit status: 0 done, 1 the command failed, 2 it was called wrongly, 130 interrupted.""",
)
@click.version_option(__version__, message="otelflow %(version)s")
def otelflow() -> None:
    """Flows and tasks as OpenTelemetry spans: run, look, check."""
