"""Check lengths, first lines and wire names. import-linter's contracts in pyproject.toml check the layers."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
ROOT = TOP / "otelflow"
HOUSES = {"otelflow": ROOT, "otelflow_exporters": TOP / "exporters" / "otelflow_exporters"}
"""The packages, each with its folder."""

TESTS = [path for folder in ("tests", "exporters/tests") for path in sorted((TOP / folder).rglob("*.py"))]
"""The files of tests and of their support modules."""

LONGEST_FILE = 400
LONGEST_BODY = 40


def modules() -> dict[str, Path]:
    """Return the path of every module of the packages, by ``package:module``."""
    paths = {}
    for package, root in HOUSES.items():
        for path in sorted(root.rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            if parts[-1] == "__init__" and len(parts) > 1:
                parts.pop()
            paths[f"{package}:{'.'.join(parts)}"] = path
    return paths


MODULES = modules()


def test_the_top_level_has_few_modules() -> None:
    """A module that is not for users is in a package, which gives it its layer (contracts in pyproject.toml)."""
    names = [path.name for path in ROOT.glob("*.py")]
    assert len(names) <= 20
    assert [name for name in names if name.startswith("_") and name != "__init__.py"] == ["_version.py"]


@pytest.mark.parametrize("name", MODULES)
def test_files_have_one_subject(name: str) -> None:
    """Each file has a docstring with a first line, a sorted __all__, and a limited length.

    The empty ``__init__.py`` of a private package needs none.
    """
    path = MODULES[name]
    if path.name == "__init__.py" and path.parent.name.startswith("_") and not path.read_text():
        return
    tree = ast.parse(MODULES[name].read_text())
    text = ast.get_docstring(tree)
    assert text
    assert re.match(r"[A-Z`].*[.:]$", text.split("\n")[0])
    assert len(MODULES[name].read_text().splitlines()) <= LONGEST_FILE
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert names == sorted(names, key=lambda item: (item.upper() != item, not item[0].isupper(), item))


def test_files_of_tests_have_a_limited_length() -> None:
    """The limit for files of tests is that for the packages."""
    lengths = {str(path.relative_to(TOP)): len(path.read_text().splitlines()) for path in TESTS}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}
    assert len(lengths) > 100


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_the_screen(name: str) -> None:
    """No function body is longer than 40 lines, without its docstring."""
    too_long = []
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and body[-1].end_lineno is not None and body[-1].end_lineno - body[0].lineno + 1 > LONGEST_BODY:
                too_long.append(node.name)
    assert too_long == []


def test_every_wire_name_is_documented() -> None:
    """Each constant of attributes.py has a docstring, and no two have the same value."""
    body = ast.parse((ROOT / "attributes.py").read_text()).body
    names = [(node, after) for node, after in zip(body, [*body[1:], None], strict=True) if isinstance(node, ast.Assign)]
    assert all(isinstance(after, ast.Expr) for _, after in names)
    values = [ast.literal_eval(node.value) for node, _ in names]
    assert len(values) == len(set(values)) > 20
