"""Find and read the configuration file. Each error in it has its line number."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from otelflow._instrument.targets import KEYS, Kind, Place, Problem, Target, parse_target
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # checked on a later Python

__all__ = ["CONFIG_FILE", "Settings", "find_config_file", "read_config_file", "settings_from_arguments"]

CONFIG_FILE = "otelflow.toml"
"""Default name of the configuration file, in the current folder."""

_PYPROJECT = "pyproject.toml"
_HEADER = re.compile(r"(\[\[?)([^\[\]=#]+)\]")
_KEY = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([\w-]+))\s*[.=]")


class Settings(NamedTuple):
    """The targets of a configuration, and its problems. An error in one target does not affect the others."""

    targets: list[Target]
    problems: list[Problem]


def find_config_file() -> Path | None:
    """Return the path of the configuration file, or None.

    It is the file that ``OTELFLOW_CONFIG`` names, else ``otelflow.toml`` in the current folder, else the
    ``pyproject.toml`` there if it has a ``[tool.otelflow]``.
    """
    path = os.environ.get(OTELFLOW_CONFIG, "").strip()
    if path:
        return Path(path)
    if Path(CONFIG_FILE).is_file():
        return Path(CONFIG_FILE)
    pyproject = Path(_PYPROJECT)
    try:
        return pyproject if "[tool.otelflow" in pyproject.read_text("utf-8").replace("[[", "[") else None
    except (OSError, ValueError):
        return None


def read_config_file(path: str | os.PathLike[str]) -> Settings:
    """Read a configuration file. Returns errors in the file as problems, and does not raise them."""
    file = str(path)
    text = ""
    try:
        text = Path(path).read_text("utf-8")
        document: Any = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        return Settings([], [_read_problem(file, text, error)])
    if Path(path).name == _PYPROJECT:
        document = document.get("tool", {})
        document = document.get("otelflow", {}) if isinstance(document, Mapping) else {}
    if not isinstance(document, Mapping):
        return Settings([], [Problem(Place(file), "tool.otelflow must be a table. Use [[tool.otelflow.flow]].")])
    return _parse_document(document, _LineNumbers(file, text))


def _read_problem(file: str, text: str, error: Exception) -> Problem:
    if isinstance(error, OSError):
        return Problem(Place(file), f"cannot be read: {error.strerror or error}.")
    message, _, position = str(error).partition(" (at ")
    match = re.match(r"line (\d+), column (\d+)", position)
    if match is not None:
        return Problem(Place(file, int(match[1])), f"is not valid TOML: {message} (column {match[2]}).")
    line = len(text.splitlines()) if position.startswith("end") else None
    return Problem(Place(file, line), f"is not valid TOML: {message}.")


def _parse_document(document: Mapping[str, Any], line_numbers: _LineNumbers) -> Settings:
    settings = Settings([], [])
    for key, tables in document.items():
        if key not in KEYS:
            hint = nearest(key, KEYS) or ' Use "[[flow]]" and "[[task]]".'
            settings.problems.append(Problem(line_numbers.place_of_setting(key), f"there is no setting {key!r}.{hint}"))
        elif not isinstance(tables, list):
            settings.problems.append(
                Problem(
                    line_numbers.place_of_setting(key), f"{key} is a single table. Use [[{key}]], with two brackets."
                )
            )
        else:
            for index, table in enumerate(tables):
                place_of = functools.partial(line_numbers.place_of, key, index)
                target, problems = parse_target(key, table, place_of)
                settings.problems.extend(problems)
                settings.targets.extend([] if target is None else [target])
    return settings


def settings_from_arguments(kind: Kind, argument: object) -> Settings:
    """Read the argument ``flows`` or ``tasks`` of ``instrument()``: a name, a function, a table, or several of them."""
    entries = [argument] if isinstance(argument, str | Mapping) or callable(argument) else argument
    settings = Settings([], [])
    if not isinstance(entries, list | tuple | set | frozenset):
        settings.problems.append(Problem(Place(f"{kind}s"), f"{argument!r} is not a list of targets. Use {kind}s=[…]."))
        return settings
    for index, entry in enumerate(entries):
        place = Place(f"{kind}s[{index}]")
        table = {"target": _target_text(entry)} if isinstance(entry, str) or callable(entry) else entry
        target, problems = parse_target(kind, table, lambda _, place=place: place)  # type: ignore[misc]
        settings.problems.extend(problems)
        settings.targets.extend([] if target is None else [target])
    return settings


def _target_text(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', type(target).__qualname__)}"


class _LineNumbers:
    """Line number of each key in a file.

    TOML parsers do not tell line numbers. So this class searches the text for headers and keys at the start of a
    line. A key that is written in another way gets the line of its table.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._lines: dict[tuple[str, int, str | None], int] = {}
        table_indexes: dict[str, int] = {}
        name, inner_table = "", None
        for number, line in enumerate(text.splitlines(), 1):
            header = _HEADER.match(line.strip())
            key = None if header else _KEY.match(line)
            if header is not None:
                name, inner_table = _split_header(header[2])
                if header[1] == "[[":
                    table_indexes[name] = table_indexes.get(name, -1) + 1
                self._record(name, table_indexes.get(name, 0), inner_table, number)
            elif key is not None:
                self._record(name, table_indexes.get(name, 0), inner_table or next(filter(None, key.groups())), number)

    def _record(self, table: str, index: int, key: str | None, number: int) -> None:
        self._lines.setdefault((table, index, key), number)

    def place_of(self, table: str, index: int, key: str | None) -> Place:
        """Return the place of a key in the table; of the table itself for None."""
        for position in ((table, index, key), (table, index, None), ("", 0, table)):
            if position in self._lines:
                return Place(self.file, self._lines[position])
        return Place(self.file)

    def place_of_setting(self, key: str) -> Place:
        """Return the place of a setting at the top level: a table or a key."""
        return self.place_of(key, 0, None)


def _split_header(text: str) -> tuple[str, str | None]:
    """Split a header into table and inner table: ``flow.attributes`` gives ``flow`` and ``attributes``."""
    name, _, inner_table = re.sub(r"[\s\"']", "", text).removeprefix("tool.otelflow.").partition(".")
    return name, inner_table.partition(".")[0] or None
