"""Where a function stands that is to be wrapped: in a module or a class, as what; or why it cannot be wrapped there."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import wrapt

from otelflow._instrument.targets import Target, fits_part
from otelflow._runs.callable_kind import CACHE
from otelflow._runs.wrapper import BoundWrapper, Wrapper
from otelflow.errors import nearest

__all__ = ["Match", "NotInstrumentable", "find_matches", "is_ours", "namespace", "replacement", "through_super"]

_BY_THE_INTERPRETER = (
    *("__new__", "__del__", "__init_subclass__", "__class_getitem__", "__set_name__", "__get__", "__set__"),
    *("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__instancecheck__", "__subclasscheck__"),
    *("__hash__", "__eq__", "__repr__", "__str__"),
)
_IMMUTABLE, _HEAP_TYPE = 1 << 8, 1 << 9
"""Flags of a type: Py_TPFLAGS_IMMUTABLETYPE (Python 3.10 and later), Py_TPFLAGS_HEAPTYPE."""


_FUNCTIONS = (types.FunctionType, wrapt.FunctionWrapper, CACHE)
_ITERABLE_COROUTINE = inspect.CO_ITERABLE_COROUTINE


class NotInstrumentable(Exception):
    """Why a name cannot be instrumented: a sentence."""


class Match(NamedTuple):
    """A name in a module or class, and what stands there."""

    owner: Any
    name: str
    raw: Any
    """What is in the owner's ``__dict__``, or in that of the class that it inherits from."""
    is_inherited: bool = False

    @property
    def module(self) -> str:
        """Name of the module that the owner is, or is from."""
        return str(self.owner.__name__ if isinstance(self.owner, types.ModuleType) else self.owner.__module__)

    @property
    def shown(self) -> str:
        """``module:qualname``."""
        owner = self.owner
        if isinstance(owner, types.ModuleType):
            return f"{owner.__name__}:{self.name}"
        return f"{owner.__module__}:{owner.__qualname__}.{self.name}"

    @property
    def function(self) -> Any:
        """What is called: of a property, its getter."""
        if isinstance(self.raw, property):
            return self.raw.fget
        return self.raw.func if isinstance(self.raw, functools.cached_property) else self.raw


def namespace(module: Any) -> dict[str, Any]:
    """The names of a module, without having a lazy one load itself."""
    found = object.__getattribute__(module, "__dict__")
    return found if isinstance(found, dict) else {}


