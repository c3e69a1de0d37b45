"""``otelflow check``: what a configuration would do to the installed code, for a person and for CI."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from otelflow._instrument.bootstrap import OTELFLOW_PROFILE, environment
from otelflow._instrument.call_profile import CallCount, read_profile
from otelflow._instrument.config_file import FILE, find_config_file, read_config_file
from otelflow._instrument.dry_run import Finding, dry_run, load_contrib
from otelflow._instrument.targets import Target
from otelflow.cli._program_command import ProgramCommand, executable
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["check"]

_SHOWN = 4
_SCHEMA = Path(__file__).parent.parent / "otelflow.schema.json"


@click.command(
    cls=ProgramCommand,
    options_metavar="[--config FILE] [--strict] [--schema] [--profile -- COMMAND [ARGUMENT ...]]",
    epilog="""\b
Example:
  otelflow check --profile -- python -m shop.import_orders orders.csv

Exit status: 0 all is well; 1 a target comes to nothing (with --strict: or there is a warning); 2 called wrongly.""",
)
@click.option("--config", metavar="FILE", help="Default: OTELFLOW_CONFIG, otelflow.toml, pyproject.toml.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the file, for editors, and end.")
@click.option("--profile", is_flag=True, help="Run the COMMAND after --, and count calls.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="")
def check(config: str | None, strict: bool, schema: bool, profile: bool, program: tuple[str, ...]) -> int:
    """Say what otelflow.toml matches in the installed code, and what it does not.

    Loads the configuration, imports what it names (the current folder is on the path), and says for each target what
    it matches. With --profile, runs a command, counts how often the functions are called, and says which are called in
    a tight loop. Nothing is sent.
    """
    if schema:
        print(_SCHEMA.read_text(), end="")
        return 0
    if program[:1] == ("--",):
        program = program[1:]
    elif program:
        raise click.UsageError(f"Got {program[0]!r}, and takes no words but those of a command after --.")
    path = Path(config) if config is not None else find_config_file()
    if path is None:
        raise ConfigError(f"There is no configuration here: no {FILE}, no pyproject.toml with [tool.otelflow].")
    if profile != bool(program):
        raise ConfigError("--profile and a command belong together: otelflow check --profile -- COMMAND.")
    return _check(path, strict, list(program))


def _check(path: Path, strict: bool, program: list[str]) -> int:
    sys.path.insert(0, str(Path.cwd()))
    settings = read_config_file(path)
    for problem in settings.problems:
        print(f"✗ {problem}")
    load_contrib()
    findings = dry_run(settings.targets)
    for finding in findings:
        _show(finding)
    failed = bool(settings.problems) or any(one.errors for one in findings)
    warned = any(one.warnings for one in findings)
    if program:
        warned |= _profile(program, path, settings.targets)
    wrapped = sum(len(one.functions) for one in findings)
    print(f"{path}: {len(settings.targets)} targets, {wrapped} functions")
    return 1 if failed or (warned and strict) else 0


def _show(finding: Finding) -> None:
    target, functions, errors, warnings = finding
    line = "" if target.place.line is None else f"{target.place.line:>4}  "
    sign = "✗" if errors else "!" if warnings else "✓"
    if functions == [str(target)]:
        matches = ""
    else:
        more = f", … {len(functions) - _SHOWN} more" if len(functions) > _SHOWN else ""
        matches = f"  {len(functions)} functions: {', '.join(functions[:_SHOWN])}{more}" if functions else ""
    if target.module == "__main__":
        matches = "  of the program's own file: seen by `otelflow run` only"
    print(f"{sign} {line}{target.kind}  {target}{matches}")
    for text in (*errors, *warnings):
        print(f"        {text}")


def _profile(command: list[str], path: Path, targets: list[Target]) -> bool:
    """Run the command and say what was called how often; returns whether something is hot."""
    with _folder() as folder:
        more = {OTELFLOW_PROFILE: folder, OTELFLOW_CONFIG: str(path.resolve())}
        status = _wait(subprocess.Popen([executable(command[0]), *command[1:]], env=environment(**more)))
        counted = read_profile(Path(folder))
    print(f"profile of {' '.join(command)!r} (exit status {status}):")
    if not counted:
        print("        nothing that the configuration names was called")
    for (target, function), calls in sorted(counted.items(), key=lambda one: -one[1].calls):
        place = next((one.place for one in targets if str(one) == target), target)
        print(f"{'!' if calls.is_hot else '✓'} {calls.calls:>9,} calls  {function}  {_rate(calls)}")
        if calls.is_hot:
            print(f"        hot: a span for each call is dear. Take it out of {place}, or give a task min_duration")
    return any(calls.is_hot for calls in counted.values())


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A temporary folder. A process that outlives the command may write into it while it is being removed."""
    made = tempfile.mkdtemp(prefix="otelflow-profile-")
    try:
        yield made
    finally:
        for _ in range(10):
            shutil.rmtree(made, ignore_errors=True)
            if not Path(made).exists():
                break


def _rate(calls: CallCount) -> str:
    took = "" if calls.seconds is None else f", {calls.seconds / calls.calls * 1e6:,.1f} µs each"
    return f"up to {calls.busiest:,} in one second{took}"


def _wait(process: subprocess.Popen[bytes]) -> int:
    """The command's exit status. Ctrl-C reaches it as well: what it does then is waited for."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
