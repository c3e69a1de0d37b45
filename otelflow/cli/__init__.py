"""The command ``otelflow``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from otelflow.errors import OtelflowError

__all__ = ["main"]

INTERRUPTED = 128 + 2
"""Exit status after Ctrl-C, as a shell shows it of other commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit status: 0 done, 1 the command failed, 2 it was called wrongly, 130 interrupted."""
    try:
        import click

        from otelflow.cli._group import otelflow
        from otelflow.cli._program_command import Mistake
    except ModuleNotFoundError as missing:
        if missing.name not in ("click", "rich"):
            raise
        print(f"otelflow: the command needs {missing.name}. Install it: pip install 'otelflow[cli]'", file=sys.stderr)
        return 1
    try:
        done: int | Callable[[], int | None] | None = otelflow.main(arguments, "otelflow", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _say(error.format_message(), getattr(error, "ctx", None), error.exit_code)
    except OtelflowError as error:
        return _say(str(error), None, 1)
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has gone; click ends so where it sees it first
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if not callable(done):
        return int(done or 0)
    try:
        return int(done() or 0)  # a program: what it raises is its own
    except Mistake as error:
        return _say(error.format_message(), error.ctx, error.exit_code)


def _say(message: str, context: object, status: int) -> int:
    """One line about a mistake, with where to read more for a wrong call."""
    path = getattr(context, "command_path", None)
    more = f" See: {path} --help" if path is not None and status == 2 else ""
    print(f"{path or 'otelflow'}: {' '.join(message.split())}{more}", file=sys.stderr)
    return status
