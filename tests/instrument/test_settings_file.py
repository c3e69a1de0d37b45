"""Configuration file: where it is found, its keys, and the message for each error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import otelflow
from otelflow import instrument
from otelflow._instrument.config_file import find_config_file, read_config_file
from otelflow.errors import ConfigError

try:
    import tomllib
except ImportError:
    import tomli as tomllib

SCHEMA = json.loads((Path(otelflow.__file__).parent / "otelflow.schema.json").read_text())


def problems(tmp_path: Path, text: str, name: str = "otelflow.toml") -> list[str]:
    """Return the problems of a file, without its folder."""
    path = tmp_path / name
    path.write_text(text)
    return [str(problem).replace(f"{tmp_path}/", "") for problem in read_config_file(path).problems]


GOOD = """
[[flow]]
target = "shop.orders:OrderService.place"
name = "place order"
attributes = { "order.id" = "order.id", tier = "order.customer.tier" }
new_trace = true

[[task]]
target = "shop.*:handle_*"
min_duration = "2.5ms"
exclude = ["handle_health", "Admin*.*"]
limit = 20
[task.attributes]
sku = "sku"
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    """In both forms of tables."""
    (tmp_path / "otelflow.toml").write_text(GOOD)
    (first, second), errors = read_config_file(tmp_path / "otelflow.toml")
    assert errors == []
    assert (first.kind, str(first), first.name) == ("flow", "shop.orders:OrderService.place", "place order")
    assert first.attributes == (("order.id", "order.id"), ("tier", "order.customer.tier"))
    assert first.new_trace
    assert (second.kind, second.min_duration_ns, second.limit) == ("task", 2_500_000, 20)
    assert second.exclude == ("handle_health", "Admin*.*")
    assert second.attributes == (("sku", "sku"),)
    assert (first.place.line, second.place.line) == (3, 9)


