"""``otelflow show``: the runs of a file, as trees, as a list, as JSON, as a page."""

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


class _Parsed(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since 8.3
    """An option whose text is read by a function that raises ValueError."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _pair(text: str) -> tuple[str, str | None]:
    key, has_value, value = text.partition("=")
    return key, value if has_value else None


_SECONDS, _MOMENT, _PAIR = _Parsed("length", as_seconds), _Parsed("time", as_moment), _Parsed("key=value", _pair)


@click.command(
    epilog="""\b
Examples:
  otelflow show run.jsonl
  otelflow show run.jsonl --list --since 2h --status error
  otelflow show run.jsonl --attribute 'customer=A-*' --min-duration 500ms --messages
  otelflow show run.jsonl --last 1 --html run.html
  kubectl logs job/nightly | otelflow show -

Exit status: 0 done, also where nothing fits; 1 a file cannot be read; 2 called wrongly."""
)
@click.argument("files", nargs=-1, required=True, type=click.Path(allow_dash=True), metavar="FILE...")
@click.option("--flow", "flows", multiple=True, metavar="NAME", help="Runs of this flow, or with this root; a pattern.")
@click.option(
    "--status",
    type=click.Choice(["error", "completed", "failed", "cancelled"]),
    help="How the run ended; error: something in it failed.",
)
@click.option("--min-duration", "shortest", type=_SECONDS, default="0", help="As 250ms, 2s, 1h.", metavar="LENGTH")
@click.option("--max-duration", "longest", type=_SECONDS, help="The same.", metavar="LENGTH")
@click.option("--attribute", "attributes", type=_PAIR, multiple=True, metavar="KEY[=VALUE]", help="On some span of it.")
@click.option(
    "--since", type=_MOMENT, default=None, metavar="TIME", help="Began then or later: 2026-11-23T10:00, or 2h."
)
@click.option("--until", type=_MOMENT, default=None, metavar="TIME", help="Began before.")
@click.option("--trace", "ids", multiple=True, metavar="ID", help="By trace id, or how it begins.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="The newest N of what fits.")
@click.option("--list", "as_list", is_flag=True, help="One line a run.")
@click.option("--messages", is_flag=True, help="With messages.")
@click.option("--artifacts", is_flag=True, help="With artifacts and results.")
@click.option("--json", "as_json", is_flag=True, help="One span a line, as JSON.")
@click.option("--html", metavar="FILE", help="Write a page; - for standard output.")
def show(**given: Any) -> int:
    """Show the runs in files of spans: OTLP JSON (one document, or one a line), or JSON of Jaeger's.

    FILE is a path, or - for standard input. Each run (trace) is printed as a tree, in the order in which they began.
    A broken line, as a process leaves it that was killed, is passed over. Large files are read without holding them.
    """
    with ExitStack() as stack:
        try:
            names = dict.fromkeys(given["files"])  # a file that is named twice would show twice what it holds
            index = Index([stack.enter_context(closing(Source(name, sys.stdin.buffer))) for name in names])
            _print(index, _wanted(index, given), given)
        except UnreadableFile as error:
            raise click.ClickException(str(error)) from None
    return 0


def _wanted(index: Index, given: dict[str, Any]) -> list[Trace]:
    filters = Filters(
        given["flows"],
        given["status"],
        given["shortest"],
        float("inf") if given["longest"] is None else given["longest"],
        given["attributes"],
        given["since"] or 0,
        given["until"],
        given["ids"],
    )
    index.read(filters.facts_of if filters.flows or filters.attributes else None)
    wanted = sorted(filter(filters.want, index.traces.values()), key=lambda one: one.start)
    wanted = wanted[-given["last"] :] if given["last"] else wanted
    _account(index, wanted)
    return wanted


def _json_line(span: Span) -> str:
    plain = span.to_json()
    line = json.dumps(plain, ensure_ascii=False)
    try:
        line.encode(sys.stdout.encoding)
    except UnicodeEncodeError:  # half a surrogate pair, or an output that is not in UTF-8
        return json.dumps(plain)
    return line


def _print(index: Index, wanted: list[Trace], given: dict[str, Any]) -> None:
    if given["html"] is not None:
        _write_page(index, wanted, given["html"])
    elif given["as_json"]:
        for span in _spans(index, wanted, list):
            click.echo(_json_line(span))
    elif given["as_list"]:
        style = style_for(sys.stdout)
        for trace in wanted:
            click.echo(_line(trace, style))
    else:
        style = style_for(sys.stdout, messages=given["messages"], artifacts=given["artifacts"])
        for number, trace in enumerate(wanted):
            if number:
                click.echo()
            click.echo(_head(trace, style))
            click.echo("\n".join(render(without_markers(index.spans_of(trace)), style)))


def _spans(
    index: Index, wanted: list[Trace], shown: Callable[[list[Span]], list[Span]] = without_markers
) -> Iterator[Span]:
    for trace in wanted:
        yield from sorted(shown(index.spans_of(trace)), key=lambda span: span.start)


def _write_page(index: Index, wanted: list[Trace], path: str) -> None:
    from otelflow_exporters._page.page import write_page  # its parts are read from files

    title = ", ".join(source.name.replace(os.sep, "/").rpartition("/")[2] for source in index.sources)
    if path == "-":
        write_page(_spans(index, wanted), sys.stdout, title=title)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # what spans say may be private
    except OSError as error:
        raise click.ClickException(f"{path!r} cannot be written: {error.strerror}.") from None
    with open(descriptor, "w", encoding="utf-8") as out:
        write_page(_spans(index, wanted), out, title=title)


def _moment(trace: Trace) -> str:
    try:
        return f"{datetime.fromtimestamp(trace.start / 1e9).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "?"


def _dim(text: str, style: Style) -> str:
    return f"\x1b[2m{text}\x1b[0m" if style.colours else text


def _head(trace: Trace, style: Style) -> str:
    return _dim(f"{_moment(trace)}  {trace.trace_id}", style)


def _line(trace: Trace, style: Style) -> str:
    sign = {"failed": "✗", "cancelled": "⊘", "completed": "✓"}.get(trace.status, "?")
    failed = f", {trace.failed} failed" if trace.failed else ""
    spans = f"{trace.number} span{'' if trace.number == 1 else 's'}{failed}"
    text = (
        f"{_moment(trace)}  {trace.trace_id}  {sign} {duration(trace.duration):>9}  {clean(trace.root, 60)}  ({spans})"
    )
    text = text.encode("ascii", "replace").decode() if style.ascii_only else text
    return f"\x1b[31m{text}\x1b[0m" if style.colours and trace.failed else text


def _account(index: Index, wanted: list[Trace]) -> None:
    """On standard error: what was passed over, and that nothing fits."""
    for source in index.sources:
        if source.broken:
            lines = "1 line" if source.broken == 1 else f"{source.broken} lines"
            click.echo(f"otelflow show: {lines} of {source.name} could not be read, and passed over", err=True)
    if not wanted:
        runs = "1 run" if len(index.traces) == 1 else f"{len(index.traces)} runs"
        click.echo(f"otelflow show: nothing fits; there are {runs}", err=True)
