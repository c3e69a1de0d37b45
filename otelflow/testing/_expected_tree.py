"""Expected trees: how their text is read.

    nightly                      a run of that name, with exactly the children that stand below it
      extract
      load  !ValueError          it failed with that error (!* with any); without it, it must not have failed
      row  x100                  a hundred of them, one after the other
      sql.*  {db.name="shop"}    * and ? are wildcards; these attributes are among its own; as text, with wildcards
      ~ fetch                    siblings with ~ in a row may have run in any order
      ~ parse
      ...                        any further siblings, with all below them, or none

Two spaces a level. A name that would be read as something else stands in quotes, as in JSON.
"""

from __future__ import annotations

import fnmatch
import json
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

from otelflow.errors import ArgumentError

__all__ = ["Expected", "read"]

_FLAG = re.compile(r"\s+(?:!(?P<error>\S+)|x(?P<times>\d+)|(?P<attributes>\{[^{}]*\}))$")
_PAIR = re.compile(r'\s*(?P<key>[^=,\s]+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^,]*?)\s*(?:,|$)')


@dataclass
class Expected:
    """One line of an expected tree, and the lines below it."""

    line: str
    depth: int
    name: str = ""
    is_rest: bool = False
    """Whether it is ``...``."""
    in_any_order: bool = False
    error: str | None = None
    times: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)
    children: list[Expected] = field(default_factory=list)
    is_pattern: bool = True
    """Whether ``*`` and ``?`` in the name are wildcards; in quotes they are themselves."""

    @property
    def text(self) -> str:
        """The line as it stands in the tree."""
        return "  " * self.depth + self.line


def read(text: str) -> list[Expected]:
    """The lines of an expected tree, nested. Raises :class:`otelflow.errors.ArgumentError` for a line that says
    nothing."""
    roots: list[Expected] = []
    open_lines: list[tuple[int, Expected]] = []
    for line in textwrap.dedent(text.expandtabs(2)).split("\n"):
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while open_lines and open_lines[-1][0] >= indent:
            open_lines.pop()
        made = _read_line(line.strip(), len(open_lines))
        (open_lines[-1][1].children if open_lines else roots).append(made)
        open_lines.append((indent, made))
    return roots


def _read_line(line: str, depth: int) -> Expected:
    made = Expected(line, depth)
    rest = line
    if rest.startswith("~"):
        made.in_any_order, rest = True, rest[1:].lstrip()
    if rest.startswith('"'):
        try:
            made.name, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            raise ArgumentError(f"assert_tree: the quotes in {line!r} do not match. Write a name as in JSON.") from None
        made.is_pattern = False
        if _read_flags(made, rest[end:]):
            raise ArgumentError(f"assert_tree: what stands after the name in {line!r} is no flag.")
        return made
    made.name = _read_flags(made, rest).strip()
    made.is_rest = made.name == "..."
    if not made.name or made.name.startswith("!"):
        raise ArgumentError(f"assert_tree: {line!r} has no name. Use * for any.")
    return made


def _read_flags(made: Expected, text: str) -> str:
    """Read the flags at the end of ``text``; returns what stands before them."""
    while flag := _FLAG.search(text):
        if flag["error"]:
            made.error = flag["error"]
        elif flag["times"]:
            made.times = int(flag["times"])
        else:
            made.attributes.update(_read_attributes(flag["attributes"], made.line))
        text = text[: flag.start()]
    return text


def _read_attributes(text: str, line: str) -> dict[str, Any]:
    inside = text[1:-1].strip()
    made: dict[str, Any] = {}
    position = 0
    while position < len(inside):
        pair = _PAIR.match(inside, position)
        if pair is None:
            raise ArgumentError(f"assert_tree: cannot read {text!r} in {line!r}. Use {{name=value, name=value}}.")
        made[pair["key"]] = pair["value"]
        position = pair.end()
    return made


def same_value(actual: Any, written: str) -> bool:
    """Whether an attribute has the value that is written: as JSON (``3``, ``true``, ``"3"``), or as plain text, where
    ``*`` and ``?`` are wildcards."""
    try:
        meant = json.loads(written)
    except ValueError:
        return str(actual) == written or fnmatch.fnmatchcase(str(actual), written.replace("[", "[[]"))
    if isinstance(actual, tuple):
        actual = list(actual)
    return type(actual) is type(meant) and bool(actual == meant)
