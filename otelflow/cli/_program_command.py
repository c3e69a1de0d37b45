"""Base of commands that end with a program and the program's own arguments."""

from __future__ import annotations

import shutil
from typing import Any

import click

from otelflow.errors import ConfigError

__all__ = ["ProgramCommand", "ProgramUsageError", "find_executable"]


class ProgramUsageError(click.UsageError):
    """Wrong usage that is found only when the program is about to run. It is printed as one line, without traceback."""


class ProgramCommand(click.Command):
    """Command with an argument ``program``: all words from the first word that is not an option of the command.

    Later options belong to the program, even if the command has options of the same name. ``-m`` also starts the
    program.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, program = self._split(args)
        return super().parse_args(ctx, [*options, "--", *program])

    def _split(self, words: list[str]) -> tuple[list[str], list[str]]:
        flags = {
            name
            for option in self._option_parameters()
            if option.is_flag
            for name in (*option.opts, *option.secondary_opts)
        }
        position = 0
        while position < len(words):
            word = words[position]
            if word == "--" or not word.startswith("-") or word == "-m":
                break
            takes_value = word not in (*flags, "-h", "--help") and "=" not in word
            position += 2 if takes_value else 1
        return words[:position], words[position:]

    def _option_parameters(self) -> list[Any]:
        return [item for item in self.params if isinstance(item, click.Option)]


def find_executable(name: str) -> str:
    """Return the file of a command. Raises ConfigError if there is none."""
    path = shutil.which(name)
    if path is None:
        raise ConfigError(f"There is no command {name!r}. Use a command on the PATH, or the path of its file.")
    return path
