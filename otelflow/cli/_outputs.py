"""What a command shows of a run besides sending it: the live tree, a file, a page."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import entry_points
from pathlib import Path

import click

from otelflow._providers.exporters import GROUP, exporter_names
from otelflow.cli._group import COMMANDS

__all__ = ["Shown", "is_installed", "write_page"]

_TREE, _FILE = "otelflow_tree", "otelflow_jsonfile"
_PATH = "OTELFLOW_EXPORTER_JSONFILE_PATH"
_DECIDED = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_logger = logging.getLogger("otelflow")


def is_installed(name: str = _TREE) -> bool:
    """Whether the exporter ``name`` is there."""
    return any(entry.name == name for entry in entry_points(group=GROUP))


@dataclass(frozen=True)
class Shown:
    """What is asked for. ``tree`` None: where a person looks on. ``file`` and ``page`` are paths."""

    tree: bool | None = None
    file: str | None = None
    page: str | None = None

    def variables(self) -> dict[str, str]:
        """The environment variables that make it so. What was asked for by name and nothing said of where to send:
        then nothing is sent."""
        asked = bool(self.tree or self.file or self.page)
        if asked and not is_installed():
            raise click.ClickException("This comes with otelflow-exporters: pip install 'otelflow-exporters[cli]'")
        sent = exporter_names() if not asked or any(map(os.environ.get, _DECIDED)) else []
        tree = self.tree if self.tree is not None else sys.stderr.isatty() and is_installed()
        names = [*sent, *([_TREE] if tree else []), *([_FILE] if self.file else [])]
        made = {"OTEL_TRACES_EXPORTER": ",".join(dict.fromkeys(names)) or "none"}
        return {**made, _PATH: str(Path(self.file).absolute())} if self.file else made

    @contextlib.contextmanager
    def set_up(self) -> Iterator[None]:
        """Within this block, OpenTelemetry is set up so. The page is written when the process ends, after all spans
        are: what is registered first to be called at exit is called last."""
        shown = self
        if self.page is not None:
            _can_write(self.page)
            file = self.file or str(Path(tempfile.mkdtemp(prefix="otelflow-"), "run.jsonl"))
            shown = Shown(self.tree, file, self.page)
            begun = datetime.now(timezone.utc).isoformat()
            atexit.register(_page_at_exit, file, self.page, begun, is_ours=self.file is None)
        before = dict(os.environ)
        os.environ.update(shown.variables())
        try:
            yield
        finally:
            for name in set(os.environ) - set(before):
                del os.environ[name]
            os.environ.update(before)


def _can_write(path: str) -> None:
    """A mistake in the path is said before the run, not after it."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise click.ClickException(f"{path!r} cannot be written: there is no folder {str(folder)!r}.")


def _page_at_exit(file: str, page: str, since: str, *, is_ours: bool) -> None:
    try:
        if Path(file).exists():
            write_page(file, page, since)
            print(f"page: {page}", file=sys.stderr)
    except Exception as error:
        _logger.warning("The page %s could not be written: %s", page, error)
    finally:
        if is_ours:
            shutil.rmtree(Path(file).parent, ignore_errors=True)


def write_page(file: str, page: str, since: str | None = None) -> None:
    """Write the runs of a file, of those that began later than ``since``, as a page."""
    (show,) = entry_points(group=COMMANDS, name="show")
    words = [file, "--html", page, *(["--since", since] if since else [])]
    show.load().main(words, "otelflow show", standalone_mode=False)
