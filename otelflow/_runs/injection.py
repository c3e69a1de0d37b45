"""Inject values into a function's parameters: those that otelflow fills in when the caller leaves them out.

The plan is made once for each function. A call only checks if the caller passed the value.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["NAMES", "NO_PLAN", "InjectionPlan", "plan_for"]

NAMES = ("this_flow", "this_task", "flow_data", "task_data")
"""Names of parameters that are always injected."""


class _Parameter:
    __slots__ = ("classes", "name", "position", "positional_only")

    def __init__(self, name: str, position: int | None, classes: tuple[type, ...], positional_only: bool) -> None:
        self.name = name
        self.position = position
        """Index among the positional arguments; None for a keyword-only parameter."""
        self.classes = classes
        """The classes in its annotation; those of Optional and unions one by one."""
        self.positional_only = positional_only


class InjectionPlan:
    """The injectable parameters of one function."""

    __slots__ = ("fixed", "parameters", "single")

    def __init__(self, parameters: tuple[_Parameter, ...], fixed: tuple[tuple[_Parameter, str], ...]) -> None:
        self.parameters = parameters
        """All parameters of the function that can be passed by keyword."""
        self.fixed = fixed
        """The parameters that are injected whenever the caller leaves them out, each with its source (one of NAMES)."""
        self.single: tuple[str, int, str] | None = None
        """If ``fixed`` has one parameter only, the usual case: its name, its position, and its source. It is injected
        if the call has at most so many positional arguments."""
        if len(fixed) == 1:
            parameter, source = fixed[0]
            position = sys.maxsize if parameter.position is None else parameter.position
            self.single = (parameter.name, position, source)

    def fill(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: Callable[[str], Any],
        dependencies: Mapping[str, Any] | None,
        bound: bool = False,
    ) -> dict[str, Any]:
        """Return ``kwargs`` with the injected values. The caller's own arguments always win.

        ``values`` returns the value of one of NAMES. ``bound`` means that ``args`` lack the first parameter (``self``).
        A value of None is not injected: the parameter keeps its default; without one, Python's TypeError names it.
        """
        passed = len(args) + bound
        if self.single is not None and not kwargs and not dependencies:
            single_name, position, source = self.single
            value = values(source) if position >= passed else None
            return kwargs if value is None else {single_name: value}
        filled: dict[str, Any] | None = None
        for parameter, name in self.fixed:
            if parameter.name in kwargs or (parameter.position is not None and parameter.position < passed):
                continue
            value = values(name)
            if value is not None:
                filled = dict(kwargs) if filled is None else filled
                filled[parameter.name] = value
        if dependencies:
            filled = self._fill_dependencies(passed, dict(kwargs) if filled is None else filled, dependencies)
        return kwargs if filled is None else filled

    def _fill_dependencies(
        self, positional_count: int, kwargs: dict[str, Any], dependencies: Mapping[str, Any]
    ) -> dict[str, Any]:
        for parameter in self.parameters:
            if parameter.name in kwargs or (parameter.position is not None and parameter.position < positional_count):
                continue
            if parameter.name in dependencies:
                kwargs[parameter.name] = dependencies[parameter.name]
            elif parameter.classes:
                matches = [value for value in dependencies.values() if _is_instance(value, parameter.classes)]
                if len(matches) == 1:  # with two of one type, only the name can distinguish them
                    kwargs[parameter.name] = matches[0]
        return kwargs


def _is_instance(value: object, classes: tuple[type, ...]) -> bool:
    """Return ``isinstance(value, classes)``; False if that raises, as protocols, typed dicts and lazy proxies may."""
    try:
        return isinstance(value, classes)
    except Exception:
        return False


def _is_subclass(cls: type, base: type) -> bool:
    try:
        return issubclass(cls, base)
    except Exception:  # raised by a metaclass of the user's
        return False


NO_PLAN = InjectionPlan((), ())
"""The plan of a function without injected parameters."""


def plan_for(function: Any, flow_class: type, task_class: type) -> InjectionPlan:
    """Make the plan for ``function``: parameters named as in NAMES, and those annotated with a Flow or Task class."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return NO_PLAN
    hints = _hints(function, {"Flow": flow_class, "Task": task_class})
    preset = _preset_names(function)
    parameters = tuple(
        _Parameter(
            name,
            None if parameter.kind is parameter.KEYWORD_ONLY else index,
            _classes(hints.get(name, parameter.annotation)),
            parameter.kind is parameter.POSITIONAL_ONLY,
        )
        for index, (name, parameter) in enumerate(signature.parameters.items())
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )
    parameters = tuple(parameter for parameter in parameters if parameter.name not in preset)
    usable = tuple(parameter for parameter in parameters if not parameter.positional_only)
    fixed = ((parameter, _injectable_name(parameter, flow_class, task_class)) for parameter in usable)
    return InjectionPlan(usable, tuple((parameter, name) for parameter, name in fixed if name is not None))


def _preset_names(function: Any) -> set[str]:
    """Return the names of the parameters that a partial passes by keyword: the partial counts as the caller."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names |= function.keywords.keys()
        function = function.func
    return names


def _injectable_name(parameter: _Parameter, flow_class: type, task_class: type) -> str | None:
    if parameter.name in NAMES:
        return parameter.name
    if any(_is_subclass(cls, flow_class) for cls in parameter.classes):
        return "this_flow"
    if any(_is_subclass(cls, task_class) for cls in parameter.classes):
        return "this_task"
    return None


def _hints(function: Any, fallback: dict[str, type]) -> dict[str, Any]:
    """Return the annotations, strings resolved one by one: one that fails does not affect the others.

    ``fallback`` has the names Flow and Task, as programs often import them for type checkers only.
    """
    inner = inspect.unwrap(getattr(function, "__func__", function))
    names = {**fallback, **getattr(inner, "__globals__", {})}
    annotations = dict(getattr(inner, "__annotations__", {}))
    for name, annotation in annotations.items():
        if isinstance(annotation, str):
            try:
                annotations[name] = eval(annotation, names)
            except Exception:  # the expression is the user's, and may use names that do not exist at run time
                annotations[name] = None
    return annotations


def _classes(annotation: Any) -> tuple[type, ...]:
    """Return the classes in an annotation: ``Flow``, ``Flow | None``, ``Optional[Flow]``, ``Flow[int]``.

    Builtins are left out: ``int`` does not say which number to inject.
    """
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(cls for part in typing.get_args(annotation) for cls in _classes(part))
    if isinstance(origin, type):
        annotation = origin
    if not isinstance(annotation, type) or annotation.__module__ == "builtins":
        return ()
    return () if annotation is inspect.Parameter.empty else (annotation,)
