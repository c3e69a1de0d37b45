"""``otelflow run``: a program with OpenTelemetry set up and the functions of its configuration instrumented."""

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

from otelflow._instrument.bootstrap import environment, service_name, start
from otelflow._instrument.main_module import Program, module, script
from otelflow._instrument.registry import define
from otelflow.cli._call_flow import call
from otelflow.cli._outputs import Shown
from otelflow.cli._program_command import ProgramCommand, executable
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["run"]

_NOT_THE_PROGRAMS = (
    *(str(Path(file).parent) for file in (str(Path(__file__).parent), click.__file__)),
    "<frozen runpy",
)
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@click.command(
    cls=ProgramCommand,
    options_metavar="[OPTIONS]",
    epilog="""\b
Examples:
  otelflow run nightly.py --days 30
  otelflow run --html run.html shop.jobs:nightly 30 --dry-run
  otelflow run --no-tree -m shop.import_orders orders.csv
  otelflow run -- uvicorn shop.app:app --workers 2

Exit status: the program's own; 1 where it cannot be run, 2 called wrongly.""",
)
@click.option("--config", metavar="FILE", help="Configuration file. Default: otelflow.toml, pyproject.toml.")
@click.option("--service-name", metavar="NAME", help="Default: OTEL_SERVICE_NAME, or the program's name.")
@click.option("--tree/--no-tree", default=None, help="Print each run as a tree. Default: on a terminal, live.")
@click.option("--file", metavar="FILE", help="Append the spans to a file of OTLP JSON lines.")
@click.option("--html", metavar="FILE", help="Write the runs as one page when the program has ended.")
@click.argument("program", nargs=-1, type=click.Path(), metavar="(FILE.py | -m MODULE | MODULE:FLOW | -- COMMAND) ...")
def run(
    config: str | None,
    service_name: str | None,
    tree: bool | None,
    file: str | None,
    html: str | None,
    program: tuple[str, ...],
) -> Callable[[], Any]:
    """Run a program with OpenTelemetry set up, its functions instrumented by otelflow.toml.

    A script, a module, a flow with its arguments, or a command. OpenTelemetry is set up as its OTEL_* variables say,
    and the functions that otelflow.toml in the current folder names become flows and tasks. The program needs no
    change. Of a command (uvicorn, gunicorn, celery, …), every Python process that it starts is covered. Where --tree,
    --file or --html is given and no variable says where to send, nothing is sent.
    """
    if config is not None:
        if not Path(config).is_file():
            raise ConfigError(f"--config {config!r} is no file.")
        os.environ[OTELFLOW_CONFIG] = str(Path(config).resolve())
    _hide_our_frames()
    words, shown = list(program), Shown(tree, file, html)
    if words[:1] == ["--"] and len(words) > 1:
        _become(words[1:], service_name, shown)
    if words[:1] == ["-m"] and len(words) > 1:
        return _prepared(service_name, shown, words[1:], module)
    if words and _FUNCTION.fullmatch(words[0]) and not Path(words[0]).exists():
        return _function(service_name, shown, words)
    if words and not words[0].startswith("-"):
        return _prepared(service_name, shown, words, script)
    raise click.UsageError(
        "Nothing to run. Use: otelflow run FILE.py, otelflow run -m MODULE, otelflow run MODULE:FLOW, "
        "or otelflow run -- COMMAND."
    )


def _prepared(
    given_name: str | None, shown: Shown, words: list[str], load: Callable[[str], Program]
) -> Callable[[], None]:
    """Everything is ready; to be called when nothing of the command's is on the way any more.

    OpenTelemetry is set up before the program's folder is on the path: a file there may be named like a module that
    an exporter imports.
    """
    name = words[0] if load is module else Path(words[0]).stem
    with shown.set_up():
        start(given_name or service_name([name]), ("__main__", name, f"{name}.__main__"))
    program = load(words[0])
    return lambda: program.run([program.file if load is module else words[0], *words[1:]], define)


def _function(given_name: str | None, shown: Shown, words: list[str]) -> Callable[[], int]:
    """A flow, or a function as a flow, with arguments from the command line."""
    with shown.set_up():
        start(given_name or service_name(["", words[0]]))
    sys.path.insert(0, str(Path.cwd()))
    return lambda: call(words[0], words[1:])


def _become(words: list[str], name: str | None, shown: Shown) -> NoReturn:
    """Replace this process by the command: signals and the exit status are its own."""
    if shown.page is not None:
        raise ConfigError("--html goes with a script, a module or a flow. For a command: --file run.jsonl, and then "
                          "otelflow show run.jsonl --html run.html.")  # fmt: skip
    name = name or service_name(words)
    more = {} if name is None else {"OTEL_SERVICE_NAME": name}
    if shown.tree or shown.file:  # several processes at once draw nothing live
        more |= {**shown.variables(), "OTELFLOW_EXPORTER_TREE_LIVE": "false"}
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
    return file.startswith((*_NOT_THE_PROGRAMS, runpy.__file__)) or traceback.tb_frame.f_globals is command
