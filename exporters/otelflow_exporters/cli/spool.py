"""``otelflow spool``: what waits in a spool's folder; send it; throw it away."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

import click

from otelflow_exporters._spool.destination import destinations
from otelflow_exporters._spool.folder import Folder, Segment
from otelflow_exporters._spool.open_flows import closed_flows
from otelflow_exporters._spool.spool import Settings, Spool
from otelflow_exporters._terminal.text import duration
from otelflow_exporters.spool import folder_of_environment

__all__ = ["spool"]

_PURGED = "purged"
"""Somebody threw it away."""

_folder = click.option(
    "--dir", "path", type=click.Path(file_okay=False), metavar="FOLDER", help="Instead of the environment's."
)


@click.group(
    epilog="""\b
Examples:
  otelflow spool status --dir /var/lib/shop/spool
  otelflow spool flush --timeout 60
  otelflow spool purge --yes

Exit status: 0 done; 1 not all could be sent, or there is no such folder; 2 called wrongly."""
)
def spool() -> None:
    """Spans that wait on disk for a backend (OTEL_TRACES_EXPORTER=otelflow_spool).

    The folder is OTELFLOW_EXPORTER_SPOOL_DIR's, or the service's own.
    """


def _opened(path: str | None) -> Folder:
    folder = Folder(os.path.abspath(path or folder_of_environment()))
    if not os.path.isdir(folder.path):
        raise click.ClickException(f"There is no folder {folder.path}. Name the spool's by --dir.")
    return folder


# --- status ---------------------------------------------------------------------------------------------------------


@spool.command()
@_folder
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(path: str | None, as_json: bool) -> None:
    """Show what waits, for which endpoint, of which process, and what was lost.

    Exit status: 0, whatever there is; 1: no such folder.
    """
    facts = _facts(_opened(path))
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_lines(facts)))


def _facts(folder: Folder) -> dict[str, Any]:
    keys = folder.keys()
    waiting = folder.waiting(keys)
    lost: dict[str, int] = {}
    for loss in folder.losses():
        if loss["spans"]:
            lost[str(loss.get("reason"))] = lost.get(str(loss.get("reason")), 0) + loss["spans"]
    alive = {identity: folder.is_alive(identity) for identity in folder.identities()}
    return {
        "folder": folder.path,
        "waiting": {
            "spans": sum(folder.spans_in(segment, offset) for segment, offset in waiting),
            "bytes": sum(segment.size - offset for segment, offset in waiting),
            "oldest": min((segment.created / 1e9 for segment, _ in waiting), default=None),
        },
        "endpoints": [
            {
                "endpoint": folder.endpoint_of(key),
                "spans": sum(folder.spans_in(segment, offset) for segment, offset in folder.waiting([key])),
            }
            for key in keys
        ],
        "processes": [
            {"process": identity, "alive": is_alive, "open_flows": _open_flows(folder, identity)}
            for identity, is_alive in sorted(alive.items())
        ],
        "segments": [
            {"name": os.path.basename(segment.path), "bytes": segment.size, "state": _state(segment, alive)}
            for segment in folder.segments()
        ],
        "lost": lost,
    }


def _state(segment: Segment, alive: dict[str, bool]) -> str:
    if not segment.is_open:
        return "sealed"
    return "open" if alive.get(segment.identity) else "left behind"


def _open_flows(folder: Folder, identity: str) -> int:
    try:
        return closed_flows(folder.at(f"{identity}.flows"), 0)[1]
    except OSError:
        return 0


def _lines(facts: dict[str, Any]) -> list[str]:
    waiting, oldest = facts["waiting"], facts["waiting"]["oldest"]
    since = "" if oldest is None else f", the oldest for {duration(max(0.0, time.time() - oldest))}"
    lines = [facts["folder"], f"  {waiting['spans']:,} spans wait ({waiting['bytes']:,} bytes){since}"]
    lines += _table("endpoint", ["spans waiting"], [(one["endpoint"], one["spans"]) for one in facts["endpoints"]])
    lines += _table(
        "process",
        ["", "open flows"],
        [
            (one["process"].partition(".")[0], "alive" if one["alive"] else "gone", one["open_flows"])
            for one in facts["processes"]
        ],
    )
    lines += _table("segment", ["bytes", "state"], [tuple(one.values()) for one in facts["segments"]])
    return lines + _table("lost", ["spans"], list(facts["lost"].items()))


def _table(head: str, columns: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    if not rows:
        return []
    texts = [[head, *columns], *([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in texts) for at in range(len(columns) + 1)]
    return [
        "",
        *(
            (
                "  "
                + row[0].ljust(widths[0])
                + "".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True))
            ).rstrip()
            for row in texts
        ),
    ]


# --- flush and purge ------------------------------------------------------------------------------------------------


@spool.command()
@_folder
@click.option(
    "--timeout", type=click.FloatRange(0), default=30.0, show_default=True, metavar="SECONDS", help="At most."
)
def flush(path: str | None, timeout: float) -> None:
    """Send what waits to the endpoints of the environment, also what processes have left that died.

    Exit status: 0 all is sent; 1 something waits still, or was lost; then it says what.
    """
    folder = _opened(path)
    try:
        at_work = Spool(
            Settings(folder.path, 0, 0, "flush", 0.0),
            destinations(),
        )
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    at_work.bury()
    before = at_work.account().pending
    is_sent = at_work.flush(timeout)
    left = at_work.account().pending
    at_work.stop()
    click.echo(f"{max(0, before - left - at_work.losses):,} spans sent, {at_work.losses:,} lost, {left:,} wait")
    if not is_sent or at_work.losses:
        raise SystemExit(1)


@spool.command()
@_folder
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(path: str | None, yes: bool) -> None:
    """Throw away what waits, except for what a living process is writing. It counts as lost.

    Exit status: 0 done; 1 not wanted after all, or no such folder.
    """
    folder = _opened(path)
    with contextlib.suppress(OSError):  # a Timeout is one: another process is at it
        folder.bury(lambda *_: True, ())
    keys = folder.keys()
    waiting = {segment.stem: folder.spans_in(segment, offset) for segment, offset in folder.waiting(keys)}
    ended = [segment for segment in folder.segments() if not segment.is_open]
    spans = sum(waiting.get(segment.stem, 0) for segment in ended)
    if not yes:
        click.confirm(f"Throw away {spans:,} spans in {folder.path}?", abort=True)
    for segment in ended:
        folder.note_loss(segment.identity, "purge", _PURGED, waiting.get(segment.stem, 0), segment.stem)
        os.unlink(segment.path)
    click.echo(f"{spans:,} spans thrown away")
