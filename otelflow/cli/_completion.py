"""``otelflow completion``: shell completion with TAB."""

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
    """Print the script that completes otelflow's commands in SHELL."""
    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.ClickException(f"click has no completion for {shell}.")
    click.echo(completion_class(ctx.find_root().command, {}, "otelflow", "_OTELFLOW_COMPLETE").source())
