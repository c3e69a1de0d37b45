"""Writing what ran into a test's source, in the place of the expected tree (``--otelflow-update``)."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from types import FrameType

__all__ = ["Updates"]


class Updates:
    """The changes to make to test files, once all tests have run."""

    def __init__(self) -> None:
        self._changes: dict[str, dict[tuple[int, int, int, int], list[str]]] = {}

    def note(self, frame: FrameType, expected: str, lines: list[str], difference: str) -> None:
        """``lines`` are to stand in the place of ``expected``, in the call of ``assert_tree`` that ``frame`` is at.
        AssertionError, with the ``difference``, where that is no literal in the source."""
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
        way_out = "The expected tree is no literal in this call of assert_tree, so it cannot be updated here."
        raise AssertionError(f"What ran is not the expected tree. {way_out}\n\n{difference}\n")

    def write(self) -> list[str]:
        """Change the files; returns what was changed, as ``path: number``."""
        for path, changes in self._changes.items():
            source = Path(path).read_bytes().splitlines(keepends=True)
            for place in sorted(changes, reverse=True):
                _replace(source, place, changes[place])
            Path(path).write_bytes(b"".join(source))
        return [f"{path}: {len(changes)}" for path, changes in self._changes.items()]


def _replace(source: list[bytes], place: tuple[int, int, int, int], lines: list[str]) -> None:
    first, start, last, end = place  # columns are in bytes of UTF-8, as ast gives them
    before, after = source[first - 1][:start], source[last - 1][end:]
    indent = len(before) - len(before.lstrip())
    inner = textwrap.indent("\n".join(lines), " " * (indent + 4)).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    text = f'"""\n{inner}\n{" " * (indent + 4)}"""' if lines else '""'
    source[first - 1 : last] = [before + text.encode() + after]
