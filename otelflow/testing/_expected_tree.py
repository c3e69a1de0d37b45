"""Parse the text of expected trees.

    nightly                      a run of that name, with exactly the children below
      extract
      load  !ValueError          it failed with that error (!* for any); without "!", it must not have failed
      row  x100                  a hundred of them, one after the other
      sql.*  {db.name="shop"}    * and ? are wildcards; the run has at least these attributes; wildcards in values, too
      ~ fetch                    adjacent siblings with ~ may have run in any order
      ~ parse
      ...                        any further siblings, with all below them, or none

Each level is two spaces. A name that would have another meaning is written in quotes, as in JSON.
"""

from __future__ import annotations

import fnmatch
import json
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

from otelflow.errors import ArgumentError

__all__ = ["Expected", "parse_tree"]

_FLAG = re.compile(r"\s+(?:!(?P<error>\S+)|x(?P<times>\d+)|(?P<attributes>\{[^{}]*\}))$")
_PAIR = re.compile(r'\s*(?P<key>[^=,\s]+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^,]*?)\s*(?:,|$)')


@dataclass
class Expected:
    """One line of an expected tree, and the lines below it."""

    line: str
    depth: int
    name: str = ""
    is_rest: bool = False
    """Whether the line is ``...``."""
    in_any_order: bool = False
    error: str | None = None
    times: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)
    children: list[Expected] = field(default_factory=list)
    is_pattern: bool = True
    """Whether ``*`` and ``?`` in the name are wildcards. In a quoted name they are ordinary characters."""

    @property
    def text(self) -> str:
        """The line with its indent."""
        return "  " * self.depth + self.line


def parse_tree(text: str) -> list[Expected]:
    """Return the lines of an expected tree, nested.

    Raise :class:`otelflow.errors.ArgumentError` for a line that cannot be read.
    """
    roots: list[Expected] = []
    open_lines: list[tuple[int, Expected]] = []
    for line in textwrap.dedent(text.expandtabs(2)).split("\n"):
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while open_lines and open_lines[-1][0] >= indent:
            open_lines.pop()
        expected = _parse_line(line.strip(), len(open_lines))
        (open_lines[-1][1].children if open_lines else roots).append(expected)
        open_lines.append((indent, expected))
    return roots


def _parse_line(line: str, depth: int) -> Expected:
    expected = Expected(line, depth)
    rest = line
    if rest.startswith("~"):
        expected.in_any_order, rest = True, rest[1:].lstrip()
    if rest.startswith('"'):
        try:
            expected.name, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            raise ArgumentError(
                f"assert_tree: the quotes in {line!r} do not match. Write the name as a JSON string."
            ) from None
        expected.is_pattern = False
        if _parse_flags(expected, rest[end:]):
            raise ArgumentError(
                f"assert_tree: {line!r} has unknown text after the name. Use !Error, xN or {{name=value}}."
            )
        return expected
    expected.name = _parse_flags(expected, rest).strip()
    expected.is_rest = expected.name == "..."
    if not expected.name or expected.name.startswith("!"):
        raise ArgumentError(f"assert_tree: {line!r} has no name. Use * for any name.")
    return expected


def _parse_flags(expected: Expected, text: str) -> str:
    """Parse the flags at the end of ``text`` into ``expected``; return the text before them."""
    while flag := _FLAG.search(text):
        if flag["error"]:
            expected.error = flag["error"]
        elif flag["times"]:
            expected.times = int(flag["times"])
        else:
            expected.attributes.update(_parse_attributes(flag["attributes"], expected.line))
        text = text[: flag.start()]
    return text


def _parse_attributes(text: str, line: str) -> dict[str, Any]:
    pairs = text[1:-1].strip()
    attributes: dict[str, Any] = {}
    position = 0
    while position < len(pairs):
        pair = _PAIR.match(pairs, position)
        if pair is None:
            raise ArgumentError(f"assert_tree: cannot read {text!r} in {line!r}. Use {{name=value, name=value}}.")
        attributes[pair["key"]] = pair["value"]
        position = pair.end()
    return attributes


def same_value(actual: Any, text: str) -> bool:
    """Return whether an attribute has the value in ``text``.

    ``text`` is JSON (``3``, ``true``, ``"3"``), or plain text with ``*`` and ``?`` as wildcards.
    """
    try:
        expected = json.loads(text)
    except ValueError:
        return str(actual) == text or fnmatch.fnmatchcase(str(actual), text.replace("[", "[[]"))
    if isinstance(actual, tuple):
        actual = list(actual)
    return type(actual) is type(expected) and bool(actual == expected)
