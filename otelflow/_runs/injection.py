"""Injection: which parameters of a function otelflow fills in when the caller left them out.

The plan is worked out once for each function; a call only looks whether the caller gave the value.
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
"""Parameter names that are filled in wherever they appear."""


class _Parameter:
    __slots__ = ("classes", "name", "position", "positional_only")

    def __init__(self, name: str, position: int | None, classes: tuple[type, ...], positional_only: bool) -> None:
        self.name = name
        self.position = position
        """Index among the positional arguments; None for a keyword-only parameter."""
        self.classes = classes
        """What its annotation names, Optional and unions taken apart."""
        self.positional_only = positional_only


class InjectionPlan:
    """The injectable parameters of one function."""

    __slots__ = ("alone", "fixed", "parameters")

    def __init__(self, parameters: tuple[_Parameter, ...], fixed: tuple[tuple[_Parameter, str], ...]) -> None:
        self.parameters = parameters
        """Every parameter of the function that may be passed by keyword."""
        self.fixed = fixed
        """Those that are filled in whenever the caller leaves them out, with what fills them (one of NAMES)."""
        self.alone: tuple[str, int, str] | None = None
        """Where there is one of those only, as nearly always: its name, the number of positional arguments up to which
        it is left out, and what fills it."""
        if len(fixed) == 1:
            parameter, source = fixed[0]
            position = sys.maxsize if parameter.position is None else parameter.position
            self.alone = (parameter.name, position, source)

    def fill(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: Callable[[str], Any],
        dependencies: Mapping[str, Any] | None,
        bound: bool = False,
    ) -> dict[str, Any]:
        """``kwargs`` with what was left out. What the caller passed always wins; ``values`` looks one of NAMES up.

        ``bound`` says that the arguments lack the first parameter, ``self`` of a method. A value of None is not
        injected: the parameter's default stays, and without one Python's own TypeError names it.
        """
        given = len(args) + bound
        if self.alone is not None and not kwargs and not dependencies:
            alone, position, source = self.alone
            value = values(source) if position >= given else None
            return kwargs if value is None else {alone: value}
        filled: dict[str, Any] | None = None
        for parameter, name in self.fixed:
            if parameter.name in kwargs or (parameter.position is not None and parameter.position < given):
                continue
            value = values(name)
            if value is not None:
                filled = dict(kwargs) if filled is None else filled
                filled[parameter.name] = value
        if dependencies:
            filled = self._fill_dependencies(given, dict(kwargs) if filled is None else filled, dependencies)
        return kwargs if filled is None else filled

    def _fill_dependencies(self, given: int, kwargs: dict[str, Any], dependencies: Mapping[str, Any]) -> dict[str, Any]:
        for parameter in self.parameters:
            if parameter.name in kwargs or (parameter.position is not None and parameter.position < given):
                continue
            if parameter.name in dependencies:
                kwargs[parameter.name] = dependencies[parameter.name]
            elif parameter.classes:
                matches = [value for value in dependencies.values() if _is_instance(value, parameter.classes)]
                if len(matches) == 1:  # two of one type: only the name can tell them apart
                    kwargs[parameter.name] = matches[0]
        return kwargs


def _is_instance(value: object, classes: tuple[type, ...]) -> bool:
    """isinstance, where it can be asked: protocols, typed dicts and lazy proxies may raise."""
    try:
        return isinstance(value, classes)
    except Exception:
        return False


def _is_subclass(cls: type, base: type) -> bool:
    try:
        return issubclass(cls, base)
    except Exception:  # a metaclass of the user's
        return False


NO_PLAN = InjectionPlan((), ())
"""Of a function that nothing is injected into."""


def plan_for(function: Any, flow_class: type, task_class: type) -> InjectionPlan:
    """The plan for ``function``: parameters named as in NAMES, and those annotated with the Flow or Task class."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins without one
        return NO_PLAN
    hints = _hints(function, {"Flow": flow_class, "Task": task_class})
    preset = _preset(function)
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
    fixed = ((parameter, _source(parameter, flow_class, task_class)) for parameter in usable)
    return InjectionPlan(usable, tuple((parameter, name) for parameter, name in fixed if name is not None))


def _preset(function: Any) -> set[str]:
    """Names of the parameters that a partial gives by keyword already: it is the caller there."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names |= function.keywords.keys()
        function = function.func
    return names


def _source(parameter: _Parameter, flow_class: type, task_class: type) -> str | None:
    if parameter.name in NAMES:
        return parameter.name
    if any(_is_subclass(cls, flow_class) for cls in parameter.classes):
        return "this_flow"
    if any(_is_subclass(cls, task_class) for cls in parameter.classes):
        return "this_task"
    return None


def _hints(function: Any, own: dict[str, type]) -> dict[str, Any]:
    """Annotations with strings resolved, each by itself: one that cannot be does not spoil the others.

    ``own`` are names to fall back on: Flow and Task are often imported for type checkers only.
    """
    inner = inspect.unwrap(getattr(function, "__func__", function))
    names = {**own, **getattr(inner, "__globals__", {})}
    made = dict(getattr(inner, "__annotations__", {}))
    for name, annotation in made.items():
        if isinstance(annotation, str):
            try:
                made[name] = eval(annotation, names)
            except Exception:  # it runs the user's expression, and may name what is not there
                made[name] = None
    return made


def _classes(annotation: Any) -> tuple[type, ...]:
    """The classes that an annotation names: ``Flow``, ``Flow | None``, ``Optional[Flow]``, ``Flow[int]``.

    Builtins are not among them: that a number is wanted does not say which.
    """
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return tuple(cls for part in typing.get_args(annotation) for cls in _classes(part))
    if isinstance(origin, type):
        annotation = origin
    if not isinstance(annotation, type) or annotation.__module__ == "builtins":
        return ()
    return () if annotation is inspect.Parameter.empty else (annotation,)
