"""The configuration file: where it is found, what it may say, and how each mistake is told."""

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
    """What is wrong with a file, its folder left out."""
    path = tmp_path / name
    path.write_text(text)
    return [str(one).replace(f"{tmp_path}/", "") for one in read_config_file(path).problems]


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


def test_what_a_file_says(tmp_path: Path) -> None:
    """Every key, in both forms of tables."""
    (tmp_path / "otelflow.toml").write_text(GOOD)
    (first, second), wrong = read_config_file(tmp_path / "otelflow.toml")
    assert wrong == []
    assert (first.kind, str(first), first.name) == ("flow", "shop.orders:OrderService.place", "place order")
    assert first.attributes == (("order.id", "order.id"), ("tier", "order.customer.tier"))
    assert first.new_trace
    assert (second.kind, second.min_duration_ns, second.limit) == ("task", 2_500_000, 20)
    assert second.exclude == ("handle_health", "Admin*.*")
    assert second.attributes == (("sku", "sku"),)
    assert (first.place.line, second.place.line) == (3, 9)


MISTAKES = [
    ("[[flow]]\ntarget = ", "otelflow.toml:2: is no TOML: Invalid value."),
    ("[[flow]]\ntarget = x\n", "otelflow.toml:2: is no TOML: Invalid value (column 10)."),
    ('x = 1\n[[flow]]\ntarget = "a:b"', 'otelflow.toml:1: there is no setting \'x\'. Use "[[flow]]" and "[[task]]".'),
    ('[[flows]]\ntarget = "a:b"', "otelflow.toml:1: there is no setting 'flows'. Did you mean 'flow'?"),
    ('[flow]\ntarget = "a:b"', "otelflow.toml:1: flow is one table. Use [[flow]], with two brackets."),
    ("flow = [5]", "otelflow.toml:1: [[flow]] is 5. Use a table with a target."),
    ('[[task]]\nname = "x"', 'otelflow.toml:1: [[task]] has no target. Use target = "module:name".'),
    (
        '[[task]]\ntarget = "a:b"\n\nmin_durration = "2ms"',
        "otelflow.toml:4: [[task]] has no key 'min_durration'. Did you mean 'min_duration'? "
        "It takes: attributes, exclude, limit, min_duration, name, target.",
    ),
    (
        '[[flow]]\ntarget = "a:b"\nmin_duration = "2ms"',
        "otelflow.toml:3: 'min_duration' is for [[task]] only, and stands in [[flow]]. Take it out.",
    ),
    (
        '[[task]]\ntarget = "a:b"\nmin_duration = 2',
        'otelflow.toml:3: min_duration = 2 in [[task]]: use a time with its unit, such as "2ms", "0.5s" or "100us".',
    ),
    ('[[task]]\ntarget = "a:b"\nlimit = 0', "otelflow.toml:3: limit = 0 in [[task]]: use a whole number from 1 up."),
    ('[[flow]]\ntarget = "a:b"\nnew_trace = 1', "otelflow.toml:3: new_trace = 1 in [[flow]]: use true or false."),
    ('[[flow]]\ntarget = "a:b"\nname = ""', "otelflow.toml:3: name = '' in [[flow]]: use a text that is not empty."),
    (
        '[[flow]]\ntarget = "a.b.c"',
        "otelflow.toml:2: target = 'a.b.c' in [[flow]]: use \"module:name\", "
        'such as "shop.orders:OrderService.place" or "shop.*:handle_*".',
    ),
    (
        '[[flow]]\ntarget = "a:b"\nattributes = { x = "order..id" }',
        "otelflow.toml:3: attributes = {'x': 'order..id'} in [[flow]]: use a table of argument paths, which begin with "
        "a parameter's name; 'order..id' is none.",
    ),
    (
        '[[flow]]\ntarget = "a:b"\nexclude = "x"',
        "otelflow.toml:3: exclude = 'x' in [[flow]]: use a list of names or patterns, "
        'such as ["health", "Admin*.*"].',
    ),
    (
        '[[flow]]\ntarget = "*:run"',
        'otelflow.toml:2: target = "*:run" is too wide: it begins with a pattern. Use "package.*:run".',
    ),
    (
        '[[flow]]\ntarget = "otelflow.providers:flush"',
        'otelflow.toml:2: target = "otelflow.providers:flush": otelflow is what makes the spans: '
        "it cannot be told to trace itself. Take it out.",
    ),
    (
        '[[task]]\ntarget = "time:time_ns"',
        'otelflow.toml:2: target = "time:time_ns": otelflow itself runs on time: '
        "a span for each of its calls would call it again. Take it out.",
    ),
    (
        '[[task]]\ntarget = "a:f.<locals>.g"',
        'otelflow.toml:2: target = "a:f.<locals>.g": a function inside a function has no name to find it by. '
        "Name the outer one.",
    ),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES)
