"""Command ``otelflow show``: print the runs in a file as trees, a list or JSON, or write them as a page."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any

import click

from otelflow_exporters._terminal.render import render
from otelflow_exporters._terminal.text import Style, clean, duration, style_for
from otelflow_exporters._trace.file_index import Index, Source, Trace, UnreadableFile
from otelflow_exporters._trace.filters import Filters, as_moment, as_seconds
from otelflow_exporters._trace.markers import without_markers
from otelflow_exporters._trace.span import Span

__all__ = ["show"]


class _ParsedText(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since 8.3
    """The type of an option whose text a function parses. The function raises ValueError for wrong text."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _pair(text: str) -> tuple[str, str | None]:
    key, separator, value = text.partition("=")
    return key, value if separator else None


_SECONDS = _ParsedText("duration", as_seconds)
_MOMENT = _ParsedText("time", as_moment)
_PAIR = _ParsedText("key=value", _pair)


@click.command(
    epilog="""\b
Examples:
  otelflow show run.jsonl
  otelflow show run.jsonl --list --since 2h --status error
  otelflow show run.jsonl --attribute 'customer=A-*' --min-duration 500ms --messages
  otelflow show run.jsonl --last 1 --html run.html
  kubectl logs job/nightly | otelflow show -

Exit status: 0 success, even if no run matches; 1 a file cannot be read; 2 wrong usage."""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="FILE...")
@click.option(
    "--flow",
    "flows",
    multiple=True,
    metavar="NAME",
    help="Only runs of this flow or with this root span. NAME may be a pattern such as 'night*'.",
)
@click.option(
    "--status",
    type=click.Choice(["error", "completed", "failed", "cancelled"]),
    help="Only runs that ended so; error: some span of the run failed.",
)
@click.option(
    "--min-duration",
    "shortest",
    type=_SECONDS,
    default="0",
    help="Only runs of at least this duration: 250ms, 2s, 1h.",
    metavar="DURATION",
)
@click.option(
    "--max-duration", "longest", type=_SECONDS, help="Only runs of at most this duration.", metavar="DURATION"
)
@click.option(
    "--attribute",
    "attributes",
    type=_PAIR,
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Only runs with this attribute on some span. VALUE may be a pattern.",
)
@click.option(
    "--since",
    type=_MOMENT,
    default=None,
    metavar="TIME",
    help="Only runs that started then or later: 2026-11-23T10:00, or 2h for two hours ago.",
)
@click.option("--until", type=_MOMENT, default=None, metavar="TIME", help="Only runs that started before.")
@click.option("--trace", "ids", multiple=True, metavar="ID", help="Only runs whose trace id begins with this.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the newest N of the matching runs.")
@click.option("--list", "as_list", is_flag=True, help="Print one line for each run.")
@click.option("--messages", is_flag=True, help="Print messages too.")
@click.option("--artifacts", is_flag=True, help="Print artifacts and results too.")
@click.option("--json", "as_json", is_flag=True, help="Print one span on each line, as JSON.")
@click.option("--html", metavar="FILE", help="Write an HTML page to FILE; - is standard output.")
def show(**options: Any) -> int:
    """Show the runs in files of spans: OTLP JSON (one document, or one on each line), or Jaeger JSON.

    FILE is a path, or - for standard input. Each run (trace) is printed as a tree, in the order of their start. Broken
    lines are skipped and counted: a process that is killed may leave one. Files may be larger than memory.
    """
    with ExitStack() as stack:
        try:
            names = dict.fromkeys(options["files"])  # a file that is named twice must not be shown twice
            index = Index([stack.enter_context(closing(Source(name, sys.stdin.buffer))) for name in names])
            _print_runs(index, _select(index, options), options)
        except UnreadableFile as error:
            raise click.ClickException(str(error)) from None
    return 0


def _select(index: Index, options: dict[str, Any]) -> list[Trace]:
    filters = Filters(
        options["flows"],
        options["status"],
        options["shortest"],
        float("inf") if options["longest"] is None else options["longest"],
        options["attributes"],
        options["since"] or 0,
        options["until"],
        options["ids"],
    )
    index.read(filters.match_bits_of if filters.flows or filters.attributes else None)
    traces = sorted(filter(filters.accepts, index.traces.values()), key=lambda trace: trace.start)
    traces = traces[-options["last"] :] if options["last"] else traces
    _report(index, traces)
    return traces


def _json_line(span: Span) -> str:
    plain = span.to_json()
    line = json.dumps(plain, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:  # a lone surrogate, or an output that is not in UTF-8
        return json.dumps(plain)
    return line


def _print_runs(index: Index, traces: list[Trace], options: dict[str, Any]) -> None:
    if options["html"] is not None:
        _write_page(index, traces, options["html"])
    elif options["as_json"]:
        for span in _spans(index, traces, list):
            click.echo(_json_line(span))
    elif options["as_list"]:
        style = style_for(sys.stdout)
        for trace in traces:
            click.echo(_summary_line(trace, style))
    else:
        style = style_for(sys.stdout, messages=options["messages"], artifacts=options["artifacts"])
        for number, trace in enumerate(traces):
            if number:
                click.echo()
            click.echo(_heading(trace, style))
            click.echo("\n".join(render(without_markers(index.spans_of(trace)), style)))


def _spans(
    index: Index, traces: list[Trace], select: Callable[[list[Span]], list[Span]] = without_markers
) -> Iterator[Span]:
    for trace in traces:
        yield from sorted(select(index.spans_of(trace)), key=lambda span: span.start)


def _write_page(index: Index, traces: list[Trace], path: str) -> None:
    from otelflow_exporters._page.page import write_page  # imported only if a page is asked for

    title = ", ".join(source.name.replace(os.sep, "/").rpartition("/")[2] for source in index.sources)
    if path == "-":
        write_page(_spans(index, traces), sys.stdout, title=title)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # spans may contain private data
    except OSError as error:
        raise click.ClickException(f"{path!r} cannot be written: {error.strerror}.") from None
    with open(descriptor, "w", encoding="utf-8") as out:
        write_page(_spans(index, traces), out, title=title)


def _moment(trace: Trace) -> str:
    try:
        return f"{datetime.fromtimestamp(trace.start / 1e9).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "?"


def _dim(text: str, style: Style) -> str:
    return f"\x1b[2m{text}\x1b[0m" if style.colours else text


def _heading(trace: Trace, style: Style) -> str:
    return _dim(f"{_moment(trace)}  {trace.trace_id}", style)


def _summary_line(trace: Trace, style: Style) -> str:
    sign = {"failed": "✗", "cancelled": "⊘", "completed": "✓"}.get(trace.status, "?")
    failed = f", {trace.failed} failed" if trace.failed else ""
    spans = f"{trace.number} span{'' if trace.number == 1 else 's'}{failed}"
    text = (
        f"{_moment(trace)}  {trace.trace_id}  {sign} {duration(trace.duration):>9}  {clean(trace.root, 60)}  ({spans})"
    )
    text = text.encode("ascii", "replace").decode() if style.ascii_only else text
    return f"\x1b[31m{text}\x1b[0m" if style.colours and trace.failed else text


def _report(index: Index, traces: list[Trace]) -> None:
    """Report skipped lines, and that no run matches, on standard error."""
    for source in index.sources:
        if source.broken:
            lines = "1 broken line" if source.broken == 1 else f"{source.broken} broken lines"
            click.echo(f"otelflow show: {lines} of {source.name} skipped", err=True)
    if not traces:
        runs = "1 run" if len(index.traces) == 1 else f"{len(index.traces)} runs"
        click.echo(f"otelflow show: no run matches; {runs} read", err=True)
