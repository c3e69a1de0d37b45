"""Replace expected trees in the source of tests by what ran, for ``--otelflow-update``."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from types import FrameType

__all__ = ["Updates"]


class Updates:
    """The changes to test files. They are written when all tests have run."""

    def __init__(self) -> None:
        self._changes: dict[str, dict[tuple[int, int, int, int], list[str]]] = {}

    def add(self, frame: FrameType, expected: str, lines: list[str], difference: str) -> None:
        """Add a change: ``lines`` replace ``expected`` in the call of ``assert_tree`` that ``frame`` executes.

        Raise AssertionError, with the ``difference``, if ``expected`` is not a literal in that call.
        """
        __tracebackhide__ = True
        path, line = frame.f_code.co_filename, frame.f_lineno
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.lineno <= line <= (node.end_lineno or node.lineno):
                continue
            if not isinstance(node.func, ast.Attribute) or node.func.attr != "assert_tree" or not node.args:
                continue
            literal = node.args[0]
            if isinstance(literal, ast.Constant) and literal.value == expected:
                place = (literal.lineno, literal.col_offset, literal.end_lineno or 0, literal.end_col_offset or 0)
                self._changes.setdefault(path, {})[place] = lines
                return
        reason = "It cannot be updated here: the expected tree is not a literal in this call of assert_tree."
        raise AssertionError(f"What ran is not the expected tree. {reason}\n\n{difference}\n")

    def write(self) -> list[str]:
        """Write the changes; return a line ``path: number of changes`` for each file."""
        for path, changes in self._changes.items():
            source = Path(path).read_bytes().splitlines(keepends=True)
            for place in sorted(changes, reverse=True):
                _replace(source, place, changes[place])
            Path(path).write_bytes(b"".join(source))
        return [f"{path}: {len(changes)}" for path, changes in self._changes.items()]


def _replace(source: list[bytes], place: tuple[int, int, int, int], lines: list[str]) -> None:
    first, start, last, end = place  # ast counts columns in bytes of UTF-8
    before, after = source[first - 1][:start], source[last - 1][end:]
    indent = len(before) - len(before.lstrip())
    inner = textwrap.indent("\n".join(lines), " " * (indent + 4)).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    text = f'"""\n{inner}\n{" " * (indent + 4)}"""' if lines else '""'
    source[first - 1 : last] = [before + text.encode() + after]