MISTAKES = [
    ("[[flow]]\ntarget = ", "otelflow.toml:2: is not valid TOML: Invalid value."),
    ("[[flow]]\ntarget = x\n", "otelflow.toml:2: is not valid TOML: Invalid value (column 10)."),
    ('x = 1\n[[flow]]\ntarget = "a:b"', 'otelflow.toml:1: there is no setting \'x\'. Use "[[flow]]" and "[[task]]".'),
    ('[[flows]]\ntarget = "a:b"', "otelflow.toml:1: there is no setting 'flows'. Did you mean 'flow'?"),
    ('[flow]\ntarget = "a:b"', "otelflow.toml:1: flow is a single table. Use [[flow]], with two brackets."),
    ("flow = [5]", "otelflow.toml:1: [[flow]] must be a table with a target; got 5."),
    ('[[task]]\nname = "x"', 'otelflow.toml:1: [[task]] has no target. Use target = "module:name".'),
    (
        '[[task]]\ntarget = "a:b"\n\nmin_durration = "2ms"',
        "otelflow.toml:4: [[task]] has no key 'min_durration'. Did you mean 'min_duration'? "
        "Its keys: attributes, exclude, limit, min_duration, name, target.",
    ),
    (
        '[[flow]]\ntarget = "a:b"\nmin_duration = "2ms"',
        "otelflow.toml:3: 'min_duration' is only for [[task]]; here it is in [[flow]]. Remove it.",
    ),
    (
        '[[task]]\ntarget = "a:b"\nmin_duration = 2',
        "otelflow.toml:3: min_duration = 2 in [[task]]: use a duration with its unit, "
        'such as "2ms", "0.5s" or "100us".',
    ),
    ('[[task]]\ntarget = "a:b"\nlimit = 0', "otelflow.toml:3: limit = 0 in [[task]]: use a whole number, at least 1."),
    ('[[flow]]\ntarget = "a:b"\nnew_trace = 1', "otelflow.toml:3: new_trace = 1 in [[flow]]: use true or false."),
    ('[[flow]]\ntarget = "a:b"\nname = ""', "otelflow.toml:3: name = '' in [[flow]]: use a string that is not empty."),
    (
        '[[flow]]\ntarget = "a.b.c"',
        "otelflow.toml:2: target = 'a.b.c' in [[flow]]: use \"module:name\", "
        'such as "shop.orders:OrderService.place" or "shop.*:handle_*".',
    ),
    (
        '[[flow]]\ntarget = "a:b"\nattributes = { x = "order..id" }',
        "otelflow.toml:3: attributes = {'x': 'order..id'} in [[flow]]: use argument paths that begin with "
        "a parameter's name, not 'order..id'.",
    ),
    (
        '[[flow]]\ntarget = "a:b"\nexclude = "x"',
        "otelflow.toml:3: exclude = 'x' in [[flow]]: use a list of names or patterns, "
        'such as ["health", "Admin*.*"].',
    ),
    (
        '[[flow]]\ntarget = "*:run"',
        'otelflow.toml:2: target = "*:run" is too wide: its module begins with a pattern. Use "package.*:run".',
    ),
    (
        '[[flow]]\ntarget = "otelflow.providers:flush"',
        'otelflow.toml:2: target = "otelflow.providers:flush": otelflow makes the spans '
        "and cannot trace itself. Remove it.",
    ),
    (
        '[[task]]\ntarget = "time:time_ns"',
        'otelflow.toml:2: target = "time:time_ns": otelflow itself uses time, '
        "so each span would call it again. Remove it.",
    ),
    (
        '[[task]]\ntarget = "a:f.<locals>.g"',
        'otelflow.toml:2: target = "a:f.<locals>.g": a function inside a function cannot be found by name. '
        "Name the outer function.",
    ),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_each_error_has_its_line_and_a_hint(tmp_path: Path, text: str, problem: str) -> None:
    """The message has file, line, error, and the nearest correct name."""
    assert problems(tmp_path, text) == [problem]


def test_all_errors_are_reported_at_once(tmp_path: Path) -> None:
    """Correct targets are kept."""
    text = (
        '[[flow]]\ntarget = "a:b"\n[[flow]]\ntarget = "a:c"\nnam = "x"\n[[task]]\n# no target\n[[task]]\ntarget = "a:d"'
    )
    assert [text.partition(":")[2].partition(":")[0] for text in problems(tmp_path, text)] == ["5", "6"]
    assert [str(target) for target in read_config_file(tmp_path / "otelflow.toml").targets] == ["a:b", "a:d"]


def test_line_numbers_in_a_pyproject(tmp_path: Path) -> None:
    """The table is nested there, between tables of other tools."""
    text = """
    [project]
    name = "x"
    [tool.otelflow]
    [[tool.otelflow.flow]]
    target = "a:b"
    [[ tool . otelflow . task ]]
    target = "a:c"
    wrong = 1
    [tool.ruff]
    name = 5
    """
    (problem,) = problems(tmp_path, text, "pyproject.toml")
    assert problem.startswith("pyproject.toml:9: [[task]] has no key 'wrong'")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "is not valid TOML"),
        (b"a = " + b"[" * 5000, "is not valid TOML"),
        (b"", None),
    ],
)
def test_files_without_a_valid_configuration(tmp_path: Path, content: bytes, problem: str | None) -> None:
    """Other encodings and deep nesting are reported; an empty file is accepted."""
    path = tmp_path / "otelflow.toml"
    path.write_bytes(content)
    settings = read_config_file(path)
    assert settings.targets == []
    assert [problem in str(item) for item in settings.problems if problem] == ([True] if problem else [])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, and a folder."""
    assert (
        str(read_config_file(tmp_path / "no.toml").problems[0])
        == f"{tmp_path}/no.toml: cannot be read: No such file or directory."
    )
    assert "Is a directory" in str(read_config_file(tmp_path).problems[0])


def test_the_order_in_which_the_file_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTELFLOW_CONFIG, then otelflow.toml, then a pyproject.toml with the table; the current folder only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTELFLOW_CONFIG", raising=False)
    assert find_config_file() is None
    with pytest.raises(ConfigError, match="There is no configuration"):
        instrument()
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")
    assert find_config_file() is None
    (tmp_path / "pyproject.toml").write_text('[[tool.otelflow.flow]]\ntarget = "a:b"\n')
    assert find_config_file() == Path("pyproject.toml")
    (tmp_path / "otelflow.toml").write_text("")
    assert find_config_file() == Path("otelflow.toml")
    monkeypatch.setenv("OTELFLOW_CONFIG", "else.toml")
    assert find_config_file() == Path("else.toml")
    with pytest.raises(ConfigError, match=r"else\.toml: cannot be read"):
        instrument()
    (tmp_path / "sub").mkdir()
    monkeypatch.delenv("OTELFLOW_CONFIG")
    monkeypatch.chdir(tmp_path / "sub")
    assert find_config_file() is None


def test_the_error_carries_file_and_line(tmp_path: Path) -> None:
    """Programs can show them outside a traceback."""
    path = tmp_path / "otelflow.toml"
    path.write_text('[[flow]]\ntarget = "a:b"\nnam = "x"\n[[task]]\n')
    with pytest.raises(ConfigError) as caught:
        instrument(path)
    assert (caught.value.file, caught.value.line) == (str(path), 3)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("tasks", [5, [5], [{"nam": 1}], "a", ["a"], [{"target": "a:b", "attributes": 5}], [None]])
def test_arguments_are_checked_like_a_file(tasks: Any) -> None:
    """The message has the argument and its position instead of file and line."""
    with pytest.raises(ConfigError, match=r"^tasks"):
        instrument(tasks=tasks)


# --- the schema -------------------------------------------------------------------------------------------------------

BY_SCHEMA = [
    text for text, _ in MISTAKES[2:] if "otelflow.providers" not in text and "time:" not in text and "<" not in text
]


@pytest.mark.parametrize("text", [GOOD, "", '[[flow]]\ntarget = "a:b"', '[[task]]\ntarget = "a_b.*:C.*"'])
def test_the_schema_accepts_correct_files(tmp_path: Path, text: str) -> None:
    """An editor with the schema marks no error in a correct file."""
    assert problems(tmp_path, text) == []
    jsonschema.validate(tomllib.loads(text), SCHEMA)


@pytest.mark.parametrize("text", BY_SCHEMA)
def test_the_schema_rejects_files_with_errors(text: str) -> None:
    """Except for refused modules, which the schema does not know."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), SCHEMA)


def test_the_schema_names_every_key() -> None:
    """The schema has exactly the keys that are read."""
    from otelflow._instrument.targets import KEYS

    jsonschema.Draft7Validator.check_schema(SCHEMA)
    schema_keys = {kind: set(table["items"]["properties"]) for kind, table in SCHEMA["properties"].items()}
    assert schema_keys == {kind: set(keys) for kind, keys in KEYS.items()}