def test_each_mistake_has_its_line_and_a_way_out(tmp_path: Path, text: str, problem: str) -> None:
    """File, line, what is wrong, and the nearest right name."""
    assert problems(tmp_path, text) == [problem]


def test_one_mistake_does_not_hide_another(tmp_path: Path) -> None:
    """All are told at once; what is right is kept."""
    text = (
        '[[flow]]\ntarget = "a:b"\n[[flow]]\ntarget = "a:c"\nnam = "x"\n[[task]]\n# no target\n[[task]]\ntarget = "a:d"'
    )
    assert [one.partition(":")[2].partition(":")[0] for one in problems(tmp_path, text)] == ["5", "6"]
    assert [str(one) for one in read_config_file(tmp_path / "otelflow.toml").targets] == ["a:b", "a:d"]


def test_lines_of_a_pyproject(tmp_path: Path) -> None:
    """The table lies deeper there, between those of other tools."""
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
    (one,) = problems(tmp_path, text, "pyproject.toml")
    assert one.startswith("pyproject.toml:9: [[task]] has no key 'wrong'")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "is no TOML"),
        (b"a = " + b"[" * 5000, "is no TOML"),
        (b"", None),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, problem: str | None) -> None:
    """Other encodings, hostile nesting, nothing at all: told, or nothing to tell."""
    path = tmp_path / "otelflow.toml"
    path.write_bytes(content)
    found = read_config_file(path)
    assert found.targets == []
    assert [problem in str(one) for one in found.problems if problem] == ([True] if problem else [])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing one, a folder."""
    assert (
        str(read_config_file(tmp_path / "no.toml").problems[0])
        == f"{tmp_path}/no.toml: cannot be read: No such file or directory."
    )
    assert "Is a directory" in str(read_config_file(tmp_path).problems[0])


def test_where_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTELFLOW_CONFIG, then otelflow.toml, then a pyproject.toml that has the table; in the current folder only."""
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
    """For who shows it elsewhere than in a traceback."""
    path = tmp_path / "otelflow.toml"
    path.write_text('[[flow]]\ntarget = "a:b"\nnam = "x"\n[[task]]\n')
    with pytest.raises(ConfigError) as caught:
        instrument(path)
    assert (caught.value.file, caught.value.line) == (str(path), 3)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("given", [5, [5], [{"nam": 1}], "a", ["a"], [{"target": "a:b", "attributes": 5}], [None]])
def test_arguments_are_checked_as_a_file_is(given: Any) -> None:
    """The argument and its position stand in the place of file and line."""
    with pytest.raises(ConfigError, match=r"^tasks"):
        instrument(tasks=given)


# --- the schema -------------------------------------------------------------------------------------------------------

BY_SCHEMA = [
    text for text, _ in MISTAKES[2:] if "otelflow.providers" not in text and "time:" not in text and "<" not in text
]


@pytest.mark.parametrize("text", [GOOD, "", '[[flow]]\ntarget = "a:b"', '[[task]]\ntarget = "a_b.*:C.*"'])
def test_the_schema_takes_what_we_take(tmp_path: Path, text: str) -> None:
    """An editor that knows the schema marks nothing in a good file."""
    assert problems(tmp_path, text) == []
    jsonschema.validate(tomllib.loads(text), SCHEMA)


@pytest.mark.parametrize("text", BY_SCHEMA)
def test_the_schema_refuses_what_we_refuse(text: str) -> None:
    """But for the modules that only we know to be too deep."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), SCHEMA)


def test_the_schema_names_every_key() -> None:
    """Neither more nor less than what is read."""
    from otelflow._instrument.targets import KEYS

    jsonschema.Draft7Validator.check_schema(SCHEMA)
    named = {kind: set(table["items"]["properties"]) for kind, table in SCHEMA["properties"].items()}
    assert named == {kind: set(keys) for kind, keys in KEYS.items()}
