"""Targets of a configuration: parse and check each of them, with a problem for each error."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from otelflow.errors import ConfigError, nearest

__all__ = [
    "DEFAULT_LIMIT",
    "KEYS",
    "OWN_PACKAGES",
    "Kind",
    "Place",
    "Problem",
    "Target",
    "matches_part",
    "parse_target",
    "raise_problems",
]

Kind = Literal["flow", "task"]

DEFAULT_LIMIT = 5000
"""Default of the key ``limit``: the number of functions that one target may match."""

OWN_PACKAGES = ("otelflow", "otelflow_exporters", "opentelemetry", "wrapt")
_MODULES_WE_USE = (
    *("_thread", "abc", "builtins", "collections", "contextvars", "dataclasses", "functools", "importlib", "inspect"),
    *("itertools", "logging", "os", "random", "sys", "threading", "time", "traceback", "types", "typing", "weakref"),
)
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9}
_NAME = re.compile(r"[^\W\d]\w*")


class Place(NamedTuple):
    """Where a setting is: a file and its line, or an argument."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Problem(NamedTuple):
    """An error in a configuration, with its place."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}{'' if self.text[-1:] in '.?' else '.'}"


def raise_problems(problems: list[Problem]) -> None:
    """Raise :class:`otelflow.errors.ConfigError` with all problems, if there are any."""
    if problems:
        file, line = problems[0].place
        raise ConfigError("\n".join(map(str, problems)), file=file, line=line)


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[")


@functools.lru_cache(maxsize=256)
def _module_pattern(text: str) -> re.Pattern[str]:
    """Compile a module pattern. ``shop.*`` matches ``shop`` and everything below it, as in mypy's configuration."""
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
    """Attribute names, each with its argument path."""
    min_duration_ns: int = 0
    new_trace: bool = False
    exclude: tuple[str, ...] = ()
    """Patterns of names in the module that are not instrumented."""
    limit: int = DEFAULT_LIMIT
    place: Place = field(default=Place("?"), compare=False)

    def __str__(self) -> str:
        return f"{self.module}:{self.qualname}"

    @property
    def is_exact(self) -> bool:
        """True if the target names one function and has no pattern."""
        return self.has_exact_module and not _is_glob(self.qualname)

    @property
    def has_exact_module(self) -> bool:
        """True if the target names one module and has no pattern of modules."""
        return not _is_glob(self.module)

    def matches_module(self, name: str) -> bool:
        """Return whether functions of the module may match."""
        if self.has_exact_module:
            return name == self.module
        return _module_pattern(self.module).match(name) is not None

    def matches_name(self, parts: tuple[str, ...]) -> bool:
        """Return whether the target matches a name in a module, given as its parts: ``("OrderService", "place")``."""
        return _matches_all_parts(self.qualname, parts) and not any(
            _matches_all_parts(pattern, parts) for pattern in self.exclude
        )


def _matches_all_parts(pattern: str, parts: tuple[str, ...]) -> bool:
    pattern_parts = pattern.split(".")
    return len(pattern_parts) == len(parts) and all(map(matches_part, pattern_parts, parts))


def matches_part(pattern: str, name: str) -> bool:
    """Return whether one part of a name matches.

    As with ``from x import *``, a pattern skips names that begin with an underscore, unless it begins with one too.
    """
    if not _is_glob(pattern):
        return name == pattern
    return fnmatch.fnmatchcase(name, pattern) and (not name.startswith("_") or pattern.startswith("_"))


def _module_refusal(name: str) -> str | None:
    """Return the reason why functions of a module cannot be instrumented, or None."""
    top = name.partition(".")[0]
    if top in OWN_PACKAGES:
        return f"{top} makes the spans and cannot trace itself"
    if top in _MODULES_WE_USE:
        return f"otelflow itself uses {top}, so each span would call it again"
    return None


# --- from a table to a target -----------------------------------------------------------------------------------------


def _read_text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError("a string that is not empty")


def _read_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("true or false")


