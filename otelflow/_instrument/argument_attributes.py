"""Read span attributes from the arguments of a call, by configured paths. Other arguments are not captured."""

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
_MIN_CARD_NUMBER = 10**12
_ALWAYS_FITTING_COUNT = MAX_EVENT_BYTES // (2 * MAX_VALUE_BYTES)
"""A span always has room for this number of values, however large each value is."""
_AS_TEXT = (Decimal, UUID, date, time, timedelta, complex)


class _Path(NamedTuple):
    attribute: str
    parameter: str
    position: int | None
    """Position of the parameter; None for a keyword-only parameter."""
    is_var_positional: bool
    """True for ``*args``."""
    default: Any
    steps: tuple[str, ...]
    scrub_name: str
    """Name that decides on scrubbing: the attribute's, or the path if only the path names a secret."""

    @property
    def text(self) -> str:
        return ".".join((self.parameter, *self.steps))


class ArgumentPaths:
    """Configured argument paths of one function, with the span attributes that they become.

    A path begins with a parameter's name. Attribute names, keys of mappings and indexes of list items follow.
    The constructor raises ValueError if the function has no such parameter, or no signature.
    """

    def __init__(self, function: Any, paths: Sequence[tuple[str, str]], target: str) -> None:
        self._target = target
        try:
            is_cache = type(function) is CACHE  # a cache passes its arguments on unchanged; other decorators may not
            parameters = inspect.signature(function, follow_wrapped=is_cache).parameters
        except (TypeError, ValueError):
            raise ValueError("it has no signature, so its arguments have no names. Remove attributes") from None
        self._var_keyword = next((item.name for item in parameters.values() if item.kind is item.VAR_KEYWORD), None)
        self._parameter_names = frozenset(parameters)
        self._paths = [self._compile(parameters, name, path) for name, path in paths]

    def _compile(self, parameters: Mapping[str, inspect.Parameter], name: str, path: str) -> _Path:
        root, *steps = path.split(".")
        scrub_name = path if secret_in_name(path) and not (secret_in_name(name) or is_allowed(name)) else name
        parameter = parameters.get(root)
        if parameter is None:
            if self._var_keyword is None:
                names = ", ".join(parameters) or "none"
                raise ValueError(f"there is no parameter {root!r}.{nearest(root, parameters)} Its parameters: {names}")
            return _Path(name, root, None, False, _MISSING, tuple(steps), scrub_name)
        default = _MISSING if parameter.default is parameter.empty else parameter.default
        positional = parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD)
        index = list(parameters).index(root) if positional else None
        return _Path(name, root, index, parameter.kind is parameter.VAR_POSITIONAL, default, tuple(steps), scrub_name)

    def read(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Return the attributes of one call, and the number of values that were truncated.

        Never raises: a path that cannot be read gives no attribute, and is logged once. ``args`` begin with ``self``
        or ``cls`` if the function has this parameter.
        """
        attributes: dict[str, Any] = {}
        truncated = 0
        for path in self._paths:
            try:
                value = self._root_value(path, args, kwargs)
                for step in path.steps:
                    if value is None or value is _MISSING:
                        break
                    value = _read_step(value, step)
                if value is None or value is _MISSING:
                    continue
                attributes[path.attribute], is_truncated = _attribute_value(path, value)
                truncated += is_truncated
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a property or a lazy relation of an ORM may raise anything
                self._log_unreadable(path, error)
        if len(attributes) > _ALWAYS_FITTING_COUNT and estimated_size(attributes) > MAX_EVENT_BYTES:
            attributes, _, number = truncate_attributes(attributes, MAX_EVENT_BYTES)
            truncated += number
        if truncated:
            counts.add(VALUES, truncated)
        return attributes, truncated

    def _root_value(self, path: _Path, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        position = path.position
        if position is not None and position < len(args):
            return args[position:] if path.is_var_positional else args[position]
        if path.parameter in kwargs:
            return kwargs[path.parameter]
        if path.parameter == self._var_keyword:
            return {name: value for name, value in kwargs.items() if name not in self._parameter_names}
        return path.default

    def _log_unreadable(self, path: _Path, error: BaseException) -> None:
        log_once(
            f"argument path {self._target} {path.text}",
            "Attribute %r of %s is missing on some spans: its path %r could not be read: %s",
            path.attribute,
            self._target,
            path.text,
            type(error).__name__,  # its text may contain the value
        )


def _read_step(value: Any, name: str) -> Any:
    if type(value) is dict or isinstance(value, Mapping):
        return value[name] if name in value else value.get(int(name)) if name.isdigit() else None
    if isinstance(value, list | tuple) and name.isdigit():
        return value[int(name)] if int(name) < len(value) else None
    return getattr(value, name)


def _attribute_value(path: _Path, value: Any) -> tuple[Any, bool]:
    """Return the attribute value, and whether it was truncated.

    Simple values and lists of them are kept. Other objects become the name of their class: the configuration does not
    allow their parts by name.
    """
    redacted = scrub_value(path.scrub_name, value)
    if redacted is not None:
        return redacted, False
    # Shortcut for the common case: the checks below are slow.
    if type(value) in (bool, int, float) and -_MIN_CARD_NUMBER < value < _MIN_CARD_NUMBER:
        return value, False
    if isinstance(value, Enum):
        value = value.value
    elif isinstance(value, _AS_TEXT):
        value = safe_str(value)
    if isinstance(value, bool | int | float | str) or _is_list(value):
        return to_attribute(path.scrub_name, value)
    cls = type(value)
    return f"<{cls.__name__}>" if cls.__module__ == "builtins" else f"<{cls.__module__}.{cls.__qualname__}>", False


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= 64
        and bool(value)
        and all(type(item) in (bool, int, float, str) and type(item) is type(value[0]) for item in value)
    )
