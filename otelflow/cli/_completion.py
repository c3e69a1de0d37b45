"""``otelflow completion``: words after TAB."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command(
    epilog="""\b
Examples:
  otelflow completion bash >> ~/.bashrc
  otelflow completion zsh >> ~/.zshrc
  otelflow completion fish > ~/.config/fish/completions/otelflow.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the words of otelflow's commands."""
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"click completes nothing for {shell}.")
    click.echo(found(ctx.find_root().command, {}, "otelflow", "_OTELFLOW_COMPLETE").source())