def _read_limit(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise ValueError("a whole number, at least 1")


def _read_duration(value: object) -> int:
    """Return nanoseconds."""
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,12})?)\s*([a-zµ]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS:
        raise ValueError('a duration with its unit, such as "2ms", "0.5s" or "100us"')
    return round(float(match[1]) * _UNITS[match[2]])


def _read_patterns(value: object) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    raise ValueError('a list of names or patterns, such as ["health", "Admin*.*"]')


def _read_paths(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise ValueError('a table of attribute names and argument paths, such as { "order.id" = "order.id" }')
    for attribute, path in value.items():
        if not isinstance(attribute, str) or not attribute:
            raise ValueError("a table whose keys are attribute names")
        parts = path.split(".") if isinstance(path, str) else [""]
        if not _NAME.fullmatch(parts[0]) or not all(parts):
            raise ValueError(f"argument paths that begin with a parameter's name, not {path!r}")
    return tuple(value.items())


def _read_target(value: object) -> str:
    module, colon, qualname = value.partition(":") if isinstance(value, str) else ("", "", "")
    parts = [*module.split("."), *qualname.split(".")]
    if not colon or not all(re.fullmatch(r"[\w*?\[\]!<>-]+", part) for part in parts):
        raise ValueError('"module:name", such as "shop.orders:OrderService.place" or "shop.*:handle_*"')
    return str(value)


_COMMON: dict[str, Callable[[Any], Any]] = {
    "target": _read_target,
    "name": _read_text,
    "attributes": _read_paths,
    "exclude": _read_patterns,
    "limit": _read_limit,
}
KEYS: dict[Kind, dict[str, Callable[[Any], Any]]] = {
    "flow": {**_COMMON, "new_trace": _read_flag},
    "task": {**_COMMON, "min_duration": _read_duration},
}
"""Keys of a target. Each has a function that reads the value, or raises ValueError with what the value must be."""

_FIELDS = {"min_duration": "min_duration_ns"}


def parse_target(
    kind: Kind, table: object, place_of: Callable[[str | None], Place]
) -> tuple[Target | None, list[Problem]]:
    """Return the target that ``table`` describes, or None and the problems.

    ``place_of`` returns the place of a key, or of the table for None.
    """
    if not isinstance(table, Mapping):
        return None, [Problem(place_of(None), f"[[{kind}]] must be a table with a target; got {table!r}.")]
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, value in table.items():
        reader = KEYS[kind].get(str(key))
        if reader is None:
            problems.append(Problem(place_of(key), _unknown_key_text(kind, key)))
            continue
        try:
            values[str(key)] = reader(value)
        except ValueError as error:
            problems.append(Problem(place_of(key), f"{key} = {value!r} in [[{kind}]]: use {error}."))
    if "target" not in table:
        problems.append(Problem(place_of(None), f'[[{kind}]] has no target. Use target = "module:name".'))
    refusal = _target_refusal(values["target"]) if "target" in values else None
    if refusal is not None:
        problems.append(Problem(place_of("target"), refusal))
    if problems:
        return None, problems
    module, _, qualname = values.pop("target").partition(":")
    fields = {_FIELDS.get(key, key): value for key, value in values.items()}
    return Target(kind, module, qualname, place=place_of("target"), **fields), []


def _unknown_key_text(kind: Kind, key: object) -> str:
    other_kind = next((name for name in KEYS if name != kind and key in KEYS[name]), None)
    if other_kind is not None:
        return f"{key!r} is only for [[{other_kind}]]; here it is in [[{kind}]]. Remove it."
    hint = nearest(str(key), KEYS[kind])
    return f"[[{kind}]] has no key {key!r}.{hint} Its keys: {', '.join(sorted(KEYS[kind]))}."


def _target_refusal(target: str) -> str | None:
    module, _, qualname = target.partition(":")
    if _is_glob(module.partition(".")[0]):
        return f'target = "{target}" is too wide: its module begins with a pattern. Use "package.*:{qualname}".'
    reason = _module_refusal(module)
    if reason is not None:
        return f'target = "{target}": {reason}. Remove it.'
    if "<locals>" in qualname:
        return f'target = "{target}": a function inside a function cannot be found by name. Name the outer function.'
    return None
