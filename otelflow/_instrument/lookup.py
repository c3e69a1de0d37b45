"""Find the functions that a target names, in modules and classes, or the reason why one cannot be wrapped."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import wrapt

from otelflow._instrument.targets import Target, matches_part
from otelflow._runs.callable_kind import CACHE
from otelflow._runs.wrapper import BoundWrapper, Wrapper
from otelflow.errors import nearest

__all__ = [
    "Match",
    "NotInstrumentable",
    "call_through_super",
    "find_matches",
    "is_ours",
    "make_replacement",
    "namespace",
]

_CALLED_BY_INTERPRETER = (
    *("__new__", "__del__", "__init_subclass__", "__class_getitem__", "__set_name__", "__get__", "__set__"),
    *("__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__instancecheck__", "__subclasscheck__"),
    *("__hash__", "__eq__", "__repr__", "__str__"),
)
_IMMUTABLE, _HEAP_TYPE = 1 << 8, 1 << 9
"""Flags of a type: Py_TPFLAGS_IMMUTABLETYPE (Python 3.10 and later), Py_TPFLAGS_HEAPTYPE."""


_FUNCTIONS = (types.FunctionType, wrapt.FunctionWrapper, CACHE)
_ITERABLE_COROUTINE = inspect.CO_ITERABLE_COROUTINE


class NotInstrumentable(Exception):
    """A name cannot be instrumented. The message gives the reason."""


class Match(NamedTuple):
    """A name in a module or class, with its value."""

    owner: Any
    name: str
    raw: Any
    """The value in the ``__dict__`` of the owner, or of the class that it inherits from."""
    is_inherited: bool = False

    @property
    def module(self) -> str:
        """Name of the owner's module, or of the owner if it is a module."""
        return str(self.owner.__name__ if isinstance(self.owner, types.ModuleType) else self.owner.__module__)

    @property
    def full_name(self) -> str:
        """The name as ``module:qualname``."""
        owner = self.owner
        if isinstance(owner, types.ModuleType):
            return f"{owner.__name__}:{self.name}"
        return f"{owner.__module__}:{owner.__qualname__}.{self.name}"

    @property
    def function(self) -> Any:
        """The function that is called: the getter of a property."""
        if isinstance(self.raw, property):
            return self.raw.fget
        return self.raw.func if isinstance(self.raw, functools.cached_property) else self.raw


def namespace(module: Any) -> dict[str, Any]:
    """Return the names of a module. A lazy module is not loaded by this."""
    names = object.__getattribute__(module, "__dict__")
    return names if isinstance(names, dict) else {}


def is_ours(value: Any) -> bool:
    """Return whether otelflow wrapped ``value``, or the function that a property calls."""
    if isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return issubclass(type(value), Wrapper)


def find_matches(target: Target, module: Any, top_name: str | None = None) -> Iterator[Match]:
    """Yield what ``target`` matches in ``module``, or only below its name ``top_name``.

    Raises :class:`NotInstrumentable` for an exact name that does not exist or cannot be wrapped. A pattern skips such
    names.
    """
    names = namespace(module) if top_name is None else {top_name: namespace(module)[top_name]}
    if target.is_exact:
        yield _exact_match(module, target.qualname.split("."))
    else:
        yield from _pattern_matches(target, module, module, names, ())


# --- exact names ------------------------------------------------------------------------------------------------------


def _exact_match(module: Any, parts: list[str]) -> Match:
    try:
        return _resolve(module, parts)
    except (NotInstrumentable, KeyboardInterrupt):
        raise
    except BaseException as error:  # some objects raise on any attribute access
        raise NotInstrumentable(f"reading it raised {type(error).__name__}") from error


def _resolve(module: Any, parts: list[str]) -> Match:
    owner: Any = module
    path = module.__name__
    for part in parts[:-1]:
        owner, _ = _find_name(owner, part, path)
        path = f"{path}.{part}"
        if not isinstance(owner, type):
            kind = type(owner).__name__
            raise NotInstrumentable(f"{path} is not a class but an object of type {kind}: name the method of its class")
    raw, is_inherited = _find_name(owner, parts[-1], path)
    match = Match(owner, parts[-1], raw, is_inherited)
    reason = _refusal(match, f"{path}.{parts[-1]}")
    if reason is not None:
        raise NotInstrumentable(reason)
    return match


def _find_name(owner: Any, name: str, path: str) -> tuple[Any, bool]:
    """Return the value of ``name``, and whether a class inherits it. Descriptors are not called."""
    namespaces = [vars(cls) for cls in owner.__mro__] if isinstance(owner, type) else [namespace(owner)]
    for number, names in enumerate(namespaces):
        if name in names:
            return names[name], number > 0
    hint = nearest(name, {key for names in namespaces for key in names})
    raise NotInstrumentable(f"{path} has no {name!r}{hint and '.' + hint}")


