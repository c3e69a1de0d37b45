"""``otelflow doctor``: find out why no spans arrive. The checks are in ``otelflow._doctor``."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap

import click

from otelflow._doctor.diagnose import Options, diagnose
from otelflow._doctor.report import ERROR, OK, SKIPPED, WARNING, Report
from otelflow._otlp.endpoint import GRPC, HTTP, check_endpoint
from otelflow._version import __version__
from otelflow.errors import ConfigError

__all__ = ["doctor"]

_SIGNS = {OK: "✓", WARNING: "!", ERROR: "✗", SKIPPED: "-"}
_PLAIN_SIGNS = {OK: "+", WARNING: "!", ERROR: "x", SKIPPED: "-"}
_COLOURS = {OK: "green", WARNING: "yellow", ERROR: "red", SKIPPED: None}
_NAME_WIDTH = 15
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "kib": 1024, "mib": 1024**2}
_MIN_BYTES, _MAX_BYTES = 1000, 64 * 1024**2
"""Limits of --size. The exporters refuse requests of more than 64 MiB."""


def _parse_size(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """Return a number of bytes: ``4MiB``, ``500k``, ``1000000``."""
    if value is None:
        return 0
    match = re.fullmatch(r"(?i)\s*(\d+(?:\.\d+)?)\s*(|k|m|kib|mib)b?\s*", value)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not _MIN_BYTES <= size <= _MAX_BYTES:
        raise click.BadParameter(f"{value!r} is not a size from 1k to 64MiB. Examples: 500k, 4MiB.", context, parameter)
    return size


@click.command(
    "doctor",
    short_help="Find out why no spans arrive, and what to do.",
    epilog="""\b
Examples:
  otelflow doctor
  otelflow doctor --endpoint http://collector:4317 --size 4MiB
  otelflow doctor --no-send --json
""",
)
@click.option("--endpoint", metavar="URL", help="Check this endpoint, as configure(endpoint=...) would use it.")
@click.option("--protocol", type=click.Choice([GRPC, HTTP]), help="Use this protocol instead of the configured one.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 60, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of each step.",
)
@click.option("--no-send", is_flag=True, help="Send no test span; run the other checks.")
@click.option(
    "--size",
    callback=_parse_size,
    metavar="BYTES",
    help="Also send one request of about this size (4MiB, 500k), to find a limit of the receiver.",
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def doctor(
    context: click.Context,
    *,
    endpoint: str | None,
    protocol: str | None,
    timeout: float,
    no_send: bool,
    size: int,
    strict: bool,
    as_json: bool,
) -> None:
    """Find out why no spans arrive, and what to do.

    Prints the settings and their sources, finds misspelt variables, then resolves the receiver's name, connects, and
    sends one test span (the canary) through the exporter that configure() would make. The last line is the next step
    to take. Values of headers and passwords are never shown.

    Exit status: 0 no errors; 1 an error (with --strict: or a warning); 2 wrong usage.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    if endpoint is not None:
        try:
            check_endpoint(endpoint, protocol == HTTP)
        except ConfigError:
            message = "not a valid URL. Use one like http://localhost:4318."
            raise click.BadParameter(message, context, param_hint="--endpoint") from None
    try:
        report = diagnose(Options(endpoint, protocol, timeout, not no_send, size))
    except Exception as error:  # a bug in otelflow: a traceback would not help here
        report = Report()
        report.begin("doctor")
        report.error("doctor", f"the diagnosis itself failed: {type(error).__name__}", "Please report this as a bug.")
    if as_json:
        click.echo(json.dumps({"version": __version__, **report.to_dict(strict)}, indent=2))
    else:
        _print_report(report, strict)
    context.exit(1 if report.fails(strict) else 0)


def _print_report(report: Report, strict: bool) -> None:
    signs = _SIGNS if _can_print("✓✗…") else _PLAIN_SIGNS
    section, first = "", report.first(strict)
    for finding in report.findings:
        if finding.section != section:
            section = finding.section
            click.echo()
            _print_line(section, bold=True)
        source = f"  ({finding.source})" if finding.source else ""
        _print_line(f"{finding.name:{_NAME_WIDTH}} {finding.text}{source}", signs[finding.sign], _COLOURS[finding.sign])
        if finding.advice and finding is not first:  # the last line of the output has the first finding's advice
            _print_line(f"{'':{_NAME_WIDTH}} {finding.advice}", " ", dim=True)
    _print_conclusion(report, signs, strict)


def _print_conclusion(report: Report, signs: dict[str, str], strict: bool) -> None:
    """Print the conclusion: the most important problem, and the next step."""
    errors, warnings, first = report.with_sign(ERROR), report.with_sign(WARNING), report.first(strict)
    warning_count = f"{len(warnings)} warning{'s' * (len(warnings) != 1)}" if warnings else ""
    if first is None:
        text = "the receiver accepted the canary" if report.trace_id else "no problems found"
        text += f", with {warning_count}" if warning_count else ""
    else:
        error_count = f"{len(errors) - 1} more" if len(errors) > 1 else ""
        others = ", ".join(part for part in (error_count, warning_count) if part)
        text = f"{first.name}: {first.text}{f' (and {others})' if others and errors else ''}"
    sign = first.sign if first is not None else WARNING if warnings else OK
    click.echo()
    _print_line(text, signs[sign], _COLOURS[sign], indent=2)
    if report.next_step(strict):
        _print_line(report.next_step(strict), "Next:", bold=True, indent=2)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def _print_line(
    text: str,
    sign: str = "",
    colour: str | None = None,
    *,
    indent: int = _NAME_WIDTH + 3,
    bold: bool = False,
    dim: bool = False,
) -> None:
    """Print a line after its sign. It is wrapped on a terminal only: elsewhere it stays one line, for ``grep``."""
    if not _can_print(text):
        text = text.encode("ascii", "backslashreplace").decode()
    lines = [f"{sign} {text}" if sign else text]
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, 40)
        lines = textwrap.wrap(
            lines[0], width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
    for number, line in enumerate(lines):
        prefix = sign if number == 0 else ""
        click.echo(
            (click.style(prefix, fg=colour, bold=bold or None) if prefix.strip() else prefix)
            + click.style(line[len(prefix) :], bold=(bold and not sign) or None, dim=dim or None)
        )
