"""What to instrument, as a configuration names it: targets, checked one by one, with a problem for each mistake."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from otelflow.errors import ConfigError, nearest

__all__ = [
    "KEYS",
    "MOST_MATCHES",
    "OUR_OWN",
    "Kind",
    "Place",
    "Problem",
    "Target",
    "fits_part",
    "parse",
    "raise_problems",
]

Kind = Literal["flow", "task"]

MOST_MATCHES = 5000
"""How many functions one target may match, where it does not say (key ``limit``)."""

OUR_OWN = ("otelflow", "otelflow_exporters", "opentelemetry", "wrapt")
_USED_BY_US = (
    *("_thread", "abc", "builtins", "collections", "contextvars", "dataclasses", "functools", "importlib", "inspect"),
    *("itertools", "logging", "os", "random", "sys", "threading", "time", "traceback", "types", "typing", "weakref"),
)
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9}
_NAME = re.compile(r"[^\W\d]\w*")


class Place(NamedTuple):
    """Where something is said: a file and its line, or an argument."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Problem(NamedTuple):
    """What is wrong, and where."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}{'' if self.text[-1:] in '.?' else '.'}"


def raise_problems(problems: list[Problem]) -> None:
    """Raise :class:`otelflow.errors.ConfigError` with all of ``problems``, where there are any."""
    if problems:
        file, line = problems[0].place
        raise ConfigError("\n".join(map(str, problems)), file=file, line=line)


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[")


@functools.lru_cache(maxsize=256)
def _module_pattern(text: str) -> re.Pattern[str]:
    """``shop.*`` is ``shop`` and everything below it, as in mypy's configuration."""
    if text.endswith(".*"):
        return re.compile(rf"(?:{fnmatch.translate(text[:-2])})|(?:{fnmatch.translate(text)})")
    return re.compile(fnmatch.translate(text))


@dataclass(frozen=True)
class Target:
    """One ``[[flow]]`` or ``[[task]]``: functions to instrument, by name."""

    kind: Kind
    module: str
    """Name of a module, or a pattern: ``shop.orders``, ``shop.*``."""
    qualname: str
    """Name within the module, or a pattern for each part: ``reserve``, ``OrderService.place``, ``*.handle_*``."""
    name: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    """Attribute names, and the argument paths that they come from."""
    min_duration_ns: int = 0
    new_trace: bool = False
    exclude: tuple[str, ...] = ()
    """Patterns of names within the module that are left out."""
    limit: int = MOST_MATCHES
    place: Place = field(default=Place("?"), compare=False)

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"

    @property
    def is_exact(self) -> bool:
        """Whether it names one function, and no pattern."""
        return self.names_module and not _is_glob(self.qualname)

    @property
    def names_module(self) -> bool:
        """Whether it names one module, and no pattern of modules."""
        return not _is_glob(self.module)

    def wants_module(self, name: str) -> bool:
        """Whether functions of the module may match."""
        if self.names_module:
            return name == self.module
        return _module_pattern(self.module).match(name) is not None

    def wants_name(self, parts: tuple[str, ...]) -> bool:
        """Whether the pattern matches the name with these parts (``("OrderService", "place")``) within a module."""
        return _fits(self.qualname, parts) and not any(_fits(pattern, parts) for pattern in self.exclude)


def _fits(pattern: str, parts: tuple[str, ...]) -> bool:
    wanted = pattern.split(".")
    return len(wanted) == len(parts) and all(map(fits_part, wanted, parts))


def fits_part(pattern: str, name: str) -> bool:
    """Whether one part of a name matches. As with ``from x import *``, a pattern leaves names with an underscore in
    front alone, unless it has one there itself."""
    if not _is_glob(pattern):
        return name == pattern
    return fnmatch.fnmatchcase(name, pattern) and (not name.startswith("_") or pattern.startswith("_"))


def _refused_module(name: str) -> str | None:
    """Why functions of a module cannot be instrumented; None where they can."""
    top = name.partition(".")[0]
    if top in OUR_OWN:
        return f"{top} is what makes the spans: it cannot be told to trace itself"
    if top in _USED_BY_US:
        return f"otelflow itself runs on {top}: a span for each of its calls would call it again"
    return None


