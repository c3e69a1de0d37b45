"""Local outputs of a command: a tree in the terminal, a file of spans, an HTML page."""

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

__all__ = ["Outputs", "is_exporter_installed", "write_page"]

_TREE_EXPORTER, _FILE_EXPORTER = "otelflow_tree", "otelflow_jsonfile"
_FILE_PATH_VARIABLE = "OTELFLOW_EXPORTER_JSONFILE_PATH"
_DESTINATION_VARIABLES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_logger = logging.getLogger("otelflow")


def is_exporter_installed(name: str = _TREE_EXPORTER) -> bool:
    """Return whether the exporter ``name`` is installed."""
    return any(entry.name == name for entry in entry_points(group=GROUP))


@dataclass(frozen=True)
class Outputs:
    """Requested outputs. ``tree`` is None: only on a terminal. ``file`` and ``page`` are paths."""

    tree: bool | None = None
    file: str | None = None
    page: str | None = None

    def environment_variables(self) -> dict[str, str]:
        """Return the environment variables for these outputs.

        If an output was requested and no variable names a destination, nothing is sent.
        """
        has_output = bool(self.tree or self.file or self.page)
        if has_output and not is_exporter_installed():
            raise click.ClickException(
                "This option needs otelflow-exporters. Install it: pip install 'otelflow-exporters[cli]'"
            )
        configured_names = (
            exporter_names() if not has_output or any(map(os.environ.get, _DESTINATION_VARIABLES)) else []
        )
        tree = self.tree if self.tree is not None else sys.stderr.isatty() and is_exporter_installed()
        names = [*configured_names, *([_TREE_EXPORTER] if tree else []), *([_FILE_EXPORTER] if self.file else [])]
        variables = {"OTEL_TRACES_EXPORTER": ",".join(dict.fromkeys(names)) or "none"}
        return {**variables, _FILE_PATH_VARIABLE: str(Path(self.file).absolute())} if self.file else variables

    @contextlib.contextmanager
    def set_up(self) -> Iterator[None]:
        """Set the environment variables within this block, and write the page at exit.

        The page must be written after the last span. ``atexit`` calls the function that was registered first last.
        """
        outputs = self
        if self.page is not None:
            _check_page_path(self.page)
            file = self.file or str(Path(tempfile.mkdtemp(prefix="otelflow-"), "run.jsonl"))
            outputs = Outputs(self.tree, file, self.page)
            started_at = datetime.now(timezone.utc).isoformat()
            atexit.register(_write_page_at_exit, file, self.page, started_at, is_temporary=self.file is None)
        original_environment = dict(os.environ)
        os.environ.update(outputs.environment_variables())
        try:
            yield
        finally:
            for name in set(os.environ) - set(original_environment):
                del os.environ[name]
            os.environ.update(original_environment)


def _check_page_path(path: str) -> None:
    """Raise ClickException if the folder of the page does not exist: before the run, not after it."""
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise click.ClickException(f"Cannot write {path!r}: there is no folder {str(folder)!r}.")


def _write_page_at_exit(file: str, page: str, since: str, *, is_temporary: bool) -> None:
    try:
        if Path(file).exists():
            write_page(file, page, since)
            print(f"page: {page}", file=sys.stderr)
    except Exception as error:
        _logger.warning("otelflow could not write the page %s: %s", page, error)
    finally:
        if is_temporary:
            shutil.rmtree(Path(file).parent, ignore_errors=True)


def write_page(file: str, page: str, since: str | None = None) -> None:
    """Write the runs of a file as an HTML page. With ``since``, only those that started later."""
    (show,) = entry_points(group=COMMANDS, name="show")
    arguments = [file, "--html", page, *(["--since", since] if since else [])]
    show.load().main(arguments, "otelflow show", standalone_mode=False)
