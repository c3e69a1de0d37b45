"""``otelflow run``: run a program with OpenTelemetry set up and its configured functions instrumented."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click

from otelflow._instrument.bootstrap import child_environment, default_service_name, start
from otelflow._instrument.main_module import Program, load_module, load_script
from otelflow._instrument.registry import instrument_definition
from otelflow.cli._call_flow import call_flow
from otelflow.cli._outputs import Outputs
from otelflow.cli._program_command import ProgramCommand, find_executable
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["run"]

_OUR_FILES = (
    *(str(Path(file).parent) for file in (str(Path(__file__).parent), click.__file__)),
    "<frozen runpy",
)
_FLOW_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@click.command(
    cls=ProgramCommand,
    options_metavar="[OPTIONS]",
    epilog="""\b
Examples:
  otelflow run nightly.py --days 30
  otelflow run --html run.html shop.jobs:nightly 30 --dry-run
  otelflow run --no-tree -m shop.import_orders orders.csv
  otelflow run -- uvicorn shop.app:app --workers 2

Exit status: that of the program; 1 it cannot be run, 2 wrong usage.""",
)
@click.option("--config", metavar="FILE", help="Configuration file. Default: otelflow.toml, pyproject.toml.")
@click.option("--service-name", metavar="NAME", help="Service name. Default: OTEL_SERVICE_NAME, or the program's name.")
@click.option("--tree/--no-tree", default=None, help="Print each run as a tree. Default: on a terminal only.")
@click.option("--file", metavar="FILE", help="Append the spans to this file, as OTLP JSON lines.")
@click.option("--html", metavar="FILE", help="Write the runs to this HTML page after the program has ended.")
@click.argument("program", nargs=-1, type=click.Path(), metavar="(FILE.py | -m MODULE | MODULE:FLOW | -- COMMAND) ...")
def run(
    config: str | None,
    service_name: str | None,
    tree: bool | None,
    file: str | None,
    html: str | None,
    program: tuple[str, ...],
) -> Callable[[], Any]:
    """Run a program with OpenTelemetry set up and its functions instrumented.

    The program is a script, a module, a flow with its arguments, or a command. It needs no change. The OTEL_* variables
    configure OpenTelemetry. The functions that otelflow.toml in the current folder names become flows and tasks. For a
    command (uvicorn, gunicorn, celery, …), this applies to every Python process that it starts. With --tree, --file or
    --html, spans are sent only if a variable names a destination.
    """
    if config is not None:
        if not Path(config).is_file():
            raise ConfigError(f"--config {config!r} is not a file.")
        os.environ[OTELFLOW_CONFIG] = str(Path(config).resolve())
    _hide_our_frames()
    words, outputs = list(program), Outputs(tree, file, html)
    if words[:1] == ["--"] and len(words) > 1:
        _exec_command(words[1:], service_name, outputs)
    if words[:1] == ["-m"] and len(words) > 1:
        return _prepare_program(service_name, outputs, words[1:], load_module)
    if words and _FLOW_NAME.fullmatch(words[0]) and not Path(words[0]).exists():
        return _prepare_flow(service_name, outputs, words)
    if words and not words[0].startswith("-"):
        return _prepare_program(service_name, outputs, words, load_script)
    raise click.UsageError(
        "Nothing to run. Use: otelflow run FILE.py, otelflow run -m MODULE, otelflow run MODULE:FLOW, "
        "or otelflow run -- COMMAND."
    )


def _prepare_program(
    chosen_name: str | None, outputs: Outputs, words: list[str], load: Callable[[str], Program]
) -> Callable[[], None]:
    """Set everything up and return a function that runs the program. Call it after the command itself has returned.

    OpenTelemetry is set up before the program's folder is on the path. A file there may have the name of a module
    that an exporter imports.
    """
    name = words[0] if load is load_module else Path(words[0]).stem
    with outputs.set_up():
        start(chosen_name or default_service_name([name]), ("__main__", name, f"{name}.__main__"))
    program = load(words[0])
    return lambda: program.run([program.file if load is load_module else words[0], *words[1:]], instrument_definition)


def _prepare_flow(chosen_name: str | None, outputs: Outputs, words: list[str]) -> Callable[[], int]:
    """Set everything up and return a function that runs a flow, or a function as a flow, with its arguments."""
    with outputs.set_up():
        start(chosen_name or default_service_name(["", words[0]]))
    sys.path.insert(0, str(Path.cwd()))
    return lambda: call_flow(words[0], words[1:])


def _exec_command(command: list[str], name: str | None, outputs: Outputs) -> NoReturn:
    """Replace this process by the command, so that it gets all signals and sets the exit status."""
    if outputs.page is not None:
        raise ConfigError("--html needs a script, a module or a flow. For a command, use --file run.jsonl, and then "
                          "otelflow show run.jsonl --html run.html.")  # fmt: skip
    name = name or default_service_name(command)
    variables = {} if name is None else {"OTEL_SERVICE_NAME": name}
    if outputs.tree or outputs.file:  # several processes cannot share one live tree
        variables |= {**outputs.environment_variables(), "OTELFLOW_EXPORTER_TREE_LIVE": "false"}
    sys.stdout.flush()
    os.execve(find_executable(command[0]), command, child_environment(**variables))


def _hide_our_frames() -> None:
    """Remove otelflow's frames from the traceback of a failed program. The program may replace ``sys.excepthook``."""
    original_hook, command_globals = sys.excepthook, sys.modules["__main__"].__dict__

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        while traceback is not None and _is_our_frame(traceback, command_globals):
            traceback = traceback.tb_next
        original_hook(kind, error.with_traceback(traceback), traceback)

    sys.excepthook = show


def _is_our_frame(traceback: TracebackType, command_globals: dict[str, Any]) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    return file.startswith((*_OUR_FILES, runpy.__file__)) or traceback.tb_frame.f_globals is command_globals
