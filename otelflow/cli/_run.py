"""``otelflow run``: a program with OpenTelemetry set up and the functions of its configuration instrumented."""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from otelflow._installed import define
from otelflow._main_module import Program, module, script
from otelflow._start import environment, service_name, start
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["add_run", "executable", "split_at_program"]

_PACKAGE = str(Path(__file__).parent.parent)


def add_run(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        usage="otelflow run [--config FILE] [--service-name NAME] (FILE.py | -m MODULE | -- COMMAND) [ARGUMENT ...]",
        help="run a program with OpenTelemetry set up, its functions instrumented by otelflow.toml",
        description="Run a script, a module or a command with OpenTelemetry set up as its OTEL_* variables say, and "
        "with the functions that otelflow.toml in the current folder names as flows and tasks. The program needs no "
        "change. Of a command (uvicorn, gunicorn, celery, …), every Python process that it starts is covered.",
        epilog="examples:  otelflow run nightly.py --days 30;  otelflow run -- uvicorn shop.app:app --workers 2",
    )
    parser.add_argument("--config", metavar="FILE", help="configuration file; default: otelflow.toml, pyproject.toml")
    parser.add_argument("--service-name", metavar="NAME", help="default: OTEL_SERVICE_NAME, or the program's name")
    parser.set_defaults(run=_run)


def split_at_program(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and the words from the program on, which belong to it: argparse would take ``-m``
    and the program's options for its own."""
    position = 1
    while position < len(arguments) and arguments[position].startswith("--") and arguments[position] != "--":
        position += 1 if "=" in arguments[position] or arguments[position] == "--help" else 2
    if arguments[position : position + 1] == ["-h"]:
        return arguments, []
    return arguments[:position], arguments[position:]


def _run(given: argparse.Namespace) -> Callable[[], None]:
    if given.config is not None:
        if not Path(given.config).is_file():
            raise ConfigError(f"--config {given.config!r} is no file.")
        os.environ[OTELFLOW_CONFIG] = str(Path(given.config).resolve())
    _hide_our_frames()
    words: list[str] = given.program
    if words[:1] == ["--"] and len(words) > 1:
        _become(words[1:], given.service_name)
    if words[:1] == ["-m"] and len(words) > 1:
        return _prepared(given, words[1:], module)
    if words and not words[0].startswith("-"):
        return _prepared(given, words, script)
    raise ConfigError("Nothing to run. Use: otelflow run FILE.py, otelflow run -m MODULE, or otelflow run -- COMMAND.")


def _prepared(given: argparse.Namespace, words: list[str], load: Callable[[str], Program]) -> Callable[[], None]:
    """Everything is ready; to be called when nothing of the command's is on the way any more.

    OpenTelemetry is set up before the program's folder is on the path: a file there may be named like a module that
    an exporter imports.
    """
    name = words[0] if load is module else Path(words[0]).stem
    start(given.service_name or service_name([name]), ("__main__", name, f"{name}.__main__"))
    program = load(words[0])
    return lambda: program.run([program.file if load is module else words[0], *words[1:]], define)


def executable(name: str) -> str:
    """The file of a command. Raises ConfigError where there is none."""
    found = shutil.which(name)
    if found is None:
        raise ConfigError(f"There is no command {name!r}. Name one that is on the PATH, or its file.")
    return found


def _become(words: list[str], name: str | None) -> NoReturn:
    """Replace this process by the command: signals and the exit status are its own."""
    name = name or service_name(words)
    more = {} if name is None else {"OTEL_SERVICE_NAME": name}
    sys.stdout.flush()
    os.execve(executable(words[0]), words, environment(**more))


def _hide_our_frames() -> None:
    """A program that fails shows its traceback as without us. Its own ``sys.excepthook`` has the last word."""
    before, ours = sys.excepthook, sys.modules["__main__"].__dict__

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        while traceback is not None and _is_of(traceback, ours):
            traceback = traceback.tb_next
        before(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = show


def _is_of(traceback: TracebackType, command: dict[str, Any]) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    return file.startswith((_PACKAGE, "<frozen runpy", runpy.__file__)) or traceback.tb_frame.f_globals is command
