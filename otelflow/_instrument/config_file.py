"""The configuration file: where it is looked for, and what it says, with the line of each mistake."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from otelflow._instrument.targets import KEYS, Kind, Place, Problem, Target, parse
from otelflow.config import OTELFLOW_CONFIG
from otelflow.errors import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  # checked on a later Python

__all__ = ["FILE", "Settings", "find_config_file", "from_arguments", "read_config_file"]

FILE = "otelflow.toml"
"""Name of the file that is looked for in the current folder."""

_PYPROJECT = "pyproject.toml"
_HEADER = re.compile(r"(\[\[?)([^\[\]=#]+)\]")
_KEY = re.compile(r"\s*(?:\"([^\"]+)\"|'([^']+)'|([\w-]+))\s*[.=]")


class Settings(NamedTuple):
    """What a configuration asks for, and what is wrong with it: a mistake in one target does not spoil the others."""

    targets: list[Target]
    problems: list[Problem]


def find_config_file() -> Path | None:
    """The file that ``OTELFLOW_CONFIG`` names; ``otelflow.toml`` in the current folder; ``pyproject.toml`` there, where
    that has a ``[tool.otelflow]``. None where there is none of them."""
    named = os.environ.get(OTELFLOW_CONFIG, "").strip()
    if named:
        return Path(named)
    if Path(FILE).is_file():
        return Path(FILE)
    pyproject = Path(_PYPROJECT)
    try:
        return pyproject if "[tool.otelflow" in pyproject.read_text("utf-8").replace("[[", "[") else None
    except (OSError, ValueError):
        return None


def read_config_file(path: str | os.PathLike[str]) -> Settings:
    """What a file says. Never raises for what is in the file."""
    shown = str(path)
    text = ""
    try:
        text = Path(path).read_text("utf-8")
        document: Any = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        return Settings([], [_unreadable(shown, text, error)])
    if Path(path).name == _PYPROJECT:
        document = document.get("tool", {})
        document = document.get("otelflow", {}) if isinstance(document, Mapping) else {}
    if not isinstance(document, Mapping):
        return Settings([], [Problem(Place(shown), "tool.otelflow is no table. Use [[tool.otelflow.flow]].")])
    return _settings(document, _Lines(shown, text))


def _unreadable(shown: str, text: str, error: Exception) -> Problem:
    if isinstance(error, OSError):
        return Problem(Place(shown), f"cannot be read: {error.strerror or error}.")
    what, _, where = str(error).partition(" (at ")
    found = re.match(r"line (\d+), column (\d+)", where)
    if found is not None:
        return Problem(Place(shown, int(found[1])), f"is no TOML: {what} (column {found[2]}).")
    line = len(text.splitlines()) if where.startswith("end") else None
    return Problem(Place(shown, line), f"is no TOML: {what}.")


def _settings(document: Mapping[str, Any], lines: _Lines) -> Settings:
    made = Settings([], [])
    for key, tables in document.items():
        if key not in KEYS:
            hint = nearest(key, KEYS) or ' Use "[[flow]]" and "[[task]]".'
            made.problems.append(Problem(lines.top(key), f"there is no setting {key!r}.{hint}"))
        elif not isinstance(tables, list):
            made.problems.append(Problem(lines.top(key), f"{key} is one table. Use [[{key}]], with two brackets."))
        else:
            for index, table in enumerate(tables):
                target, problems = parse(key, table, lambda name, key=key, index=index: lines.of(key, index, name))  # type: ignore[misc]
                made.problems.extend(problems)
                made.targets.extend([] if target is None else [target])
    return made


def from_arguments(kind: Kind, given: object) -> Settings:
    """What the argument ``flows`` or ``tasks`` of ``instrument()`` says: names, functions, tables, or several."""
    several = [given] if isinstance(given, str | Mapping) or callable(given) else given
    made = Settings([], [])
    if not isinstance(several, list | tuple | set | frozenset):
        made.problems.append(Problem(Place(f"{kind}s"), f"{given!r} is no list of targets. Use {kind}s=[…]."))
        return made
    for index, one in enumerate(several):
        place = Place(f"{kind}s[{index}]")
        table = {"target": _name_of(one)} if isinstance(one, str) or callable(one) else one
        target, problems = parse(kind, table, lambda _, place=place: place)  # type: ignore[misc]
        made.problems.extend(problems)
        made.targets.extend([] if target is None else [target])
    return made


def _name_of(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', type(target).__qualname__)}"


class _Lines:
    """At which line of a file each key stands. TOML parsers do not say, so the text is looked through once more, for
    headers and keys at the beginning of a line: what is written in another way has the line of its table."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self._found: dict[tuple[str, int, str | None], int] = {}
        counted: dict[str, int] = {}
        name, inner = "", None
        for number, line in enumerate(text.splitlines(), 1):
            header = _HEADER.match(line.strip())
            key = None if header else _KEY.match(line)
            if header is not None:
                name, inner = _header(header[2])
                if header[1] == "[[":
                    counted[name] = counted.get(name, -1) + 1
                self._note(name, counted.get(name, 0), inner, number)
            elif key is not None:
                self._note(name, counted.get(name, 0), inner or next(filter(None, key.groups())), number)

    def _note(self, table: str, index: int, key: str | None, number: int) -> None:
        self._found.setdefault((table, index, key), number)

    def of(self, table: str, index: int, key: str | None) -> Place:
        """Where a key of the table stands; None for the table itself."""
        for wanted in ((table, index, key), (table, index, None), ("", 0, table)):
            if wanted in self._found:
                return Place(self.file, self._found[wanted])
        return Place(self.file)

    def top(self, key: str) -> Place:
        """Where a setting at the top stands: a table or a key."""
        return self.of(key, 0, None)


def _header(text: str) -> tuple[str, str | None]:
    """Name of the table in a header, and of the table within it: ``flow.attributes`` is ``flow``, ``attributes``."""
    name, _, inner = re.sub(r"[\s\"']", "", text).removeprefix("tool.otelflow.").partition(".")
    return name, inner.partition(".")[0] or None