# --- from a table to a target -----------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("a text that is not empty")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _limit(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("a whole number from 1 up")


def _duration(value: object) -> int:
    """Nanoseconds."""
    found = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([a-zµ]+)\s*", value) if isinstance(value, str) else None
    if found is None or found[2] not in _UNITS:
        raise ValueError('a time with its unit, such as "2ms", "0.5s" or "100us"')
    return round(float(found[1]) * _UNITS[found[2]])


def _patterns(value: object) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise ValueError('a list of names or patterns, such as ["health", "Admin*.*"]')


def _paths(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise ValueError('a table of attribute names and argument paths, such as { "order.id" = "order.id" }')
    for attribute, path in value.items():
        if not isinstance(attribute, str) or not attribute:
            raise ValueError("a table whose keys are attribute names")
        parts = path.split(".") if isinstance(path, str) else [""]
        if not _NAME.fullmatch(parts[0]) or not all(parts):
            raise ValueError(f"a table of argument paths, which begin with a parameter's name; {path!r} is none")
    return tuple(value.items())


def _named(value: object) -> str:
    module, colon, qualname = value.partition(":") if isinstance(value, str) else ("", "", "")
    parts = [*module.split("."), *qualname.split(".")]
    if not colon or not all(re.fullmatch(r"[\w*?\[\]!<>-]+", part) for part in parts):
        raise ValueError('"module:name", such as "shop.orders:OrderService.place" or "shop.*:handle_*"')
    return str(value)


_COMMON: dict[str, Callable[[Any], Any]] = {
    "target": _named,
    "name": _text,
    "attributes": _paths,
    "exclude": _patterns,
    "limit": _limit,
}
KEYS: dict[Kind, dict[str, Callable[[Any], Any]]] = {
    "flow": {**_COMMON, "new_trace": _flag},
    "task": {**_COMMON, "min_duration": _duration},
}
"""What a target may say: the keys, each with what reads its value or raises ValueError with what it should be."""

_FIELDS = {"min_duration": "min_duration_ns"}


def parse(kind: Kind, table: object, where: Callable[[str | None], Place]) -> tuple[Target | None, list[Problem]]:
    """The target that ``table`` describes, or what is wrong with it. ``where`` tells the place of a key, and for None
    that of the table."""
    if not isinstance(table, Mapping):
        return None, [Problem(where(None), f"[[{kind}]] is {table!r}. Use a table with a target.")]
    read: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in table.items():
        reader = KEYS[kind].get(str(key))
        if reader is None:
            problems.append(Problem(where(key), _unknown_key(kind, key)))
            continue
        try:
            read[str(key)] = reader(value)
        except ValueError as error:
            problems.append(Problem(where(key), f"{key} = {value!r} in [[{kind}]]: use {error}."))
    if "target" not in table:
        problems.append(Problem(where(None), f'[[{kind}]] has no target. Use target = "module:name".'))
    refused = _refusal(read["target"]) if "target" in read else None
    if refused is not None:
        problems.append(Problem(where("target"), refused))
    if problems:
        return None, problems
    module, _, qualname = read.pop("target").partition(":")
    fields = {_FIELDS.get(key, key): value for key, value in read.items()}
    return Target(kind, module, qualname, place=where("target"), **fields), []


def _unknown_key(kind: Kind, key: object) -> str:
    other = next((one for one in KEYS if one != kind and key in KEYS[one]), None)
    if other is not None:
        return f"{key!r} is for [[{other}]] only, and stands in [[{kind}]]. Take it out."
    hint = nearest(str(key), KEYS[kind])
    return f"[[{kind}]] has no key {key!r}.{hint} It takes: {', '.join(sorted(KEYS[kind]))}."


def _refusal(target: str) -> str | None:
    module, _, qualname = target.partition(":")
    if _is_glob(module.partition(".")[0]):
        return f'target = "{target}" is too wide: it begins with a pattern. Use "package.*:{qualname}".'
    why = _refused_module(module)
    if why is not None:
        return f'target = "{target}": {why}. Take it out.'
    if "<locals>" in qualname:
        return f'target = "{target}": a function inside a function has no name to find it by. Name the outer one.'
    return None
