"""Command ``otelflow spool``: show the spans that wait in a spool folder, send them, or delete them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

import click

from otelflow_exporters._spool.destination import destinations
from otelflow_exporters._spool.folder import Folder, Segment
from otelflow_exporters._spool.open_flows import encode_closed_flows
from otelflow_exporters._spool.spool import Settings, Spool
from otelflow_exporters._terminal.text import duration
from otelflow_exporters.spool import folder_of_environment

__all__ = ["spool"]

_PURGED = "purged"
"""Reason of a loss: ``otelflow spool purge`` deleted the spans."""

_folder = click.option(
    "--dir",
    "path",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="The spool folder. Default: the environment's.",
)


@click.group(
    epilog="""\b
Examples:
  otelflow spool status --dir /var/lib/shop/spool
  otelflow spool flush --timeout 60
  otelflow spool purge --yes

Exit status: 0 success; 1 some spans were not sent, or the folder does not exist; 2 wrong usage."""
)
def spool() -> None:
    """Manage spans that wait on disk for a backend (OTEL_TRACES_EXPORTER=otelflow_spool).

    The folder is OTELFLOW_EXPORTER_SPOOL_DIR, by default one for each service.
    """


def _open_folder(path: str | None) -> Folder:
    folder = Folder(os.path.abspath(path or folder_of_environment()))
    if not os.path.isdir(folder.path):
        raise click.ClickException(f"The folder {folder.path} does not exist. Name the spool folder with --dir.")
    return folder


# --- status ---------------------------------------------------------------------------------------------------------


@spool.command()
@_folder
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(path: str | None, as_json: bool) -> None:
    """Show waiting spans by endpoint and process, and lost spans by reason.

    Exit status: 0 success; 1 the folder does not exist.
    """
    facts = _facts(_open_folder(path))
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(_report_lines(facts)))


def _facts(folder: Folder) -> dict[str, Any]:
    keys = folder.endpoint_keys()
    waiting = folder.pending_segments(keys)
    lost: dict[str, int] = {}
    for loss in folder.losses():
        if loss["spans"]:
            lost[str(loss.get("reason"))] = lost.get(str(loss.get("reason")), 0) + loss["spans"]
    alive = {process: folder.is_alive(process) for process in folder.identities()}
    return {
        "folder": folder.path,
        "waiting": {
            "spans": sum(folder.count_spans(segment, offset) for segment, offset in waiting),
            "bytes": sum(segment.size - offset for segment, offset in waiting),
            "oldest": min((segment.created / 1e9 for segment, _ in waiting), default=None),
        },
        "endpoints": [
            {
                "endpoint": folder.endpoint_url(key),
                "spans": sum(folder.count_spans(segment, offset) for segment, offset in folder.pending_segments([key])),
            }
            for key in keys
        ],
        "processes": [
            {"process": process, "alive": is_alive, "open_flows": _open_flows(folder, process)}
            for process, is_alive in sorted(alive.items())
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


def _open_flows(folder: Folder, process: str) -> int:
    try:
        return encode_closed_flows(folder.path_of(f"{process}.flows"), 0)[1]
    except OSError:
        return 0


def _report_lines(facts: dict[str, Any]) -> list[str]:
    waiting, oldest = facts["waiting"], facts["waiting"]["oldest"]
    since = "" if oldest is None else f", the oldest for {duration(max(0.0, time.time() - oldest))}"
    lines = [facts["folder"], f"  {waiting['spans']:,} spans waiting ({waiting['bytes']:,} bytes){since}"]
    lines += _table(
        "endpoint", ["spans waiting"], [(entry["endpoint"], entry["spans"]) for entry in facts["endpoints"]]
    )
    lines += _table(
        "process",
        ["", "open flows"],
        [
            (entry["process"].partition(".")[0], "alive" if entry["alive"] else "gone", entry["open_flows"])
            for entry in facts["processes"]
        ],
    )
    lines += _table("segment", ["bytes", "state"], [tuple(entry.values()) for entry in facts["segments"]])
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
    "--timeout",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Stop sending after this time.",
)
def flush(path: str | None, timeout: float) -> None:
    """Send the waiting spans to the endpoints of the environment, including those of processes that died.

    Exit status: 0 all spans were sent; 1 some spans still wait or were lost (the output says how many).
    """
    folder = _open_folder(path)
    try:
        sender = Spool(
            Settings(folder.path, 0, 0, "flush", 0.0),
            destinations(),
        )
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    sender.recover_dead_processes()
    before = sender.account().pending
    is_sent = sender.flush(timeout)
    pending = sender.account().pending
    sender.stop()
    click.echo(f"{max(0, before - pending - sender.losses):,} spans sent, {sender.losses:,} lost, {pending:,} waiting")
    if not is_sent or sender.losses:
        raise SystemExit(1)


@spool.command()
@_folder
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def purge(path: str | None, yes: bool) -> None:
    """Delete the waiting spans, except those that a running process is writing. They count as lost.

    Exit status: 0 success; 1 not confirmed, or the folder does not exist.
    """
    folder = _open_folder(path)
    with contextlib.suppress(OSError):  # includes a Timeout: another process holds the lock
        folder.recover_dead_processes(lambda *_: True, ())
    keys = folder.endpoint_keys()
    waiting = {segment.stem: folder.count_spans(segment, offset) for segment, offset in folder.pending_segments(keys)}
    sealed = [segment for segment in folder.segments() if not segment.is_open]
    spans = sum(waiting.get(segment.stem, 0) for segment in sealed)
    if not yes:
        click.confirm(f"Delete {spans:,} spans in {folder.path}?", abort=True)
    for segment in sealed:
        folder.note_loss(segment.identity, "purge", _PURGED, waiting.get(segment.stem, 0), segment.stem)
        os.unlink(segment.path)
    click.echo(f"{spans:,} spans deleted")
