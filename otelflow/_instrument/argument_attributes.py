"""Attributes from arguments, by path: what a configuration allows to be captured, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from otelflow._runs.callable_kind import CACHE
from otelflow._runtime.drop_counts import VALUES, counts
from otelflow._runtime.log_once import log_once
from otelflow._secrets.names import is_allowed, secret_in_name
from otelflow._spans.span_limits import MAX_EVENT_BYTES, estimated_size, truncate_attributes
from otelflow._values.attribute import to_attribute
from otelflow._values.scrub import scrub_value
from otelflow._values.text import MAX_VALUE_BYTES, safe_str
from otelflow.errors import nearest

__all__ = ["ArgumentPaths"]

_MISSING: Any = object()
_LEAST_CARD = 10**12
_FEW = MAX_EVENT_BYTES // (2 * MAX_VALUE_BYTES)
"""So many values cannot be too much for a span, however large each is."""
_AS_TEXT = (Decimal, UUID, date, time, timedelta, complex)


class _Path(NamedTuple):
    attribute: str
    parameter: str
    position: int | None
    """Position of the parameter; None where it is given by keyword only."""
    rest: bool
    """Whether the parameter is ``*args``."""
    default: Any
    steps: tuple[str, ...]
    named: str
    """Name by which its values are judged: the attribute's, or that of the path where it is one of secrets."""

    @property
    def text(self) -> str:
        return ".".join((self.parameter, *self.steps))


class ArgumentPaths:
    """Which attributes a function's span gets from the function's arguments.

    A path begins with a parameter's name; what follows are attributes, keys of mappings, and numbers of list items.
    Raises ValueError, with what is wrong, for a path whose first part is no parameter.
    """

    def __init__(self, function: Any, paths: Sequence[tuple[str, str]], shown: str) -> None:
        self._shown = shown
        try:
            is_cache = type(function) is CACHE  # it passes on what it gets; other decorators may not
            parameters = inspect.signature(function, follow_wrapped=is_cache).parameters
        except (TypeError, ValueError):
            raise ValueError("it tells no signature, so its arguments cannot be named. Leave attributes out") from None
        self._keywords = next((one.name for one in parameters.values() if one.kind is one.VAR_KEYWORD), None)
        self._own = frozenset(parameters)
        self._paths = [self._compiled(parameters, name, path) for name, path in paths]

    def _compiled(self, parameters: Mapping[str, inspect.Parameter], name: str, path: str) -> _Path:
        root, *steps = path.split(".")
        named = path if secret_in_name(path) and not (secret_in_name(name) or is_allowed(name)) else name
        known = parameters.get(root)
        if known is None:
            if self._keywords is None:
                takes = ", ".join(parameters) or "nothing"
                raise ValueError(f"there is no parameter {root!r}.{nearest(root, parameters)} It takes: {takes}")
            return _Path(name, root, None, False, _MISSING, tuple(steps), named)
        default = _MISSING if known.default is known.empty else known.default
        positional = known.kind not in (known.KEYWORD_ONLY, known.VAR_KEYWORD)
        index = list(parameters).index(root) if positional else None
        return _Path(name, root, index, known.kind is known.VAR_POSITIONAL, default, tuple(steps), named)

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The attributes of one call, and how many of them were cut. Never raises: what cannot be read is left out,
        and logged once for each path. ``args`` begin with ``self`` or ``cls`` where the function names it."""
        made: dict[str, Any] = {}
        cut = 0
        for path in self._paths:
            try:
                value = self._root(path, args, kwargs)
                for step in path.steps:
                    if value is None or value is _MISSING:
                        break
                    value = _step(value, step)
                if value is None or value is _MISSING:
                    continue
                made[path.attribute], was_cut = _shown(path, value)
                cut += was_cut
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a property of the user's, a lazy relation of an ORM: it may do anything
                self._broken(path, error)
        if len(made) > _FEW and estimated_size(made) > MAX_EVENT_BYTES:
            made, _, number = truncate_attributes(made, MAX_EVENT_BYTES)
            cut += number
        if cut:
            counts.add(VALUES, cut)
        return made, cut

    def _root(self, path: _Path, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        position = path.position
        if position is not None and position < len(args):
            return args[position:] if path.rest else args[position]
        if path.parameter in kwargs:
            return kwargs[path.parameter]
        if path.parameter == self._keywords:
            return {name: one for name, one in kwargs.items() if name not in self._own}
        return path.default

    def _broken(self, path: _Path, error: BaseException) -> None:
        log_once(
            f"argument path {self._shown} {path.text}",
            "The attribute %r of %s is left out where its path %r cannot be read: %s",
            path.attribute,
            self._shown,
            path.text,
            type(error).__name__,  # not its text: that may have the value
        )


def _step(value: Any, name: str) -> Any:
    if type(value) is dict or isinstance(value, Mapping):
        return value[name] if name in value else value.get(int(name)) if name.isdigit() else None
    if isinstance(value, list | tuple) and name.isdigit():
        return value[int(name)] if int(name) < len(value) else None
    return getattr(value, name)


def _shown(path: _Path, value: Any) -> tuple[Any, bool]:
    """What goes on the span: simple values and lists of them, texts within bounds; of other objects the class, as
    their parts were not allowed by name."""
    redacted = scrub_value(path.named, value)
    if redacted is not None:
        return redacted, False
    if type(value) in (bool, int, float) and -_LEAST_CARD < value < _LEAST_CARD:  # most are: what follows is careful
        return value, False
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, _AS_TEXT):
        value = safe_str(value)
    if isinstance(value, bool | int | float | str) or _is_list(value):
        return to_attribute(path.named, value)
    cls = type(value)
    return f"<{cls.__name__}>" if cls.__module__ == "builtins" else f"<{cls.__module__}.{cls.__qualname__}>", False


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= 64
        and bool(value)
        and all(type(one) in (bool, int, float, str) and type(one) is type(value[0]) for one in value)
    )
