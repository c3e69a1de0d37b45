"""The house: modules stand on floors, each imports only what lies below, and nobody walks in circles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "otelflow"

FLOORS = [
    ["_clock", "_fork", "errors", "attributes", "context", "_version", "_naming", "_counts", "_shapes", "_loops"],
    ["_secrets", "_postponed"],
    ["config", "events", "records", "_stdout", "_inject", "_lean", "_telemetry", "_wrapper"],
    ["_values", "_journal", "listeners", "_ids", "_pipeline", "_processors", "_exporters", "_log_events"],
    ["_tracebacks", "_spec", "providers", "_packing", "_span_parts"],
    ["_relay"],
    ["_emit"],
    ["_run"],
    ["_drive", "_account"],
    ["_execute"],
    ["_flow"],
    ["_targets"],
    ["_argument_paths", "_settings_file", "_members", "_import_hook"],
    ["_instrumented", "_bindings"],
    ["_installed"],
    ["_instrument", "_main_module", "_holders"],
    ["_profile", "_survey", "_start", "instrumentation"],
    ["_site.sitecustomize"],
    ["_remote", "decorators"],
    ["_carrier", "_replay"],
    ["_worker"],
    ["_jobs"],
    ["propagate", "_pytest_export"],
    ["testing._routes", "testing._stable", "testing._text", "testing._update"],
    ["testing._snapshot"],
    ["testing._records", "testing._pattern"],
    ["testing._match", "testing._checks"],
    ["testing._difference"],
    ["testing._capture"],
    ["testing"],
    ["pytest_plugin"],
    ["compat._plain", "compat._config", "compat._views", "compat._events", "demo"],
    ["compat._flow"],
    ["compat._decorators"],
    ["compat", "cli._group", "cli._program", "cli._completion"],
    ["cli._shown", "cli._call", "cli._check"],
    ["cli._demo", "cli._run"],
    ["cli"],
    ["__init__", "cli.__main__"],
]
"""From the ground up. A module imports only from floors below its own, lazy and TYPE_CHECKING imports counted."""

FACADES = {"__init__", "compat", "testing"}

LONGEST_FILE = 400
LONGEST_BODY = 40


def modules() -> dict[str, Path]:
    """Every module of the package, by its name within it."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports_of(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "otelflow":
            inside = node.module.removeprefix("otelflow").removeprefix(".")
            for alias in node.names:
                name = f"{inside}.{alias.name}".removeprefix(".")
                found.add(name if name in MODULES else inside or "__init__")
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.removeprefix("otelflow.") for alias in node.names if alias.name.startswith("otelflow.")
            }
    return found


def test_every_module_has_its_floor() -> None:
    """A new module is given its place in FLOORS."""
    assert sorted(name for floor in FLOORS for name in floor) == sorted(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    """No import goes up; on one floor only where it stands earlier there, so there can be no circle."""
    order = [module for floor in FLOORS for module in floor]
    upwards = {other for other in imports_of(MODULES[name]) if order.index(other) >= order.index(name)}
    assert upwards == set()


@pytest.mark.parametrize("name", sorted(set(MODULES) - FACADES))
def test_nobody_imports_a_facade(name: str) -> None:
    """The facades hand names on to users; inside, a name is imported from where it is."""
    assert not imports_of(MODULES[name]) & FACADES


@pytest.mark.parametrize("name", MODULES)
def test_files_have_one_subject(name: str) -> None:
    """A first docstring line that says what it is for, a sorted __all__, and a length that can be read."""
    tree = ast.parse(MODULES[name].read_text())
    text = ast.get_docstring(tree)
    assert text
    assert re.match(r"[A-Z`].*[.:]$", text.split("\n")[0])
    assert len(MODULES[name].read_text().splitlines()) <= LONGEST_FILE
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert names == sorted(names, key=lambda item: (item.upper() != item, not item[0].isupper(), item))


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_the_screen(name: str) -> None:
    """No function body is longer than 40 lines, its docstring not counted."""
    too_long = []
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and body[-1].end_lineno is not None and body[-1].end_lineno - body[0].lineno + 1 > LONGEST_BODY:
                too_long.append(node.name)
    assert too_long == []


def test_every_wire_name_is_documented() -> None:
    """Each constant of attributes.py has its meaning under it, and no two have one value."""
    body = ast.parse((ROOT / "attributes.py").read_text()).body
    names = [(node, after) for node, after in zip(body, [*body[1:], None], strict=True) if isinstance(node, ast.Assign)]
    assert all(isinstance(after, ast.Expr) for _, after in names)
    values = [ast.literal_eval(node.value) for node, _ in names]
    assert len(values) == len(set(values)) > 20