def _refusal(match: Match, path: str) -> str | None:
    owner, name, raw, is_inherited = match
    if isinstance(owner, type):
        if not owner.__flags__ & _HEAP_TYPE or owner.__flags__ & _IMMUTABLE:
            return f"{owner.__name__} is a built-in or extension type; its methods cannot be replaced"
        if name in _CALLED_BY_INTERPRETER:
            return f"{path} is called by the interpreter, where a span is not safe: name a method that it calls"
        if isinstance(raw, types.MemberDescriptorType | types.GetSetDescriptorType):
            return f"{path} is a slot: it holds data and cannot be called"
        if isinstance(raw, types.WrapperDescriptorType) and is_inherited:
            return f"{path} is inherited from {raw.__objclass__.__name__}; {owner.__name__} does not define it"
    return _callable_refusal(raw, path)


def _callable_refusal(raw: Any, path: str) -> str | None:
    if isinstance(raw, type):
        return f"{path} is a class: name its methods, such as {raw.__name__}.__init__"
    if isinstance(raw, functools.partialmethod | functools.singledispatchmethod):
        return f"{path} is a {type(raw).__name__}: name the method that it calls"
    if isinstance(raw, property | functools.cached_property):
        if type(raw) not in (property, functools.cached_property):
            return f"{path} is a custom property of type {type(raw).__name__}: name a method that it calls"
        getter = raw.fget if isinstance(raw, property) else raw.func
        return None if callable(getter) else f"{path} is a property without a getter"
    if getattr(getattr(raw, "__code__", None), "co_flags", 0) & _ITERABLE_COROUTINE:
        return f"{path} is a generator decorated with types.coroutine: name a function that it calls, or use async def"
    if not callable(raw) and not isinstance(raw, staticmethod | classmethod):
        return f"{path} is not a function but an object of type {type(raw).__name__}"
    return None


# --- patterns ---------------------------------------------------------------------------------------------------------


def _pattern_matches(
    target: Target, module: Any, owner: Any, names: Mapping[str, Any], parts: tuple[str, ...]
) -> Iterator[Match]:
    """Yield the matches among ``names``: those of the module, or of the class in it at the path ``parts``."""
    patterns = target.qualname.split(".")
    pattern, is_last = patterns[len(parts)], len(patterns) == len(parts) + 1
    for name, raw in list(names.items()):
        if not isinstance(name, str) or not matches_part(pattern, name):
            continue
        name_parts = (*parts, name)
        if is_last:
            match = Match(owner, name, raw)
            if (
                _is_defined_here(raw, module, bool(parts))
                and target.matches_name(name_parts)
                and _refusal(match, name) is None
            ):
                yield match
        elif issubclass(type(raw), type) and raw.__module__ == module.__name__:
            yield from _pattern_matches(target, module, raw, vars(raw), name_parts)


def _is_defined_here(raw: Any, module: Any, in_class: bool) -> bool:
    """Return whether ``raw`` is a function that the module, or a class of it, defines.

    Patterns skip imported functions. They also skip properties, which are often called as frequently as attributes.
    Only the type decides: reading an attribute of an arbitrary object may run any code.
    """
    if in_class and type(raw) in (staticmethod, classmethod):
        raw = raw.__func__
    if not issubclass(type(raw), _FUNCTIONS):
        return False
    return in_class or getattr(raw, "__module__", None) == module.__name__


# --- replacements -----------------------------------------------------------------------------------------------------


def call_through_super(match: Match, call: Any) -> Any:
    """Return a call for an inherited method: it calls the next method in the MRO of the object's class.

    Without a wrapper on this class, Python would do the same. The next method may differ from the one that was found.
    """
    owner, name = match.owner, match.name
    if isinstance(match.raw, property | functools.cached_property | staticmethod):
        return call

    def on_call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if instance is not None:
            wrapped = getattr(super(owner, instance), name)
            if type(wrapped) is BoundWrapper and hasattr(wrapped._self_wrapper, "original"):
                wrapped = wrapped.__wrapped__  # this call already makes the span
        return call(wrapped, instance, args, kwargs)

    return on_call


def make_replacement(match: Match, call: Any) -> Any:
    """Return the replacement for a match: the same kind of object, with ``call`` around the function."""
    raw = match.raw
    if isinstance(raw, property):
        descriptor: Any = property(Wrapper(raw.fget, call), raw.fset, raw.fdel, raw.__doc__)
        if hasattr(descriptor, "__set_name__"):  # Python 3.13 and later: error messages contain the name
            descriptor.__set_name__(match.owner, match.name)
        return descriptor
    if isinstance(raw, functools.cached_property):
        descriptor = functools.cached_property(Wrapper(raw.func, call))
        descriptor.__set_name__(match.owner, raw.attrname or match.name)
        descriptor.__doc__ = raw.__doc__
        return descriptor
    return Wrapper(raw, call)
