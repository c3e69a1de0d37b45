"""The command ``otelflow``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from otelflow.errors import OtelflowError

__all__ = ["main"]

INTERRUPTED = 128 + 2
"""Exit status after Ctrl-C, as shells report it: 128 plus the number of SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command ``otelflow``.

    Args:
        arguments: Words of the command line after ``otelflow``. Default: those of ``sys.argv``.

    Returns:
        The exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted; that of a program that was run.
    """
    try:
        import click

        from otelflow.cli._group import otelflow
        from otelflow.cli._program_command import ProgramUsageError
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        print(f"otelflow: this command needs {error.name}. Install it: pip install 'otelflow[cli]'", file=sys.stderr)
        return 1
    try:
        result: int | Callable[[], int | None] | None = otelflow.main(arguments, "otelflow", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _print_error(error.format_message(), getattr(error, "ctx", None), error.exit_code)
    except OtelflowError as error:
        return _print_error(str(error), None, 1)
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed the pipe; click also exits with 1 then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if not callable(result):
        return int(result or 0)
    try:
        return int(result() or 0)  # a program: its exceptions propagate
    except ProgramUsageError as error:
        return _print_error(error.format_message(), error.ctx, error.exit_code)


def _print_error(message: str, context: object, status: int) -> int:
    """Print one line about an error, with a pointer to the help for wrong usage. Returns ``status``."""
    path = getattr(context, "command_path", None)
    more = f" See: {path} --help" if path is not None and status == 2 else ""
    print(f"{path or 'otelflow'}: {' '.join(message.split())}{more}", file=sys.stderr)
    return status