def is_ours(value: Any) -> bool:
    """Whether ``value``, or the function that a property calls, is wrapped by us."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return issubclass(type(value), Wrapper)


def find_matches(target: Target, module: Any, top: str | None = None) -> Iterator[Match]:
    """Find what ``target`` matches in ``module``, or in what the name ``top`` stands for there.

    Raises :class:`NotInstrumentable` for an exact name that is not there, or that stands for something that cannot be
    wrapped. A pattern passes over these.
    """
    names = namespace(module) if top is None else {top: namespace(module)[top]}
    if target.is_exact:
        yield _exact(module, target.qualname.split("."))
    else:
        yield from _matching(target, module, module, names, ())


# --- one name ---------------------------------------------------------------------------------------------------------


def _exact(module: Any, parts: list[str]) -> Match:
    try:
        return _found(module, parts)
    except (NotInstrumentable, KeyboardInterrupt):
        raise
    except BaseException as error:  # an object that raises whatever it is asked
        raise NotInstrumentable(f"looking at it raised {type(error).__name__}") from error


def _found(module: Any, parts: list[str]) -> Match:
    owner: Any = module
    shown = module.__name__
    for part in parts[:-1]:
        owner, _ = _look(owner, part, shown)
        shown = f"{shown}.{part}"
        if not isinstance(owner, type):
            kind = type(owner).__name__
            raise NotInstrumentable(f"{shown} is no class but an object of {kind}: name the method of its class")
    raw, is_inherited = _look(owner, parts[-1], shown)
    member = Match(owner, parts[-1], raw, is_inherited)
    why = _why_not(member, f"{shown}.{parts[-1]}")
    if why is not None:
        raise NotInstrumentable(why)
    return member


def _look(owner: Any, name: str, shown: str) -> tuple[Any, bool]:
    """What ``name`` stands for, without calling a descriptor, and whether a class inherits it."""
    places = [vars(cls) for cls in owner.__mro__] if isinstance(owner, type) else [namespace(owner)]
    for number, place in enumerate(places):
        if name in place:
            return place[name], number > 0
    near = nearest(name, {key for place in places for key in place})
    raise NotInstrumentable(f"{shown} has no {name!r}{near and '.' + near}")


def _why_not(member: Match, shown: str) -> str | None:
    owner, name, raw, is_inherited = member
    if isinstance(owner, type):
        if not owner.__flags__ & _HEAP_TYPE or owner.__flags__ & _IMMUTABLE:
            return f"{owner.__name__} is a type of Python itself or of an extension, whose methods cannot be replaced"
        if name in _BY_THE_INTERPRETER:
            return f"{shown} is called by the interpreter where no span can be made safely: name a method that it uses"
        if isinstance(raw, types.MemberDescriptorType | types.GetSetDescriptorType):
            return f"{shown} is a slot: it holds data, and is not called"
        if isinstance(raw, types.WrapperDescriptorType) and is_inherited:
            return f"{shown} is inherited from {raw.__objclass__.__name__}, and is no code of {owner.__name__}"
    return _why_not_callable(raw, shown)


def _why_not_callable(raw: Any, shown: str) -> str | None:
    if isinstance(raw, type):
        return f"{shown} is a class: name its methods, such as {raw.__name__}.__init__"
    if isinstance(raw, functools.partialmethod | functools.singledispatchmethod):
        return f"{shown} is a {type(raw).__name__}: name the method that it calls"
    if isinstance(raw, property | functools.cached_property):
        if type(raw) not in (property, functools.cached_property):
            return f"{shown} is a property of a kind of its own, {type(raw).__name__}: name a method that it calls"
        getter = raw.fget if isinstance(raw, property) else raw.func
        return None if callable(getter) else f"{shown} is a property without a getter"
    if getattr(getattr(raw, "__code__", None), "co_flags", 0) & _ITERABLE_COROUTINE:
        return f"{shown} is a generator made awaitable by types.coroutine: name what it calls, or make it async"
    if not callable(raw) and not isinstance(raw, staticmethod | classmethod):
        return f"{shown} is no function but an object of {type(raw).__name__}"
    return None


# --- patterns ---------------------------------------------------------------------------------------------------------


def _matching(
    target: Target, module: Any, owner: Any, names: Mapping[str, Any], parts: tuple[str, ...]
) -> Iterator[Match]:
    """Of the ``names`` of the module, or of a class in it that ``parts`` lead to."""
    wanted = target.qualname.split(".")
    pattern, is_last = wanted[len(parts)], len(wanted) == len(parts) + 1
    for name, raw in list(names.items()):
        if not isinstance(name, str) or not fits_part(pattern, name):
            continue
        here = (*parts, name)
        if is_last:
            member = Match(owner, name, raw)
            if _is_code(raw, module, bool(parts)) and target.wants_name(here) and _why_not(member, name) is None:
                yield member
        elif issubclass(type(raw), type) and raw.__module__ == module.__name__:
            yield from _matching(target, module, raw, vars(raw), here)


def _is_code(raw: Any, module: Any, in_class: bool) -> bool:
    """Whether a pattern means ``raw``: a function that the module, or a class of it, defines. Neither what it imports
    from elsewhere, nor properties, which are often as hot as attributes. Decided by type: to ask an object that the
    module merely holds may run anything."""
    if in_class and type(raw) in (staticmethod, classmethod):
        raw = raw.__func__
    if not issubclass(type(raw), _FUNCTIONS):
        return False
    return in_class or getattr(raw, "__module__", None) == module.__name__


# --- what is put there ------------------------------------------------------------------------------------------------


def through_super(member: Match, call: Any) -> Any:
    """For a method that a class inherits: the call goes on to what comes next in the order of the object's class, as
    it would without a method of the class's own. That may be another one than what was found here."""
    owner, name = member.owner, member.name
    if isinstance(member.raw, property | functools.cached_property | staticmethod):
        return call

    def on_call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if instance is not None:
            wrapped = getattr(super(owner, instance), name)
            if type(wrapped) is BoundWrapper and hasattr(wrapped._self_wrapper, "bare"):
                wrapped = wrapped.__wrapped__  # it has its span here
        return call(wrapped, instance, args, kwargs)

    return on_call


def replacement(member: Match, call: Any) -> Any:
    """What stands in the member's place from now on: of the same kind, with ``call`` around the function."""
    raw = member.raw
    if isinstance(raw, property):
        made: Any = property(Wrapper(raw.fget, call), raw.fset, raw.fdel, raw.__doc__)
        if hasattr(made, "__set_name__"):  # Python 3.13 and later: its errors name it
            made.__set_name__(member.owner, member.name)
        return made
    if isinstance(raw, functools.cached_property):
        made = functools.cached_property(Wrapper(raw.func, call))
        made.__set_name__(member.owner, raw.attrname or member.name)
        made.__doc__ = raw.__doc__
        return made
    return Wrapper(raw, call)
