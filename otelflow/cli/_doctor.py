"""``otelflow doctor``: show why nothing arrives. The checks are in ``_doctor``."""

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
_LEAST_BYTES, _MOST_BYTES = 1000, 64 * 1024**2
"""The exporters refuse more than 64 MiB by themselves."""


def _bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int:
    """A number of bytes: ``4MiB``, ``500k``, ``1000000``."""
    if value is None:
        return 0
    match = re.fullmatch(r"(?i)\s*(\d+(?:\.\d+)?)\s*(|k|m|kib|mib)b?\s*", value)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if not _LEAST_BYTES <= size <= _MOST_BYTES:
        raise click.BadParameter(f"{value!r} is no size from 1k to 64MiB, like 500k or 4MiB.", context, parameter)
    return size


@click.command(
    "doctor",
    short_help="Say why nothing arrives, and what to do about it.",
    epilog="""\b
Examples:
  otelflow doctor
  otelflow doctor --endpoint http://collector:4317 --size 4MiB
  otelflow doctor --no-send --json
""",
)
@click.option("--endpoint", metavar="URL", help="Look at this endpoint, as configure(endpoint=...) would use it.")
@click.option("--protocol", type=click.Choice([GRPC, HTTP]), help="Speak this protocol, whatever the variables say.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 60, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of each step.",
)
@click.option("--no-send", is_flag=True, help="Do everything but send the canary.")
@click.option(
    "--size",
    callback=_bytes,
    metavar="BYTES",
    help="After the canary, send one request of about this size (4MiB, 500k), to find a limit of the receiver.",
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
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
    """Say why nothing arrives, and what to do about it.

    Looks at the settings and where each comes from, finds misspelt variables, then resolves the receiver's name,
    connects, and sends one span (the canary) through the exporter that configure() would make. The last line is the
    next step to take. Values of headers and passwords are never shown.

    Exit status: 0 all is well, 1 something is wrong (with --strict: or there is a warning), 2 called wrongly.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    if endpoint is not None:
        try:
            check_endpoint(endpoint, protocol == HTTP)
        except ConfigError:
            message = "no URL that can be called. Use one like http://localhost:4318."
            raise click.BadParameter(message, context, param_hint="--endpoint") from None
    try:
        report = diagnose(Options(endpoint, protocol, timeout, not no_send, size))
    except Exception as error:  # a bug of ours: whoever has trouble already needs no traceback
        report = Report()
        report.begin("doctor")
        report.wrong("doctor", f"the diagnosis itself fails: {type(error).__name__}", "Please report this as a bug.")
    if as_json:
        click.echo(json.dumps({"version": __version__, **report.to_dict(strict)}, indent=2))
    else:
        _show(report, strict)
    context.exit(1 if report.fails(strict) else 0)


def _show(report: Report, strict: bool) -> None:
    signs = _SIGNS if _can_print("✓✗…") else _PLAIN_SIGNS
    section, first = "", report.first(strict)
    for finding in report.findings:
        if finding.section != section:
            section = finding.section
            click.echo()
            _print(section, bold=True)
        source = f"  ({finding.source})" if finding.source else ""
        _print(f"{finding.name:{_NAME_WIDTH}} {finding.text}{source}", signs[finding.sign], _COLOURS[finding.sign])
        if finding.advice and finding is not first:  # of that one it is the last line
            _print(f"{'':{_NAME_WIDTH}} {finding.advice}", " ", dim=True)
    _conclude(report, signs, strict)


def _conclude(report: Report, signs: dict[str, str], strict: bool) -> None:
    """The last thing on the terminal: what is wrong, and what to do first."""
    errors, warnings, first = report.of(ERROR), report.of(WARNING), report.first(strict)
    counted = f"{len(warnings)} warning{'s' * (len(warnings) != 1)}" if warnings else ""
    if first is None:
        text = "the receiver took the canary" if report.trace_id else "nothing wrong was found"
        text += f", with {counted}" if counted else ""
    else:
        more = f"{len(errors) - 1} more" if len(errors) > 1 else ""
        others = ", ".join(part for part in (more, counted) if part)
        text = f"{first.name}: {first.text}{f' (and {others})' if others and errors else ''}"
    sign = first.sign if first is not None else WARNING if warnings else OK
    click.echo()
    _print(text, signs[sign], _COLOURS[sign], indent=2)
    if report.next_step(strict):
        _print(report.next_step(strict), "Next:", bold=True, indent=2)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def _print(
    text: str,
    sign: str = "",
    colour: str | None = None,
    *,
    indent: int = _NAME_WIDTH + 3,
    bold: bool = False,
    dim: bool = False,
) -> None:
    """A line after its sign. On a terminal it is wrapped to the width; elsewhere a line stays one, for ``grep``."""
    if not _can_print(text):
        text = text.encode("ascii", "backslashreplace").decode()
    lines = [f"{sign} {text}" if sign else text]
    if sys.stdout.isatty():
        width = max(shutil.get_terminal_size().columns, 40)
        lines = textwrap.wrap(
            lines[0], width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
    for number, line in enumerate(lines):
        marked = sign if number == 0 else ""
        click.echo(
            (click.style(marked, fg=colour, bold=bold or None) if marked.strip() else marked)
            + click.style(line[len(marked) :], bold=(bold and not sign) or None, dim=dim or None)
        )
