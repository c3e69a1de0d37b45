"""Commands that end with a program and its arguments, which are the program's alone."""

from __future__ import annotations

import shutil
from typing import Any

import click

from otelflow.errors import ConfigError

__all__ = ["Mistake", "ProgramCommand", "executable"]


class Mistake(click.UsageError):
    """A wrong call that is seen only when the program is about to run: one line and no traceback, as for any other."""


class ProgramCommand(click.Command):
    """A command with an argument ``program``: all words from the first one that is no option of the command's. Options
    that follow belong to the program, whatever they are called; ``-m`` begins a program, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, program = self._split(args)
        return super().parse_args(ctx, [*own, "--", *program])

    def _split(self, words: list[str]) -> tuple[list[str], list[str]]:
        alone = {
            name for option in self._options() if option.is_flag for name in (*option.opts, *option.secondary_opts)
        }
        position = 0
        while position < len(words):
            word = words[position]
            if word == "--" or not word.startswith("-") or word == "-m":
                break
            takes_value = word not in (*alone, "-h", "--help") and "=" not in word
            position += 2 if takes_value else 1
        return words[:position], words[position:]

    def _options(self) -> list[Any]:
        return [one for one in self.params if isinstance(one, click.Option)]


def executable(name: str) -> str:
    """The file of a command. Raises ConfigError where there is none."""
    found = shutil.which(name)
    if found is None:
        raise ConfigError(f"There is no command {name!r}. Name one that is on the PATH, or its file.")
    return found
