"""Find the places where code can be changed a little, and make the change: each is one mutant."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Mutant", "mutants_in"]

_SWAPS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.FloorDiv: ("//", "*"),
    ast.Div: ("/", "*"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
}
_LONGEST_NAME = 40
"""Characters of a text that is mutated. A longer one, or one with a space, is for people; no test should compare it."""


@dataclass(frozen=True)
class Mutant:
    """One change: the bytes from ``start`` to ``end`` of ``path`` become ``new``."""

    path: str
    function: str
    line: int
    last_line: int
    start: int
    end: int
    old: str
    new: str

    @property
    def change(self) -> str:
        """The change in one line."""
        return f"{self.old!r} -> {self.new!r}"

    def apply(self, source: bytes) -> bytes:
        """Return ``source`` with the change."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def compiles(self, source: bytes) -> bool:
        """Return whether the changed module compiles: a constant in a pattern cannot become a call, for one."""
        try:
            compile(self.apply(source), self.path, "exec")
        except SyntaxError:
            return False
        return True


def mutants_in(path: str, source: bytes) -> Iterator[Mutant]:
    """Yield each mutant of a module, in the order of its lines."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    yield from sorted(finder.found, key=lambda mutant: (mutant.start, mutant.new))


class _Finder(ast.NodeVisitor):
    """Collects mutants, each with the function that it is in."""

    def __init__(self, path: str, source: bytes) -> None:
        self.found: list[Mutant] = []
        self._path = path
        self._source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._scope: list[str] = []

    # --- what is left alone -------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._scope.append(node.name)
        if not isinstance(node, ast.ClassDef):  # annotations and decorators change nothing that a test should see
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef  # noqa: N815  # names of ast's

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        if not names & {"__all__", "__slots__"}:
            self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass  # a text for people

    # --- what is changed ----------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):  # a docstring
            return
        if not isinstance(node.value, ast.Yield | ast.YieldFrom):
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(node, "pass")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add(node, "return None")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "break")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "continue")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            self._swap(operator, left, right)
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._swap(node.op, left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = (ast.Constant, ast.JoinedStr)
        if not any(isinstance(side, texts) and "'" in ast.dump(side)[:30] for side in (node.left, node.right)):
            self._swap(node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add(node, str(not value))
        elif isinstance(value, int | float):
            self._add(node, f"{value + 1}")
        elif isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and " " not in value:
            self._add(node, repr(f"{value}XX"))

    # --- bytes --------------------------------------------------------------------------------------------------

    def _negate(self, test: ast.expr) -> None:
        if not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)) and not isinstance(test, ast.Compare):
            self._add(test, f"not ({self._text(test)})")

    def _swap(self, operator: ast.AST, left: ast.expr, right: ast.expr) -> None:
        old, new = _SWAPS.get(type(operator), ("", ""))
        start, end = self._end(left), self._start(right)
        at = self._source.find(old.encode(), start, end) if old else -1
        if at >= 0:
            line = self._source.count(b"\n", 0, at) + 1
            self._record(line, line, at, at + len(old), old, new)

    def _add(self, node: ast.stmt | ast.expr, new: str) -> None:
        start, end = self._start(node), self._end(node)
        self._record(node.lineno, node.end_lineno or node.lineno, start, end, self._source[start:end].decode(), new)

    def _record(self, line: int, last_line: int, start: int, end: int, old: str, new: str) -> None:
        self.found.append(Mutant(self._path, ".".join(self._scope), line, last_line, start, end, old, new))

    def _text(self, node: ast.expr) -> str:
        return self._source[self._start(node) : self._end(node)].decode()

    def _start(self, node: ast.stmt | ast.expr) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.stmt | ast.expr) -> int:
        return self._lines[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
