"""``otelflow check``: report what a configuration matches in the installed code, for people and for CI."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from otelflow._instrument.bootstrap import OTELFLOW_PROFILE, child_environment
from otelflow._instrument.call_profile import CallCount, read_profile
from otelflow._instrument.config_file import CONFIG_FILE, find_config_file, read_config_file
from otelflow._instrument.dry_run import Finding, dry_run, load_contrib
from otelflow._instrument.targets import Target
from otelflow.cli._program_command import ProgramCommand, find_executable
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import ConfigError

__all__ = ["check"]

_MAX_FUNCTIONS = 4
_SCHEMA = Path(__file__).parent.parent / "otelflow.schema.json"


@click.command(
    cls=ProgramCommand,
    options_metavar="[--config FILE] [--strict] [--schema] [--profile -- COMMAND [ARGUMENT ...]]",
    epilog="""\b
Example:
  otelflow check --profile -- python -m shop.import_orders orders.csv

Exit status: 0 no errors; 1 a target has an error (with --strict: or a warning); 2 wrong usage.""",
)
@click.option(
    "--config", metavar="FILE", help="Configuration file. Default: OTELFLOW_CONFIG, otelflow.toml, pyproject.toml."
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of the configuration file, for editors, and exit.")
@click.option("--profile", is_flag=True, help="Run the COMMAND after -- and count the calls of the functions.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="")
def check(config: str | None, strict: bool, schema: bool, profile: bool, program: tuple[str, ...]) -> int:
    """Show what otelflow.toml matches in the installed code.

    Loads the configuration, imports the modules that it names (the current folder is on the path), and prints the
    matches of each target. With --profile, runs a command, counts the calls of each function, and marks functions that
    are called in a tight loop. Nothing is sent.
    """
    if schema:
        print(_SCHEMA.read_text(), end="")
        return 0
    if program[:1] == ("--",):
        program = program[1:]
    elif program:
        raise click.UsageError(f"Got unexpected word {program[0]!r}. Put a command after --.")
    path = Path(config) if config is not None else find_config_file()
    if path is None:
        raise ConfigError(
            f"There is no configuration here: no {CONFIG_FILE}, no pyproject.toml with [tool.otelflow]. "
            "Use --config FILE."
        )
    if profile != bool(program):
        raise ConfigError("Use --profile together with a command: otelflow check --profile -- COMMAND.")
    return _run_check(path, strict, list(program))


def _run_check(path: Path, strict: bool, program: list[str]) -> int:
    sys.path.insert(0, str(Path.cwd()))
    settings = read_config_file(path)
    for problem in settings.problems:
        print(f"✗ {problem}")
    load_contrib()
    findings = dry_run(settings.targets)
    for finding in findings:
        _print_finding(finding)
    failed = bool(settings.problems) or any(finding.errors for finding in findings)
    warned = any(finding.warnings for finding in findings)
    if program:
        warned |= _run_profile(program, path, settings.targets)
    wrapped = sum(len(finding.functions) for finding in findings)
    print(f"{path}: {len(settings.targets)} targets, {wrapped} functions")
    return 1 if failed or (warned and strict) else 0


def _print_finding(finding: Finding) -> None:
    target, functions, errors, warnings = finding
    line = "" if target.place.line is None else f"{target.place.line:>4}  "
    sign = "✗" if errors else "!" if warnings else "✓"
    if functions == [str(target)]:
        matches = ""
    else:
        more = f", … {len(functions) - _MAX_FUNCTIONS} more" if len(functions) > _MAX_FUNCTIONS else ""
        matches = f"  {len(functions)} functions: {', '.join(functions[:_MAX_FUNCTIONS])}{more}" if functions else ""
    if target.module == "__main__":
        matches = "  (of __main__: only `otelflow run` can instrument it)"
    print(f"{sign} {line}{target.kind}  {target}{matches}")
    for text in (*errors, *warnings):
        print(f"        {text}")


def _run_profile(command: list[str], path: Path, targets: list[Target]) -> bool:
    """Run the command and print the call counts. Returns whether a function is hot."""
    with _temporary_folder() as folder:
        variables = {OTELFLOW_PROFILE: folder, OTELFLOW_CONFIG: str(path.resolve())}
        status = _wait_for(
            subprocess.Popen([find_executable(command[0]), *command[1:]], env=child_environment(**variables))
        )
        profile = read_profile(Path(folder))
    print(f"profile of {' '.join(command)!r} (exit status {status}):")
    if not profile:
        print("        no function of the configuration was called")
    for (target, function), calls in sorted(profile.items(), key=lambda item: -item[1].calls):
        place = next((item.place for item in targets if str(item) == target), target)
        print(f"{'!' if calls.is_hot else '✓'} {calls.calls:>9,} calls  {function}  {_rate_text(calls)}")
        if calls.is_hot:
            print(f"        hot: a span for each call costs too much. Remove {place}, or set min_duration for a task")
    return any(calls.is_hot for calls in profile.values())


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str]:
    """Yield a temporary folder. Retry its removal: a process that outlives the command may still write into it."""
    folder = tempfile.mkdtemp(prefix="otelflow-profile-")
    try:
        yield folder
    finally:
        for _ in range(10):
            shutil.rmtree(folder, ignore_errors=True)
            if not Path(folder).exists():
                break


def _rate_text(calls: CallCount) -> str:
    average = "" if calls.seconds is None else f", {calls.seconds / calls.calls * 1e6:,.1f} µs each"
    return f"up to {calls.max_per_second:,} in one second{average}"


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    """Return the command's exit status. Ctrl-C reaches the command as well, so keep waiting for it."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue
